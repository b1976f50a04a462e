// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Which channels have something to say, and whether somebody must be woken for it.
//!
//! A worker serves one queue of many devices. Each of its channels has one bit in a [`ReadySet`];
//! whoever publishes on a channel sets the bit, the receiver takes all bits at once, so that
//! finding work costs the same with one device as with 4,096. [`Sleeper`] lets the producer leave
//! out the wake-up while the receiver is awake.
//!
//! # Memory order
//! Both are Dekker's pattern: each side writes its own word, passes a full barrier, then reads the
//! other's. At least one of the two sees what the other wrote.
//! - publish, **fence**, read bit / take bit (a full barrier), read tail: a producer that finds its
//!   bit still set may leave it, for the receiver takes the bit later and then sees the entry.
//! - set bit (full), read summary / take summary (full), take bits: a bit is never set under a
//!   summary that nobody looks at again.
//! - set bit (full), read `sleeping` / set `sleeping`, **fence**, read summary: no wake-up is lost.
//!
//! docs/ring.md argues each of the three step by step, `tests/loom.rs` checks them.

use super::atomic::Word;

/// Bits in a word.
const BITS: usize = 64;
/// Words below the summary; so many because the summary has a bit for each.
pub const WORDS: usize = 64;
/// How many members a set can have.
pub const CAPACITY: usize = BITS * WORDS;

/// A set of channel indices below [`CAPACITY`] with one taker. Each index has one inserter at a
/// time.
///
/// ```
/// use srb_proto::doorbell::{ReadySet, Sleeper};
/// use std::sync::atomic::AtomicU64;
///
/// let words = [const { AtomicU64::new(0) }; 66];
/// let (set, sleeper) = (ReadySet::new(&words[0], &words[1..65]), Sleeper::new(&words[65]));
///
/// // The receiver has nothing to do, and sleeps; somebody publishes on channel 70.
/// assert!(sleeper.prepare(&set));
/// set.insert(70);
/// assert!(sleeper.must_wake(), "once for each sleep");
/// assert!(!sleeper.must_wake());
///
/// let mut ready = Vec::new();
/// set.take(|channel| ready.push(channel));
/// assert_eq!(ready, [70]);
/// ```
#[derive(Debug)]
pub struct ReadySet<'a, W> {
    summary: &'a W,
    words: &'a [W],
}

impl<W> Clone for ReadySet<'_, W> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<W> Copy for ReadySet<'_, W> {}

impl<'a, W: Word> ReadySet<'a, W> {
    /// A set over a summary word and up to [`WORDS`] words of bits, all zero at first.
    #[must_use]
    pub const fn new(summary: &'a W, words: &'a [W]) -> Self {
        Self { summary, words }
    }

    /// Adds `index`, after what it announces was published. An index out of range does nothing.
    pub fn insert(&self, index: usize) {
        let (at, bit) = (index / BITS, 1u64 << (index % BITS));
        let Some(word) = self.words.get(at) else {
            return;
        };
        // ORDERING: full, between the publication and the look at the bit; pairs with the swap in
        // `take`.
        W::fence_full();
        if word.load_relaxed() & bit != 0 {
            return;
        }
        word.or_full(bit);
        // ORDERING: the full barrier of fetch_or stands between the bit and the look at the
        // summary.
        let summary_bit = 1u64 << (at % BITS);
        if self.summary.load_relaxed() & summary_bit == 0 {
            self.summary.or_full(summary_bit);
        }
    }

    /// Takes all members out and visits each; their channels must be read after this, not before,
    /// and to the end: nobody announces a second time what was published before.
    pub fn take(&self, mut visit: impl FnMut(usize)) {
        // ORDERING: the swaps are full barriers; pair with the fences in `insert`.
        let mut summary = if self.is_empty() { 0 } else { self.summary.swap_full(0) };
        while summary != 0 {
            let at = summary.trailing_zeros() as usize;
            summary &= summary.wrapping_sub(1);
            let mut bits = self.words.get(at).map_or(0, |word| word.swap_full(0));
            while bits != 0 {
                visit(at.wrapping_mul(BITS).wrapping_add(bits.trailing_zeros() as usize));
                bits &= bits.wrapping_sub(1);
            }
        }
    }

    /// Whether nothing is there to take, now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.summary.load_relaxed() == 0
    }
}

