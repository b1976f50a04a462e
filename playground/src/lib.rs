// SPDX-License-Identifier: GPL-2.0-only
//! A REST server for trying, testing and breaking srb: CDMI over HTTP/1.1, volumes as sparse files.
//!
//! A request passes, in order: `server` (accept, limits, shutdown) → `connection` (one task per
//! connection) → `faults` (what goes wrong on purpose, if anything is to) → `routes` (which
//! operation) → `reading` or `writing` (HTTP meaning of it) → `store` (files). The protocol, and
//! each decision taken where it leaves a choice, is in this crate's `README.md`; faults are in
//! `docs/faults.md`.
//!
//! Tests start it in their own process:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use srb_playground::{Config, Playground};
//!
//! let folder = tempfile::tempdir()?;
//! let playground = Playground::start(Config::ephemeral(folder.path()))?;
//! assert!(playground.url().starts_with("http://127.0.0.1:"));
//! playground.shutdown();
//! # Ok(())
//! # }
//! ```

mod answer;
mod body;
mod cache;
pub mod command_line;
mod config;
mod connection;
mod faults;
mod name;
mod piece;
mod put;
mod quirks;
mod range;
mod reading;
mod routes;
mod server;
mod store;
mod target;
mod upload;
mod volume;
mod writing;

pub use config::{Config, Limits};
pub use faults::plan::{Plan, PlanError};
pub use faults::rule::{Kind, Rule, Scope};
pub use faults::{Faults, Report, RuleReport};
pub use quirks::{Quirk, QuirkError, Quirks};
pub use server::{Playground, StartError};
pub use target::PrefixError;
