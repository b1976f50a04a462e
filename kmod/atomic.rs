// SPDX-License-Identifier: GPL-2.0-only
//! proto's word on the kernel's own atomics, whose memory model is the one that holds here.

use crate::proto::atomic::Word;
use kernel::sync::atomic::{Acquire, Atomic, Full, Relaxed, Release};

/// A word that the agent may change at any time.
#[repr(transparent)]
pub(crate) struct SharedWord(Atomic<u64>);

impl Word for SharedWord {
    fn load_relaxed(&self) -> u64 {
        self.0.load(Relaxed)
    }
    fn load_acquire(&self) -> u64 {
        self.0.load(Acquire)
    }
    fn store_relaxed(&self, value: u64) {
        self.0.store(value, Relaxed);
    }
    fn store_release(&self, value: u64) {
        self.0.store(value, Release);
    }
    fn swap_full(&self, value: u64) -> u64 {
        self.0.xchg(value, Full)
    }
    fn or_full(&self, bits: u64) {
        // One locked instruction for each bit, and no loop that a hostile agent could keep going.
        for bit in (0..u64::BITS).filter(|bit| bits & 1 << bit != 0) {
            crate::ffi::barrier::set_bit_full(bit, &self.0);
        }
    }
    fn fence_full() {
        crate::ffi::barrier::smp_mb();
    }
}