/// Whether the receiver sleeps, so that producers know whether to wake it.
#[derive(Debug)]
pub struct Sleeper<'a, W> {
    sleeping: &'a W,
}

impl<'a, W: Word> Sleeper<'a, W> {
    /// A flag word, zero at first.
    #[must_use]
    pub const fn new(sleeping: &'a W) -> Self {
        Self { sleeping }
    }

    /// For the receiver: says that it goes to sleep. True if it may; false if `work` has come
    /// meanwhile.
    pub fn prepare(&self, work: &ReadySet<'_, W>) -> bool {
        self.sleeping.store_relaxed(1);
        // ORDERING: full, between the flag and the look at the work; pairs with `must_wake`.
        W::fence_full();
        if work.is_empty() {
            return true;
        }
        self.awake();
        false
    }

    /// For a waiter on the receiver's behalf: whether it sleeps and nobody has come to wake it.
    ///
    /// A waiter that was woken must return to the receiver even if it finds no work: the flag is
    /// cleared, so nobody would wake it a second time.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.sleeping.load_relaxed() != 0
    }

    /// For the receiver: says that it is awake, and needs no wake-up for work that comes from now
    /// on.
    pub fn awake(&self) {
        self.sleeping.store_relaxed(0);
    }

    /// For a producer, after [`ReadySet::insert`]: whether the receiver must be woken. True once
    /// for each sleep.
    pub fn must_wake(&self) -> bool {
        // ORDERING: full, between the insertion (which may have found its bit set) and the look at
        // the flag.
        W::fence_full();
        self.sleeping.load_relaxed() != 0 && self.sleeping.swap_full(0) != 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    extern crate std;

    struct Memory {
        summary: AtomicU64,
        words: Vec<AtomicU64>,
    }

    impl Memory {
        fn new() -> Self {
            Self {
                summary: AtomicU64::new(0),
                words: (0..WORDS).map(|_| AtomicU64::new(0)).collect(),
            }
        }
        fn set(&self) -> ReadySet<'_, AtomicU64> {
            ReadySet::new(&self.summary, &self.words)
        }
        fn take(&self) -> Vec<usize> {
            let mut all = Vec::new();
            self.set().take(|index| all.push(index));
            all
        }
    }

    #[test]
    fn an_index_out_of_range_is_ignored() {
        let memory = Memory::new();
        memory.set().insert(CAPACITY);
        memory.set().insert(usize::MAX);
        assert!(memory.set().is_empty());
        memory.set().insert(CAPACITY - 1);
        assert_eq!(memory.take(), [CAPACITY - 1]);
    }

    #[test]
    fn a_summary_bit_without_members_is_harmless() {
        let memory = Memory::new();
        memory.summary.store_relaxed(u64::MAX);
        assert_eq!(memory.take(), []);
        let few = ReadySet::new(&memory.summary, &memory.words[..1]);
        memory.summary.store_relaxed(u64::MAX);
        few.take(|index| panic!("{index}"));
    }

    #[test]
    fn a_sleeper_is_woken_once_and_does_not_sleep_over_work() {
        let (memory, flag) = (Memory::new(), AtomicU64::new(0));
        let sleeper = Sleeper::new(&flag);
        assert!(!sleeper.must_wake() && !sleeper.is_asleep());
        assert!(sleeper.prepare(&memory.set()) && sleeper.is_asleep());
        assert!(sleeper.must_wake());
        assert!(!sleeper.must_wake() && !sleeper.is_asleep());
        assert!(sleeper.prepare(&memory.set()));
        sleeper.awake();
        assert!(!sleeper.must_wake(), "it woke by itself");
        memory.set().insert(3);
        assert!(!sleeper.prepare(&memory.set()));
        assert!(!sleeper.must_wake());
    }

    proptest! {
        #[test]
        fn behaves_as_a_set(steps in proptest::collection::vec(0..CAPACITY + 100, 0..300)) {
            let (memory, mut model) = (Memory::new(), BTreeSet::new());
            for step in steps {
                if step < CAPACITY {
                    memory.set().insert(step);
                    model.insert(step);
                    prop_assert!(!memory.set().is_empty());
                } else {
                    let expected: Vec<_> = std::mem::take(&mut model).into_iter().collect();
                    prop_assert_eq!(memory.take(), expected);
                    prop_assert!(memory.set().is_empty());
                }
            }
        }
    }
}
