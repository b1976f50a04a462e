// SPDX-License-Identifier: GPL-2.0-only
//! What this process is to the system: its configuration, memory, log, rights and supervisor.
//!
//! Before: `main`, once at the start. After: nothing of it stands on the way of a request.
//!
//! # Errors
//! A configuration that is not understood ends the agent. What the system refuses otherwise
//! (locking memory, a priority) is logged, and the agent goes on without.

pub mod config;
pub mod logging;
pub mod memory;
pub mod notify;
pub mod rights;
