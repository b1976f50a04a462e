// SPDX-License-Identifier: GPL-2.0-only
//! What all layers speak of: nothing in here imports anything but its own kind.
//!
//! [`window`] (the memory of a request), [`errors`] (what can go wrong, in one table), [`failures`]
//! (the last of them, for whoever asks), [`settings`] (what the module says) and [`tuning`] (what
//! the configuration file says) of limits, [`clock`] and `chance`.
//!
//! # Locks
//! That of the failures, taken for failures alone.

pub(crate) mod chance;
pub mod clock;
pub mod errors;
pub mod failures;
pub mod settings;
pub mod tuning;
pub mod window;
