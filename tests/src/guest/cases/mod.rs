// SPDX-License-Identifier: GPL-2.0-only
//! The tests themselves, a file for each thing that users rely on.

pub mod faults;
mod frame;
mod io;
mod manual;
mod stack;

pub use io::hostile_program;

use super::Case;

/// All tests.
#[must_use]
pub fn all() -> Vec<Case> {
    let all = [frame::cases(), io::cases(), manual::cases(), stack::cases(), faults::cases()];
    all.into_iter().flatten().collect()
}
