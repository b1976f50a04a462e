// SPDX-License-Identifier: GPL-2.0-only
//! The benchmark: srb and its peers, each under the same jobs, in one boot of a VM whose clock
//! counts instructions.
//!
//! [`guest`] runs inside and prints a [`Record`] a line; [`report`] turns them, outside, into
//! ratios, a table, a chart and a comparison with the recorded figures. `scripts/bench.sh` joins
//! the two. [`native`] measures what needs no kernel, on the machine itself. docs/performance.md
//! says what the figures mean.

use serde::{Deserialize, Serialize};

mod chart;
mod contenders;
mod footprint;
pub mod goals;
pub mod guest;
pub mod jobs;
pub mod native;
mod profile;
pub mod report;
mod resume;
mod server;

/// A measured number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What was measured: lower case, with its unit last unless it is a ratio.
    pub name: String,
    /// The number.
    pub value: f64,
    /// Its unit; `ratio` for none.
    pub unit: String,
}

impl Figure {
    /// A figure of this name.
    #[must_use]
    pub fn new(name: impl Into<String>, value: f64, unit: &str) -> Self {
        Self { name: name.into(), value, unit: unit.to_owned() }
    }
}

/// What the guest tells the host, one on a line of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Record {
    /// A number.
    Figure(Figure),
    /// A number, or all of a contender's, that could not be measured.
    Missing {
        /// Whose.
        name: String,
        /// Why.
        reason: String,
    },
    /// What was measured.
    Version {
        /// The program.
        name: String,
        /// As it names its version.
        version: String,
    },
}
