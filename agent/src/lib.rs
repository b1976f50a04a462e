// SPDX-License-Identifier: GPL-2.0-only
//! The agent of srb: takes requests from the kernel module's rings and carries them out on a REST
//! repository.
//!
//! The ring half, in the order in which a request passes: [`session`] and [`mapping`] (the module's
//! memory), [`worker`] (a thread for each queue), [`queue`] (submissions and completions of one
//! device). Then the REST half: [`volume`], [`paths`], `http`. Beside the path:
//! [`control_channel`] and [`device`] (what the module asks beside data), [`control`] (the status
//! socket), [`agent`] (how all of it starts and ends), [`standby`] (how it waits for its turn).

#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::indexing_slicing
    )
)]

pub mod agent;
mod chance;
pub mod clock;
pub mod config;
pub mod control;
pub mod control_channel;
pub mod counters;
pub mod device;
pub mod errors;
pub mod exposition;
pub mod failures;
mod http;
pub mod inflight;
pub mod logging;
pub mod mapping;
pub mod memory;
pub mod notify;
pub mod parting;
pub mod paths;
mod polling;
pub mod queue;
mod requests;
pub mod rights;
pub mod session;
pub mod settings;
#[cfg(feature = "sim")]
pub mod sim;
pub mod standby;
mod store;
pub mod tags;
pub mod tuning;
pub mod volume;
pub mod window;
pub mod worker;
