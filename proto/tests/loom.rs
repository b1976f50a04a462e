// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Every ordering argument of the ring and the doorbell, held against the orders that the memory
//! model allows.
//!
//!     RUSTFLAGS="--cfg loom" \
//!         cargo test -p srb-proto --test loom --release --target-dir target/loom
//!
//! Each argument is a function that takes the orders its parties use. It is checked once with the
//! orders that the code names, and once more for each order that it leans on, with that one
//! weakened: those tests (`broken::…`) pass when loom finds the error, so a check that could not
//! fail would be noticed.
//!
//! # What loom cannot see
//! - It gives a sequentially consistent access no more than acquire and release. So does this file,
//!   on purpose: C++ too lets a load overtake the store half of a read-modify-write before it,
//!   hence an implementation of `Word` needs fences around it to be the full barrier that the trait
//!   asks for ([`Order::Bare`] shows it).
//! - It makes a fence synchronize with every earlier fence, which is more than C++ promises: a
//!   fence in the place of a release or acquire would pass unnoticed. No argument uses a fence so.
//! - It never lets a load see a store that has not run yet, nor a read-modify-write anything but
//!   the newest store. So neither that a place of the ring is read before it is written again, nor
//!   that a bit is set before its summary, can fail here by a weaker order; docs/ring.md argues
//!   them, and `broken` turns the steps round.
//! - It remembers the last seven stores to a word; no word here gets more than that.
#![cfg(loom)]

use loom::sync::atomic::{fence, AtomicU64, Ordering};
use loom::sync::{Arc, Notify};
use loom::thread;
use srb_proto::atomic::Word;
use srb_proto::doorbell::{ReadySet, Sleeper};
use srb_proto::ring::{Consumer, Producer, Shared};

/// How one party's accesses to one word are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// As the methods say.
    Named,
    /// The read-modify-writes without the fences around them: what `SeqCst` alone means.
    Bare,
    /// Nothing is ordered.
    Relaxed,
    /// A swap is a load and a store.
    Torn,
}

use Order::{Bare, Named, Relaxed, Torn};

/// A word of shared memory.
///
/// Loom looks for a race with the last access to an object alone, so a thread that loads a word and
/// then changes it hides the loads of others before it (tokio-rs/loom#166, #392). Words that are
/// used so have a `turn`, which is stored to before each load and never read: the loads then race
/// with each other, loom tries both orders, and nothing is ordered by it. Such a word is stored to
/// by a relaxed swap, because loom would otherwise let the store come between the two halves of
/// somebody's read-modify-write (tokio-rs/loom#389).
struct Cell {
    value: AtomicU64,
    turn: Option<AtomicU64>,
}

impl Cell {
    /// A word that nobody changes after he has loaded it.
    fn new() -> Self {
        Self { value: AtomicU64::new(0), turn: None }
    }
    /// A word that somebody loads and then changes.
    fn with_turn() -> Self {
        Self { value: AtomicU64::new(0), turn: Some(AtomicU64::new(0)) }
    }
}

/// A word as one party reaches it; with `FENCE` false, [`Word::fence_full`] does nothing.
struct View<'a, const FENCE: bool> {
    cell: &'a Cell,
    order: Order,
}

impl<'a, const FENCE: bool> View<'a, FENCE> {
    const fn new(cell: &'a Cell, order: Order) -> Self {
        Self { cell, order }
    }

    fn load(&self, ordering: Ordering) -> u64 {
        if let Some(turn) = &self.cell.turn {
            turn.store(0, Ordering::Relaxed);
        }
        self.cell.value.load(ordering)
    }

    fn ordering(&self, named: Ordering) -> Ordering {
        if self.order == Relaxed {
            Ordering::Relaxed
        } else {
            named
        }
    }

    fn full(&self, access: impl FnOnce(Ordering) -> u64) -> u64 {
        match self.order {
            Relaxed => access(Ordering::Relaxed),
            Bare => access(Ordering::SeqCst),
            Named | Torn => {
                fence(Ordering::SeqCst);
                let old = access(Ordering::AcqRel);
                fence(Ordering::SeqCst);
                old
            }
        }
    }
}

