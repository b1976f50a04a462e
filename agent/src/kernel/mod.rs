// SPDX-License-Identifier: GPL-2.0-only
//! The module's other half: its memory, its rings, and a thread for each queue.
//!
//! Before: the module, by shared memory and [`control_device`]. After: [`crate::volume`], for data
//! by its pipeline, for commands by its volumes.
//!
//! In the order in which a request passes: [`session`] (how it all begins), [`mapping`] (channels
//! and doorbells), [`bell`] (how a worker is woken), [`worker`] (one turn after the other),
//! [`queue`] (submissions and completions of one device), [`transfer`] (a submission, checked),
//! `requests` (what waits for a server), and back. `polling` says when a worker looks instead of
//! sleeping; [`tags`] and [`counters`] are what others see of it. Beside: [`control_channel`] takes
//! what is asked beside data, `commands` does it, [`devices`] come and go, [`office`] holds what
//! these work with.
//!
//! # Who owns what
//! A data worker's thread owns its queues, their rings and windows, and the requests under way. The
//! main thread owns the control channel, the devices and the office. All share the session and each
//! [`device::Device`]; counters and tags have one writer, the worker of their queue.
//!
//! # Locks
//! None on the way of a request. [`devices`] opens and closes one at a time.
//!
//! # Errors
//! [`ended::Ended`]: the session is over, and shared memory must not be touched any more. What a
//! request fails with is a number in its completion.

pub mod bell;
mod commands;
pub mod control_channel;
pub mod control_device;
pub mod counters;
pub mod device;
pub mod devices;
pub mod ended;
pub mod mapping;
pub mod office;
mod polling;
pub mod queue;
mod requests;
pub mod session;
pub mod tags;
pub mod transfer;
pub mod worker;
