// SPDX-License-Identifier: GPL-2.0-only
//! Permits: their number, their order, and that none is ever lost.

use super::*;
use futures_util::FutureExt;
use proptest::prelude::*;
use std::sync::Arc;

use Direction::{Read, Write};

/// How many more permits there are for a direction.
fn free(limit: &Limit, direction: Direction) -> usize {
    let permits: Vec<_> = std::iter::from_fn(|| limit.enter(direction, 1).now_or_never()).collect();
    permits.len()
}

#[test]
fn each_direction_may_have_all_but_the_reserve_of_the_other() {
    for (size, most) in [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6), (9, 7), (32, 24)] {
        let limit = Limit::new(size);
        assert_eq!(free(&limit, Read), size, "nobody writes, of {size}");
        drop(limit.enter(Write, 1).now_or_never());
        drop(limit.enter(Read, 1).now_or_never());
        assert_eq!(free(&limit, Write), most, "of {size}");
        drop(limit.enter(Read, 1).now_or_never());
        let writes: Vec<_> = std::iter::from_fn(|| limit.enter(Write, 1).now_or_never()).collect();
        assert_eq!(free(&limit, Read), size - writes.len(), "beside writes, of {size}");
    }
}

#[test]
fn grows_and_shrinks_while_permits_are_out() {
    let limit = Limit::new(8);
    drop(limit.enter(Read, 1).now_or_never());
    let mut out: Vec<_> = (0..6).filter_map(|_| limit.enter(Write, 1).now_or_never()).collect();
    assert_eq!((out.len(), free(&limit, Write), free(&limit, Read)), (6, 0, 2));
    limit.resize(4);
    assert_eq!((free(&limit, Write), free(&limit, Read)), (0, 0));
    out.truncate(4);
    assert_eq!(free(&limit, Read), 0, "those were beyond the limit");
    out.truncate(3);
    assert_eq!((free(&limit, Write), free(&limit, Read)), (0, 1));
    limit.resize(16);
    assert_eq!((free(&limit, Write), free(&limit, Read)), (9, 12));
    drop(out);
    limit.resize(0);
    assert_eq!(free(&limit, Read), 1, "nothing at all would be a standstill");
}

#[test]
fn a_larger_limit_is_seen_by_those_who_wait() {
    let limit = Limit::new(1);
    let _out = limit.enter(Read, 1).now_or_never().expect("free");
    let mut waiting = Box::pin(limit.enter(Write, 1));
    assert!(waiting.as_mut().now_or_never().is_none());
    limit.resize(2);
    assert!(waiting.now_or_never().is_some());
}

#[test]
fn a_waiter_dropped_after_its_turn_came_passes_the_permit_on() {
    let limit = Limit::new(1);
    let out = limit.enter(Read, 1).now_or_never().expect("free");
    let mut first = Box::pin(limit.enter(Write, 1));
    let mut second = Box::pin(limit.enter(Write, 1));
    assert!(first.as_mut().now_or_never().is_none());
    assert!(second.as_mut().now_or_never().is_none());
    drop(out);
    // It was given the permit, and is not polled any more.
    drop(first);
    assert!(second.now_or_never().is_some());
    assert_eq!(free(&limit, Read), 1);
}

#[tokio::test]
async fn a_flood_of_one_direction_leaves_the_other_its_share() {
    let limit = Arc::new(Limit::new(4));
    let flood = |direction| {
        let limit = Arc::clone(&limit);
        tokio::spawn(async move {
            for _ in 0..200 {
                let _permit = limit.enter(direction, 1).await;
                tokio::task::yield_now().await;
            }
        })
    };
    let writes: Vec<_> = (0..64).map(|_| flood(Write)).collect();
    let read = flood(Read);
    read.await.expect("no panic");
    let left = writes.iter().filter(|write| !write.is_finished()).count();
    assert!(left >= 60, "reads went on beside {left} writers");
    for write in writes {
        write.await.expect("no panic");
    }
    assert_eq!(free(&limit, Read), 3);
}

#[test]
fn beside_reads_writes_have_few_bytes() {
    let limit = Limit::new(32);
    let large = 1 << 20;
    let writes = || std::iter::from_fn(|| limit.enter(Write, large).now_or_never());
    assert_eq!(writes().collect::<Vec<_>>().len(), 32, "nobody reads");
    let read = limit.enter(Read, 4096).now_or_never().expect("free");
    assert_eq!(writes().collect::<Vec<_>>().len(), 2, "a read is out");
    drop(read);
    let few: Vec<_> = writes().collect();
    assert_eq!(few.len(), 2, "another one may be on its way");
    let mut waiting = Box::pin(limit.enter(Write, large));
    assert!(waiting.as_mut().now_or_never().is_none());
    let mut small = Box::pin(limit.enter(Write, 512));
    assert!(small.as_mut().now_or_never().is_none(), "it does not overtake");
    drop(few);
    assert!(waiting.now_or_never().is_some() && small.now_or_never().is_some());
    let huge = limit.enter(Write, usize::MAX).now_or_never();
    assert!(huge.is_some(), "one write there may always be");
    drop(huge);
    for _ in 0..ALONE {
        drop(limit.enter(Write, large).now_or_never());
    }
    assert_eq!(writes().collect::<Vec<_>>().len(), 32, "reads have ended");
}