impl<const FENCE: bool> Word for View<'_, FENCE> {
    fn load_relaxed(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }
    fn load_acquire(&self) -> u64 {
        self.load(self.ordering(Ordering::Acquire))
    }
    fn store_relaxed(&self, value: u64) {
        if self.cell.turn.is_some() {
            self.cell.value.swap(value, Ordering::Relaxed);
        } else {
            self.cell.value.store(value, Ordering::Relaxed);
        }
    }
    fn store_release(&self, value: u64) {
        self.cell.value.store(value, self.ordering(Ordering::Release));
    }
    fn swap_full(&self, value: u64) -> u64 {
        self.full(|ordering| {
            if self.order == Torn {
                let old = self.load(Ordering::Acquire);
                self.cell.value.store(value, Ordering::Release);
                old
            } else {
                self.cell.value.swap(value, ordering)
            }
        })
    }
    fn or_full(&self, bits: u64) {
        self.full(|ordering| self.cell.value.fetch_or(bits, ordering));
    }
    fn fence_full() {
        if FENCE {
            fence(Ordering::SeqCst);
        }
    }
}

fn cells(count: usize) -> Vec<Cell> {
    (0..count).map(|_| Cell::new()).collect()
}

/// Runs `model` in every order; with a bound, in every order of so many preemptions.
fn check(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 10_000;
    builder.preemption_bound = preemptions;
    builder.check(model);
}

mod ring {
    use super::*;

    struct Memory {
        tail: Cell,
        entries: Vec<Cell>,
    }

