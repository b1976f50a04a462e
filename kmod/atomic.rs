// SPDX-License-Identifier: GPL-2.0-only
//! proto's word on the kernel's own atomics, whose memory model is the one that holds here.

use crate::proto::atomic::Word;
use kernel::sync::{
    atomic::{Acquire, Atomic, Full, Relaxed, Release},
    barrier::{self, smp_mb},
};

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
    fn fetch_or_full(&self, bits: u64) -> u64 {
        // The kernel's Rust atomics have no fetch_or. A hostile agent can make a round fail, so
        // rounds are bounded; after the last one the bits are set at the price of those that the
        // agent has just changed itself.
        let mut old = self.0.load(Relaxed);
        for _ in 0..64 {
            match self.0.cmpxchg(old, old | bits, Full) {
                Ok(old) => return old,
                Err(now) => old = now,
            }
        }
        self.0.xchg(old | bits, Full)
    }
    fn fence_full() {
        smp_mb(barrier::Full);
    }
}