#[test]
fn reads_are_about_until_so_many_writes_have_come_without_one() {
    let limit = Limit::new(4);
    let are_about = || limit.lock().reads.is_about();
    let write = || drop(limit.enter(Write, 1).now_or_never().expect("free"));
    assert!(!are_about(), "there was none yet");
    drop(limit.enter(Read, 1).now_or_never().expect("free"));
    (1..ALONE).for_each(|_| write());
    assert!(are_about());
    write();
    assert!(!are_about());
    let slow = limit.enter(Read, 1).now_or_never().expect("free");
    (0..=ALONE).for_each(|_| write());
    assert!(are_about(), "one is out, however long");
    drop(slow);
    assert!(!are_about());
}

/// What the module's description says, without any cleverness.
#[derive(Debug)]
struct Model {
    size: usize,
    /// Permits given to the other direction since the last to reads, and to writes.
    since: [u32; 2],
    /// Permits that are out: whose, which way, for how many bytes.
    out: Vec<(u64, Direction, usize)>,
    waiting: Vec<(u64, Direction, usize)>,
}

impl Model {
    fn count(&self, direction: Direction) -> usize {
        self.out.iter().filter(|(_, other, _)| *other == direction).count()
    }

    fn may(&self, (_, direction, bytes): (u64, Direction, usize)) -> bool {
        let waits = |direction| self.waiting.iter().any(|(_, other, _)| *other == direction);
        let about = |direction: Direction| {
            self.count(direction) > 0 || waits(direction) || self.since[direction as usize] < ALONE
        };
        let reads = about(Read);
        let other = if direction == Read { Write } else { Read };
        let reserve = if about(other) { self.reserve() } else { 0 };
        let written: usize =
            self.out.iter().filter(|(_, other, _)| *other == Write).map(|(.., bytes)| bytes).sum();
        let crowded = written > 0 && written + bytes > WRITE_BYTES_BESIDE_READS;
        self.out.len() < self.size
            && self.count(direction) < self.size - reserve
            && !(direction == Write && reads && crowded)
    }

    fn reserve(&self) -> usize {
        if self.size == 1 {
            0
        } else {
            (self.size / 4).max(1)
        }
    }

    fn hand_out(&mut self) {
        loop {
            let front = |direction| self.waiting.iter().find(|(_, other, _)| *other == direction);
            let fronts = [Read, Write].into_iter().filter_map(front).copied();
            let first = fronts.filter(|front| self.may(*front)).min_by_key(|front| {
                let (number, direction, _) = *front;
                (self.count(direction) >= self.reserve(), number)
            });
            let Some(first) = first else { return };
            self.waiting.retain(|waiting| *waiting != first);
            self.out.push(first);
            let (_, direction, _) = first;
            let [to_reads, to_writes] = &mut self.since;
            let (own, other) = match direction {
                Read => (to_reads, to_writes),
                Write => (to_writes, to_reads),
            };
            *own = 0;
            *other = other.saturating_add(1);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Enter(bool, usize),
    /// Drops the permit, or the place, of one of those who came.
    Leave(usize),
    Resize(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (any::<bool>(), 1usize..6).prop_map(|(read, mib)| Step::Enter(read, mib << 19)),
        4 => (0usize..64).prop_map(Step::Leave),
        1 => (1usize..12).prop_map(Step::Resize),
    ]
}

type Waiting<'a> = Pin<Box<dyn Future<Output = Permit<'a>> + 'a>>;

enum Held<'a> {
    Waiting(Waiting<'a>),
    Permit(#[expect(dead_code, reason = "dropped at its time")] Permit<'a>),
}

proptest! {
    /// After each step, exactly those have a permit whom the model gives one. Not everybody is
    /// polled after each step: a permit may be dropped before it was seen.
    #[test]
    fn as_the_model(steps in proptest::collection::vec((step(), any::<bool>()), 1..200)) {
        let limit = Limit::new(4);
        let (out, waiting) = (Vec::new(), Vec::new());
        let mut model = Model { size: 4, since: [ALONE; 2], out, waiting };
        let mut held: Vec<(u64, Direction, Held<'_>)> = Vec::new();
        for (number, (step, look)) in (0u64..).zip(steps) {
            match step {
                Step::Enter(read, bytes) => {
                    let direction = if read { Read } else { Write };
                    let mut enter: Waiting<'_> = Box::pin(limit.enter(direction, bytes));
                    let now = match enter.as_mut().now_or_never() {
                        Some(permit) => Held::Permit(permit),
                        None => Held::Waiting(enter),
                    };
                    held.push((number, direction, now));
                    model.waiting.push((number, direction, bytes));
                }
                Step::Leave(index) if !held.is_empty() => {
                    let (number, ..) = held.remove(index % held.len());
                    model.waiting.retain(|(other, ..)| *other != number);
                    model.out.retain(|(other, ..)| *other != number);
                }
                Step::Leave(_) => {}
                Step::Resize(size) => {
                    limit.resize(size);
                    model.size = size;
                }
            }
            model.hand_out();
            if !look {
                continue;
            }
            for (number, _, held) in &mut held {
                if let Held::Waiting(waiting) = held {
                    if let Some(permit) = waiting.as_mut().now_or_never() {
                        *held = Held::Permit(permit);
                    }
                }
                let expected = model.out.iter().any(|(other, ..)| other == number);
                prop_assert_eq!(matches!(held, Held::Permit(_)), expected, "number {}", number);
            }
        }
        drop(held);
        let state = limit.lock();
        prop_assert_eq!((state.reads.out, state.writes.out), (0, 0));
        prop_assert_eq!((state.reads.bytes, state.writes.bytes), (0, 0));
        prop_assert!(state.reads.waiting.is_empty() && state.writes.waiting.is_empty());
    }
}
