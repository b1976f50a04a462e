// SPDX-License-Identifier: GPL-2.0-only
//! The agent of srb: takes requests from the kernel module's rings and carries them out on a REST
//! repository.
//!
//! Layers, each a folder that imports from those below it alone (`cargo xtask layers`):
//!
//! - [`agent`], [`standby`], [`parting`]: how an agent starts, waits for its turn, and ends; the
//!   one place where the layers are wired. Above them, for tests, `sim`: the simulated module.
//! - [`status`]: what others may know.
//! - [`kernel`]: the module's other half, a thread for each queue.
//! - [`volume`]: what becomes of a request before it goes to a store.
//! - `store`: where volumes live.
//! - [`paths`]: the URLs of one repository, and a request's way through them.
//! - `http`: HTTP/1.1 on a connection.
//! - [`process`]: memory, log, rights, configuration. [`base`]: what all speak of.

#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::indexing_slicing
    )
)]

pub mod agent;
pub mod base;
mod http;
pub mod kernel;
pub mod parting;
pub mod paths;
pub mod process;
#[cfg(feature = "sim")]
pub mod sim;
pub mod standby;
pub mod status;
mod store;
pub mod volume;
