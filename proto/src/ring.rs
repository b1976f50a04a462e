// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A single-producer, single-consumer ring of fixed-size entries in shared memory.
//!
//! A tag is the credit for one entry: at most `depth` requests are in flight, and the ring has at
//! least as many entries, so a producer that only sends entries for tags it holds never meets a
//! full ring. That is why no consumer index lies in shared memory: nobody would read it. A producer
//! that breaks the rule overwrites its own entries, and the consumer notices at the next look
//! ([`Overrun`]).
//!
//! # Invariants
//! - Indices count entries since the ring was made and wrap at 2^64; an entry's place is its index
//!   modulo the capacity, a power of two.
//! - Each side keeps its own index in private memory and never reads it back from the shared one.
//!
//! # Memory order
//! `Producer::publish` stores the tail with release, after the entries' relaxed stores;
//! `Consumer::pop` loads the tail with acquire before it loads entries. A place is written again
//! only after its entry's tag came back through the opposite ring, whose own release and acquire
//! order the consumer's loads before the new stores. docs/ring.md argues both step by step,
//! `tests/loom.rs` checks them.

use super::atomic::Word;

/// The shared half of a ring: its tail index and its entries, `N` words each.
///
/// The two sides have it mapped, and each an index of its own:
///
/// ```
/// use srb_proto::ring::{Consumer, Producer, Shared};
/// use std::sync::atomic::AtomicU64;
///
/// // Four entries of two words, zeroed, as the kernel makes them.
/// let (tail, entries) = (AtomicU64::new(0), [const { AtomicU64::new(0) }; 8]);
/// let ring = Shared::<_, 2>::new(&tail, &entries).expect("a power of two of entries");
/// let (mut producer, mut consumer) = (Producer::new(), Consumer::new());
///
/// producer.push(&ring, &[7, 8]);
/// assert_eq!(consumer.pop(&ring), Ok(None), "nothing is published");
/// producer.publish(&ring);
/// assert_eq!(consumer.pop(&ring), Ok(Some([7, 8])));
/// ```
#[derive(Debug)]
pub struct Shared<'a, W, const N: usize> {
    tail: &'a W,
    entries: &'a [W],
}

impl<W, const N: usize> Clone for Shared<'_, W, N> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<W, const N: usize> Copy for Shared<'_, W, N> {}

impl<'a, W: Word, const N: usize> Shared<'a, W, N> {
    /// Joins a tail index to its entries; `None` unless `entries` holds a power of two of entries.
    #[must_use]
    pub fn new(tail: &'a W, entries: &'a [W]) -> Option<Self> {
        let capacity = entries.len().checked_div(N)?;
        let exact = capacity.checked_mul(N) == Some(entries.len());
        (exact && capacity.is_power_of_two()).then_some(Self { tail, entries })
    }

    #[cfg_attr(
        not(MODULE),
        expect(clippy::arithmetic_side_effects, reason = "`new` refuses N = 0")
    )]
    fn capacity(&self) -> u64 {
        (self.entries.len() / N) as u64
    }

    #[cfg_attr(
        not(MODULE),
        expect(clippy::cast_possible_truncation, reason = "below the capacity, a usize")
    )]
    fn entry(&self, index: u64) -> &'a [W] {
        let place = (index & self.capacity().wrapping_sub(1)) as usize;
        let start = place.wrapping_mul(N);
        self.entries.get(start..start.wrapping_add(N)).unwrap_or(&[])
    }
}

/// The sending side. Private to the one thread, or the holders of the one lock, that send.
#[derive(Debug, Default)]
pub struct Producer<const N: usize> {
    tail: u64,
}

impl<const N: usize> Producer<N> {
    /// A producer for a ring that has just been zeroed.
    #[must_use]
    pub const fn new() -> Self {
        Self { tail: 0 }
    }

