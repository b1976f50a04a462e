// SPDX-License-Identifier: GPL-2.0-only
//! Orders memory between processors.

use kernel::{bindings, prelude::*, sync::atomic::Atomic};

extern "C" {
    /// `helpers.c`: a locked instruction between two barriers.
    fn srb_set_bit(bit: c_uint, word: *mut u64);
}

/// A full memory barrier.
pub(crate) fn smp_mb() {
    // SAFETY: Has no preconditions.
    unsafe { bindings::smp_mb() };
}

/// Sets a bit of a word that others change at the same time, as a full barrier on both sides.
pub(crate) fn set_bit_full(bit: u32, word: &Atomic<u64>) {
    // SAFETY: A live word that everybody changes atomically, and a bit within it.
    unsafe { srb_set_bit(bit % u64::BITS, word.as_ptr()) };
}

/// Waits for an RCU grace period.
pub(crate) fn synchronize_rcu() {
    // SAFETY: Process context, no lock held but mutexes.
    unsafe { bindings::synchronize_rcu() };
}

/// Waits for an RCU grace period, at the cost of interrupting the processors: for what holds up
/// requests.
pub(crate) fn synchronize_rcu_expedited() {
    // SAFETY: Process context, no lock held but mutexes.
    unsafe { bindings::synchronize_rcu_expedited() };
}
