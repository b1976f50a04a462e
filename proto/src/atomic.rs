// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The one kind of memory access that the shared algorithms use.
//!
//! The ring and the doorbell are written against [`Word`], so that the same text runs on `core`
//! atomics in the agent, on the kernel's own atomics in the module (the kernel has a memory model
//! of its own, and only its primitives are defined in it) and on loom's in the model checker.

/// A 64-bit word of memory that two parties share.
///
/// An implementation maps each method to an access at least as strong as its name says.
pub trait Word {
    /// Reads without ordering.
    fn load_relaxed(&self) -> u64;
    /// Reads; later accesses stay behind it.
    fn load_acquire(&self) -> u64;
    /// Writes without ordering.
    fn store_relaxed(&self, value: u64);
    /// Writes; earlier accesses stay before it.
    fn store_release(&self, value: u64);
    /// Replaces the value and returns the old one, as a full barrier on both sides.
    fn swap_full(&self, value: u64) -> u64;
    /// Sets bits, as a full barrier on both sides.
    fn or_full(&self, bits: u64);
    /// A full barrier: sequentially consistent with every other one.
    fn fence_full();
}

#[cfg(not(MODULE))]
mod on_core {
    use core::sync::atomic::{compiler_fence, fence, AtomicU64, Ordering};

    /// What a sequentially consistent read-modify-write lacks to be a full barrier: by itself it
    /// lets a later load, if that is not sequentially consistent too, overtake its store.
    /// x86's locked instructions let nothing pass, so there it is enough to hold the compiler.
    fn beside_a_locked_instruction() {
        if cfg!(target_arch = "x86_64") {
            compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
    }

    impl super::Word for AtomicU64 {
        fn load_relaxed(&self) -> u64 {
            self.load(Ordering::Relaxed)
        }
        fn load_acquire(&self) -> u64 {
            self.load(Ordering::Acquire)
        }
        fn store_relaxed(&self, value: u64) {
            self.store(value, Ordering::Relaxed);
        }
        fn store_release(&self, value: u64) {
            self.store(value, Ordering::Release);
        }
        fn swap_full(&self, value: u64) -> u64 {
            beside_a_locked_instruction();
            let old = self.swap(value, Ordering::SeqCst);
            beside_a_locked_instruction();
            old
        }
        fn or_full(&self, bits: u64) {
            beside_a_locked_instruction();
            self.fetch_or(bits, Ordering::SeqCst);
            beside_a_locked_instruction();
        }
        fn fence_full() {
            fence(Ordering::SeqCst);
        }
    }
}
