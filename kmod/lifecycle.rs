// SPDX-License-Identifier: GPL-2.0-only
//! The outermost lock: sessions begin and end, and devices come and go, one after the other.
//!
//! So each of them sees every device linked to the session that is there, and none to one that is
//! not. What does it takes the guard as an argument. Nobody waits for an agent while holding it.

use crate::ffi::noio::recovery_mutex;

recovery_mutex! {
    mutex: LIFECYCLE of () = (), guard pub(crate) LifecycleGuard
}
pub(crate) use mutex::{init, lock, LifecycleGuard};