    /// Writes one entry; the consumer sees it after [`Self::publish`].
    pub fn push<W: Word>(&mut self, ring: &Shared<'_, W, N>, entry: &[u64; N]) {
        for (word, value) in ring.entry(self.tail).iter().zip(entry) {
            word.store_relaxed(*value);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Lets the consumer see every entry pushed so far.
    pub fn publish<W: Word>(&self, ring: &Shared<'_, W, N>) {
        // ORDERING: release, pairs with the acquire in `Consumer::pop`.
        ring.tail.store_release(self.tail);
    }
}

/// The producer claims more entries than the ring holds: it is broken or hostile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrun;

/// The receiving side. Private to the one thread, or the holders of the one lock, that receive.
#[derive(Debug, Default)]
pub struct Consumer<const N: usize> {
    head: u64,
    /// The tail as last seen: the shared word is read only when this one is used up.
    seen: u64,
}

impl<const N: usize> Consumer<N> {
    /// A consumer for a ring that has just been zeroed.
    #[must_use]
    pub const fn new() -> Self {
        Self { head: 0, seen: 0 }
    }

    /// Takes the next entry, a private copy.
    ///
    /// # Errors
    /// [`Overrun`]; the ring must not be used any more.
    pub fn pop<W: Word>(&mut self, ring: &Shared<'_, W, N>) -> Result<Option<[u64; N]>, Overrun> {
        if self.head == self.seen {
            // ORDERING: acquire, pairs with the release in `Producer::publish`.
            let tail = ring.tail.load_acquire();
            if tail.wrapping_sub(self.head) > ring.capacity() {
                return Err(Overrun);
            }
            self.seen = tail;
            if self.head == tail {
                return Ok(None);
            }
        }
        let mut entry = [0; N];
        for (value, word) in entry.iter_mut().zip(ring.entry(self.head)) {
            *value = word.load_relaxed();
        }
        self.head = self.head.wrapping_add(1);
        Ok(Some(entry))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::vec::Vec;

    extern crate std;

    fn words(count: usize) -> Vec<AtomicU64> {
        (0..count).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn the_capacity_is_a_power_of_two_of_whole_entries() {
        let (tail, entries) = (AtomicU64::new(0), words(12));
        assert!(Shared::<_, 3>::new(&tail, &entries).is_some());
        assert!(Shared::<_, 3>::new(&tail, &entries[..9]).is_none());
        assert!(Shared::<_, 3>::new(&tail, &entries[..11]).is_none());
        assert!(Shared::<_, 3>::new(&tail, &entries[..0]).is_none());
    }

    #[test]
    fn a_tail_beyond_the_capacity_is_an_overrun() {
        let (tail, entries) = (AtomicU64::new(0), words(8));
        let ring = Shared::<_, 2>::new(&tail, &entries).expect("4 entries");
        for (claimed, verdict) in
            [(5, Err(Overrun)), (u64::MAX, Err(Overrun)), (4, Ok(Some([0, 0])))]
        {
            tail.store_release(claimed);
            assert_eq!(Consumer::<2>::new().pop(&ring), verdict, "tail {claimed}");
        }
    }

    #[test]
    fn indices_wrap() {
        let (tail, entries) = (AtomicU64::new(u64::MAX), words(4));
        let ring = Shared::<_, 1>::new(&tail, &entries).expect("4 entries");
        let mut producer = Producer::<1> { tail: u64::MAX };
        let mut consumer = Consumer::<1> { head: u64::MAX, seen: u64::MAX };
        for value in 0..9 {
            producer.push(&ring, &[value]);
            producer.publish(&ring);
            assert_eq!(consumer.pop(&ring), Ok(Some([value])));
        }
        assert_eq!(consumer.pop(&ring), Ok(None));
    }

    proptest! {
        /// Against a queue that cannot be wrong: entries come out once, whole and in order, after
        /// their publication.
        #[test]
        fn behaves_as_a_queue(steps in proptest::collection::vec(0u8..3, 0..400)) {
            let (tail, entries) = (AtomicU64::new(0), words(16));
            let ring = Shared::<_, 2>::new(&tail, &entries).expect("8 entries");
            let (mut producer, mut consumer) = (Producer::<2>::new(), Consumer::<2>::new());
            let (mut pushed, mut published) = (VecDeque::new(), VecDeque::new());
            for (i, step) in steps.into_iter().enumerate() {
                let i = i as u64;
                match step {
                    0 if pushed.len() + published.len() < 8 => {
                        producer.push(&ring, &[i, !i]);
                        pushed.push_back([i, !i]);
                    }
                    1 => {
                        producer.publish(&ring);
                        published.append(&mut pushed);
                    }
                    _ => prop_assert_eq!(consumer.pop(&ring), Ok(published.pop_front())),
                }
            }
        }
    }
}