    impl Memory {
        fn new(entry_count: usize, entry_words: usize) -> Self {
            Self { tail: Cell::new(), entries: cells(entry_count * entry_words) }
        }
        fn party(&self, tail: Order) -> Party<'_> {
            let entries = self.entries.iter().map(|word| View::new(word, Named)).collect();
            Party { tail: View::new(&self.tail, tail), entries }
        }
    }

    struct Party<'a> {
        tail: View<'a, true>,
        entries: Vec<View<'a, true>>,
    }

    impl<'a> Party<'a> {
        fn ring<const N: usize>(&self) -> Shared<'_, View<'a, true>, N> {
            Shared::new(&self.tail, &self.entries).expect("a power of two")
        }
    }

    /// An entry that no mixture of others equals.
    fn entry<const N: usize>(number: u64) -> [u64; N] {
        std::array::from_fn(|word| number << 8 | word as u64)
    }

    /// What is popped was pushed, whole and in order; everything published is popped in the end.
    ///
    /// `batches` says how many entries each publication brings.
    fn pushed_then_popped<const N: usize>(batches: &'static [u64], publish: Order, pop: Order) {
        check(None, move || {
            let total: u64 = batches.iter().sum();
            let memory = Arc::new(Memory::new(total.next_power_of_two() as usize, N));
            let sending = {
                let memory = Arc::clone(&memory);
                thread::spawn(move || {
                    let (party, mut producer) = (memory.party(publish), Producer::<N>::new());
                    let mut number = 0;
                    for batch in batches {
                        for _ in 0..*batch {
                            number += 1;
                            producer.push(&party.ring(), &entry(number));
                        }
                        producer.publish(&party.ring());
                    }
                })
            };
            let (party, mut consumer, mut popped) = (memory.party(pop), Consumer::<N>::new(), 0);
            let mut pop_all = || {
                while let Some(words) = consumer.pop(&party.ring()).expect("no overrun") {
                    popped += 1;
                    assert_eq!(words, entry(popped), "torn or out of order");
                }
                popped
            };
            pop_all();
            pop_all();
            sending.join().expect("the producer ends");
            assert_eq!(pop_all(), total, "lost");
        });
    }

    #[test]
    fn submit_then_fetch() {
        pushed_then_popped::<3>(&[1, 1], Named, Named);
        pushed_then_popped::<3>(&[2], Named, Named);
        pushed_then_popped::<3>(&[1, 2, 1], Named, Named);
    }

    #[test]
    fn complete_then_reap() {
        pushed_then_popped::<2>(&[1, 1], Named, Named);
        pushed_then_popped::<2>(&[1, 2, 1], Named, Named);
    }

    /// The orders of a round trip.
    #[derive(Clone, Copy)]
    struct Round {
        submit: Order,
        fetch: Order,
        complete: Order,
        reap: Order,
        /// Requests in flight; the ring has two places.
        tags: u64,
        /// How often each tag is used.
        generations: u64,
        preemptions: usize,
    }

    const ROUND: Round = Round {
        submit: Named,
        fetch: Named,
        complete: Named,
        reap: Named,
        tags: 2,
        generations: 2,
        preemptions: 2,
    };

    /// The tags go round so often through rings of two places. The agent answers a batch backwards,
    /// so that tags come back, and places are used again, out of order.
    fn round(orders: Round) {
        check(Some(orders.preemptions), move || {
            let submissions = Arc::new(Memory::new(2, 2));
            let completions = Arc::new(Memory::new(2, 2));
            let agent = {
                let (submissions, completions) =
                    (Arc::clone(&submissions), Arc::clone(&completions));
                thread::spawn(move || serve(&submissions, &completions, orders))
            };
            let (submit, reap) = (submissions.party(orders.submit), completions.party(orders.reap));
            let (mut producer, mut consumer) = (Producer::<2>::new(), Consumer::<2>::new());
            let mut free: Vec<(u64, u64)> = (0..orders.tags).map(|tag| (tag, 0)).collect();
            let mut in_flight = Vec::new();
            let mut submitted = 0;
            while submitted < orders.generations * orders.tags || !in_flight.is_empty() {
                let ready =
                    free.iter().position(|(_, generation)| *generation < orders.generations);
                if let Some(at) = ready {
                    let (tag, generation) = free.swap_remove(at);
                    producer.push(&submit.ring(), &[submitted, tag << 8 | generation]);
                    producer.publish(&submit.ring());
                    in_flight.push((tag, generation));
                    submitted += 1;
                }
                let mut reaped = false;
                while let Some([check, word]) = consumer.pop(&reap.ring()).expect("no overrun") {
                    assert_eq!(check, !word, "torn");
                    let request = (word >> 8, word & 0xff);
                    let at = in_flight.iter().position(|known| *known == request);
                    in_flight.swap_remove(at.expect("an answer to nothing"));
                    free.push((request.0, request.1 + 1));
                    reaped = true;
                }
                if ready.is_none() && !reaped {
                    thread::yield_now();
                }
            }
            agent.join().expect("the agent ends");
        });
    }

    fn serve(submissions: &Memory, completions: &Memory, orders: Round) {
        let (fetch, complete) =
            (submissions.party(orders.fetch), completions.party(orders.complete));
        let (mut consumer, mut producer) = (Consumer::<2>::new(), Producer::<2>::new());
        let mut fetched = 0;
        while fetched < orders.generations * orders.tags {
            let mut batch = Vec::new();
            while let Some([number, word]) = consumer.pop(&fetch.ring()).expect("no overrun") {
                assert_eq!(number, fetched, "stale, or written over too early");
                fetched += 1;
                batch.push(word);
            }
            if batch.is_empty() {
                thread::yield_now();
            }
            for word in batch.into_iter().rev() {
                producer.push(&complete.ring(), &[!word, word]);
                producer.publish(&complete.ring());
            }
        }
    }

    #[test]
    fn a_place_is_used_again_after_its_tag_came_back() {
        round(ROUND);
    }

    #[test]
    fn tags_go_round_again_and_again() {
        round(Round { generations: 3, preemptions: 1, ..ROUND });
    }

    mod broken {
        use super::*;

        #[test]
        #[should_panic(expected = "torn or out of order")]
        fn publish_without_release() {
            pushed_then_popped::<3>(&[1, 1], Relaxed, Named);
        }

        #[test]
        #[should_panic(expected = "torn or out of order")]
        fn pop_without_acquire() {
            pushed_then_popped::<3>(&[1, 1], Named, Relaxed);
        }

        #[test]
        #[should_panic(expected = "stale, or written over too early")]
        fn submit_without_release() {
            round(Round { submit: Relaxed, ..ROUND });
        }

        #[test]
        #[should_panic(expected = "stale, or written over too early")]
        fn fetch_without_acquire() {
            round(Round { fetch: Relaxed, ..ROUND });
        }

        #[test]
        #[should_panic(expected = "an answer to nothing")]
        fn complete_without_release() {
            round(Round { complete: Relaxed, ..ROUND });
        }

        #[test]
        #[should_panic(expected = "an answer to nothing")]
        fn reap_without_acquire() {
            round(Round { reap: Relaxed, ..ROUND });
        }

        /// More requests in flight than places, which is what the tags are there to prevent.
        #[test]
        #[should_panic(expected = "torn")]
        fn more_tags_than_places() {
            round(Round { tags: 3, ..ROUND });
        }
    }
}

