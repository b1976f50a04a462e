// SPDX-License-Identifier: GPL-2.0-only
//! The server seen through its socket: raw HTTP in, raw HTTP out.
#![expect(clippy::unwrap_used, reason = "a test ends there")]

mod client;
mod command;
mod connections;
mod fault_control;
mod faults;
mod names;
mod protocol;
mod quirks;
mod ranges;
mod uploads;