mod doorbell {
    use super::*;

    /// Members of the set: two share a word, one has another.
    const MEMBERS: [usize; 3] = [0, 1, 64];

    /// A doorbell, and for each member a channel that consists of its tail.
    struct Memory {
        sleeping: Cell,
        summary: Cell,
        bits: Vec<Cell>,
        tails: Vec<Cell>,
        wake: Notify,
    }

    impl Memory {
        fn new() -> Self {
            Self {
                sleeping: Cell::with_turn(),
                summary: Cell::with_turn(),
                bits: vec![Cell::with_turn(), Cell::with_turn()],
                tails: cells(MEMBERS.len()),
                wake: Notify::new(),
            }
        }
        fn party<const FENCE: bool>(&self, orders: Orders) -> Party<'_, FENCE> {
            Party {
                summary: View::new(&self.summary, orders.summary),
                bits: self.bits.iter().map(|word| View::new(word, orders.bits)).collect(),
                tails: self.tails.iter().map(|word| View::new(word, orders.tails)).collect(),
            }
        }
    }

    /// The orders that one party uses.
    #[derive(Clone, Copy)]
    struct Orders {
        summary: Order,
        bits: Order,
        tails: Order,
    }

    const NAMED: Orders = Orders { summary: Named, bits: Named, tails: Named };

    struct Party<'a, const FENCE: bool> {
        summary: View<'a, FENCE>,
        bits: Vec<View<'a, FENCE>>,
        tails: Vec<View<'a, FENCE>>,
    }

    impl<'a, const FENCE: bool> Party<'a, FENCE> {
        fn set(&self) -> ReadySet<'_, View<'a, FENCE>> {
            ReadySet::new(&self.summary, &self.bits)
        }

        /// Publishes the `count`th entry of a channel, and says so.
        fn send(&self, channel: usize, count: u64) {
            self.tails[channel].store_release(count);
            self.set().insert(MEMBERS[channel]);
        }

        /// Takes all members, and notes how far their channels have come.
        fn receive(&self, received: &mut [u64; MEMBERS.len()]) {
            self.set().take(|member| {
                let channel = MEMBERS.iter().position(|known| *known == member);
                let channel = channel.expect("nobody inserted this");
                let tail = self.tails[channel].load_acquire();
                assert!(tail >= received[channel], "a tail goes back");
                received[channel] = tail;
            });
        }
    }

    type Sent = &'static [(usize, u64)];

    /// What each thread sends: entries so far, by channel.
    fn expected(threads: &[Sent]) -> [u64; MEMBERS.len()] {
        let mut most = [0; MEMBERS.len()];
        for (channel, count) in threads.iter().copied().flatten() {
            most[*channel] = *count.max(&most[*channel]);
        }
        most
    }

    /// Two parties are checked in every order, three in every order of so many preemptions.
    fn bound(threads: &[Sent]) -> Option<usize> {
        (threads.len() > 1).then_some(4)
    }

    /// After both sides have finished, and one more take, everything published was received.
    fn nothing_is_lost<const FENCE: bool>(
        threads: &'static [Sent],
        inserter: Orders,
        taker: Orders,
    ) {
        check(bound(threads), move || {
            let memory = Arc::new(Memory::new());
            let sending: Vec<_> = threads
                .iter()
                .map(|sent| {
                    let memory = Arc::clone(&memory);
                    thread::spawn(move || {
                        for (channel, count) in *sent {
                            memory.party::<FENCE>(inserter).send(*channel, *count);
                        }
                    })
                })
                .collect();
            let (party, mut received) = (memory.party::<true>(taker), [0; MEMBERS.len()]);
            party.receive(&mut received);
            for thread in sending {
                thread.join().expect("the producer ends");
            }
            party.receive(&mut received);
            assert_eq!(received, expected(threads), "lost");
        });
    }

    const ONE: &[Sent] = &[&[(0, 1)]];
    /// The second insertion may find the bit still set.
    const ONE_TWICE: &[Sent] = &[&[(0, 1), (0, 2)]];
    const ONE_THRICE: &[Sent] = &[&[(0, 1), (0, 2), (0, 3)]];
    const ONE_WORD: &[Sent] = &[&[(0, 1)], &[(1, 1)]];
    const TWO_WORDS: &[Sent] = &[&[(0, 1)], &[(2, 1)]];
    const ONE_WORD_TWICE: &[Sent] = &[&[(0, 1), (0, 2)], &[(1, 1)]];

    #[test]
    fn a_bit_that_is_still_set_is_enough() {
        nothing_is_lost::<true>(ONE_TWICE, NAMED, NAMED);
        nothing_is_lost::<true>(ONE_THRICE, NAMED, NAMED);
    }

    #[test]
    fn two_members_of_one_word() {
        nothing_is_lost::<true>(ONE_WORD, NAMED, NAMED);
        nothing_is_lost::<true>(ONE_WORD_TWICE, NAMED, NAMED);
    }

    #[test]
    fn two_members_of_two_words() {
        nothing_is_lost::<true>(TWO_WORDS, NAMED, NAMED);
    }

    /// More than `insert` promises: several may insert one member, if somebody else orders their
    /// publications.
    #[test]
    fn two_inserters_of_one_member() {
        nothing_is_lost::<true>(&[&[(0, 1)], &[(0, 1)]], NAMED, NAMED);
    }

    /// The orders of producers and a receiver that sleeps. The fences of `insert` stay; `SEND` and
    /// `SLEEP` say whether those of `must_wake` and `prepare` do.
    #[derive(Clone, Copy)]
    struct Sleep {
        producer: Orders,
        sleeping: Order,
    }

    const SLEEP: Sleep = Sleep { producer: NAMED, sleeping: Named };

    fn send_and_wake<const SEND: bool>(memory: &Memory, sent: Sent, orders: Sleep) -> u64 {
        let party = memory.party::<true>(orders.producer);
        let flag = View::<SEND>::new(&memory.sleeping, orders.sleeping);
        let mut wakes = 0;
        for (channel, count) in sent {
            party.send(*channel, *count);
            if Sleeper::new(&flag).must_wake() {
                wakes += 1;
                memory.wake.notify();
            }
        }
        wakes
    }

    fn producers<const SEND: bool>(
        memory: &Arc<Memory>,
        threads: &'static [Sent],
        orders: Sleep,
    ) -> Vec<thread::JoinHandle<u64>> {
        let spawn = |sent: &'static Sent| {
            let memory = Arc::clone(memory);
            thread::spawn(move || send_and_wake::<SEND>(&memory, sent, orders))
        };
        threads.iter().map(spawn).collect()
    }

    /// A receiver that lies down once: with work left, exactly one producer wakes it; never more
    /// than one does.
    fn asleep_or_woken<const SEND: bool, const SLEEP: bool>(
        threads: &'static [Sent],
        orders: Sleep,
    ) {
        check(bound(threads), move || {
            let memory = Arc::new(Memory::new());
            let sending = producers::<SEND>(&memory, threads, orders);
            let (party, mut received) = (memory.party::<SLEEP>(NAMED), [0; MEMBERS.len()]);
            let flag = View::<SLEEP>::new(&memory.sleeping, Named);
            party.receive(&mut received);
            let asleep = Sleeper::new(&flag).prepare(&party.set());
            let wakes: u64 = sending.into_iter().map(|t| t.join().expect("it ends")).sum();
            assert!(wakes <= 1, "woken twice");
            let idle = received == expected(threads);
            assert!(!asleep || idle || wakes == 1, "asleep over work");
            party.receive(&mut received);
            assert_eq!(received, expected(threads), "lost");
        });
    }

    #[test]
    fn a_receiver_sleeps_or_sees_the_work() {
        asleep_or_woken::<true, true>(ONE, SLEEP);
        asleep_or_woken::<true, true>(ONE_TWICE, SLEEP);
    }

    #[test]
    fn a_receiver_is_woken_once_by_two_producers() {
        asleep_or_woken::<true, true>(TWO_WORDS, SLEEP);
    }

    /// A receiver that sleeps until everything has come: loom reports a sleep that never ends.
    #[test]
    fn a_receiver_that_sleeps_again_and_again_gets_all() {
        check(Some(3), || {
            let memory = Arc::new(Memory::new());
            let sending = producers::<true>(&memory, ONE_TWICE, SLEEP);
            let (party, mut received) = (memory.party::<true>(NAMED), [0; MEMBERS.len()]);
            let flag = View::<true>::new(&memory.sleeping, Named);
            let mut prepared = 0;
            loop {
                party.receive(&mut received);
                if received == expected(ONE_TWICE) {
                    break;
                }
                prepared += 1;
                if Sleeper::new(&flag).prepare(&party.set()) {
                    memory.wake.wait();
                    Sleeper::new(&flag).awake();
                }
            }
            let wakes: u64 = sending.into_iter().map(|t| t.join().expect("it ends")).sum();
            assert!(wakes <= prepared, "woken without having said so");
        });
    }

    mod broken {
        use super::*;

        /// The reason why a `Word` puts fences around its read-modify-writes.
        #[test]
        #[should_panic(expected = "lost")]
        fn take_with_a_swap_that_is_only_sequentially_consistent() {
            nothing_is_lost::<true>(ONE_TWICE, NAMED, Orders { bits: Bare, ..NAMED });
        }

        #[test]
        #[should_panic(expected = "lost")]
        fn insert_without_its_fence() {
            nothing_is_lost::<false>(ONE_TWICE, NAMED, NAMED);
        }

        #[test]
        #[should_panic(expected = "lost")]
        fn insert_the_bit_without_order() {
            nothing_is_lost::<true>(ONE_WORD, Orders { bits: Relaxed, ..NAMED }, NAMED);
        }

        /// Nothing but the order of an insertion's two steps, which loom cannot see turned round by
        /// itself.
        #[test]
        #[should_panic(expected = "lost")]
        fn insert_into_the_summary_before_the_bit() {
            check(None, || {
                let memory = Arc::new(Memory::new());
                let sending = {
                    let memory = Arc::clone(&memory);
                    thread::spawn(move || {
                        let party = memory.party::<true>(NAMED);
                        party.tails[0].store_release(1);
                        party.summary.or_full(1);
                        party.bits[0].or_full(1);
                    })
                };
                let (party, mut received) = (memory.party::<true>(NAMED), [0; MEMBERS.len()]);
                party.receive(&mut received);
                sending.join().expect("the producer ends");
                party.receive(&mut received);
                assert_eq!(received, expected(ONE), "lost");
            });
        }

        #[test]
        #[should_panic(expected = "lost")]
        fn take_the_bits_without_order() {
            nothing_is_lost::<true>(ONE_WORD, NAMED, Orders { bits: Relaxed, ..NAMED });
        }

        #[test]
        #[should_panic(expected = "asleep over work")]
        fn prepare_without_its_fence() {
            asleep_or_woken::<true, false>(ONE, SLEEP);
        }

        /// The fence of `must_wake` and the one behind `insert`'s last read-modify-write stand for
        /// each other.
        #[test]
        #[should_panic(expected = "asleep over work")]
        fn must_wake_without_any_fence() {
            let producer = Orders { bits: Bare, summary: Bare, ..NAMED };
            asleep_or_woken::<false, true>(ONE, Sleep { producer, ..SLEEP });
        }

        #[test]
        #[should_panic(expected = "woken twice")]
        fn must_wake_with_a_torn_swap() {
            asleep_or_woken::<true, true>(TWO_WORDS, Sleep { sleeping: Torn, ..SLEEP });
        }
    }
}
