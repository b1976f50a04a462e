// SPDX-License-Identifier: GPL-2.0-only
//! The requests that one queue has in flight, by tag, for whoever wonders what they wait for.
//!
//! The hop before is the worker that serves the queue, which notes each request that it does not
//! complete at once; the hop after is the status socket, which looks from another thread.
//!
//! # Invariants
//! - Each [`Tags`] has one writer, the worker. A request costs it a few stores to lines of its own.
//! - What a reader sees of a tag is of one request: `since` changes with each, and is looked at
//!   before and after the rest.

use std::sync::atomic::{
    fence, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};

use srb_proto::descriptor::{DataOp, Op, Tag};

use super::transfer::Transfer;
use crate::base::clock::Moment;
use crate::paths::{Progress, Seen};

/// Where the op's number lies in `what`, above the length.
const OP_SHIFT: u32 = 32;

/// One tag.
#[derive(Debug, Default)]
struct Slot {
    /// When the request was fetched; 0: the tag is not in flight, and the rest means nothing.
    since: AtomicU64,
    /// Length in bytes, and the op.
    what: AtomicU64,
    /// In bytes.
    offset: AtomicU64,
    /// Of its tries; also written by the client that carries it through them, on the same thread.
    progress: Progress,
}

/// What was seen of a request in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// Its tag.
    pub tag: Tag,
    /// When it was fetched from the module.
    pub since: Moment,
    /// What it does.
    pub op: DataOp,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub len: u32,
    /// How far its tries are.
    pub tries: Seen,
}

/// The tags of one queue.
#[derive(Debug)]
pub struct Tags {
    slots: Box<[Slot]>,
}

impl Tags {
    /// For a queue with `depth` tags, none of them in flight.
    #[must_use]
    pub fn new(depth: usize) -> Self {
        Self { slots: (0..depth).map(|_| Slot::default()).collect() }
    }

    fn slot(&self, tag: Tag) -> Option<&Slot> {
        self.slots.get(tag.index())
    }

    /// Notes that a request is in flight since `now`. The one that had the tag before has ended.
    pub fn begin(&self, transfer: &Transfer, now: Moment) {
        let Some(slot) = self.slot(transfer.tag) else { return };
        // ORDERING: pairs with the acquire fence in `seen`: who sees one of these stores also sees
        // that the request before is over.
        fence(Release);
        slot.progress.clear();
        let op = u64::from(transfer.op.op() as u8) << OP_SHIFT;
        slot.what.store(op | u64::from(transfer.len), Relaxed);
        slot.offset.store(transfer.offset, Relaxed);
        // ORDERING: release, pairs with the acquire in `seen`, which then sees the stores above.
        slot.since.store(now.nanos(), Release);
    }

    /// Notes that `tag` is no longer in flight; gives the time since which it was.
    pub fn end(&self, tag: Tag) -> Option<Moment> {
        let slot = self.slot(tag)?;
        let since = slot.since.load(Relaxed);
        slot.since.store(0, Relaxed);
        Moment::from_nanos(since)
    }

    /// Where the tries of the request that has `tag` are noted.
    #[must_use]
    pub fn progress(&self, tag: Tag) -> Option<&Progress> {
        self.slot(tag).map(|slot| &slot.progress)
    }

    /// Whether `tag` is in flight.
    #[must_use]
    pub fn is_in_flight(&self, tag: Tag) -> bool {
        self.slot(tag).is_some_and(|slot| slot.since.load(Relaxed) != 0)
    }

    /// When each request in flight was fetched.
    pub fn moments(&self) -> impl Iterator<Item = Moment> + '_ {
        self.slots.iter().filter_map(|slot| Moment::from_nanos(slot.since.load(Relaxed)))
    }

    /// Every request that is in flight, by tag. May be called from any thread; a request that ends
    /// meanwhile is left out.
    pub fn seen(&self) -> impl Iterator<Item = InFlight> + '_ {
        self.slots.iter().zip(0..).filter_map(|(slot, tag)| slot.seen(Tag(tag)))
    }
}

impl Slot {
    fn seen(&self, tag: Tag) -> Option<InFlight> {
        self.seen_while(tag, || {})
    }

    /// `meanwhile` stands for what the worker may do between two looks.
    fn seen_while(&self, tag: Tag, meanwhile: impl FnOnce()) -> Option<InFlight> {
        let since = self.since.load(Acquire);
        let what = self.what.load(Relaxed);
        meanwhile();
        let (offset, tries) = (self.offset.load(Relaxed), self.progress.seen());
        fence(Acquire);
        if self.since.load(Relaxed) != since {
            return None;
        }
        let since = Moment::from_nanos(since)?;
        let op = Op::from_number(u8::try_from(what >> OP_SHIFT).ok()?)?.on_a_device()?;
        let len = u32::try_from(what & u64::from(u32::MAX)).ok()?;
        Some(InFlight { tag, since, op, offset, len, tries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use srb_proto::descriptor::Generation;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    fn moment(nanos: u64) -> Moment {
        Moment::from_nanos(nanos).expect("not zero")
    }

    fn transfer(op: DataOp, tag: u16, offset: u64, len: u32) -> Transfer {
        let generation = Generation(1);
        Transfer { tag: Tag(tag), generation, op, repeated: false, offset, len }
    }

    #[test]
    fn a_request_is_there_from_its_begin_to_its_end() {
        let tags = Tags::new(4);
        assert_eq!(tags.seen().count(), 0);
        tags.begin(&transfer(DataOp::Write, 3, u64::MAX - (2 << 20), 1 << 20), moment(5));
        tags.begin(&transfer(DataOp::Read, 0, 4096, 512), moment(7));
        tags.begin(&transfer(DataOp::Read, 4, 4096, 512), moment(7));
        let write = InFlight {
            tag: Tag(3),
            since: moment(5),
            op: DataOp::Write,
            offset: u64::MAX - (2 << 20),
            len: 1 << 20,
            tries: Seen::default(),
        };
        let (tag, since, tries) = (Tag(0), moment(7), Seen::default());
        let read = InFlight { tag, since, op: DataOp::Read, offset: 4096, len: 512, tries };
        assert_eq!(tags.seen().collect::<Vec<_>>(), [read, write]);
        assert_eq!(tags.moments().collect::<Vec<_>>(), [moment(7), moment(5)]);
        assert!(tags.is_in_flight(Tag(3)) && !tags.is_in_flight(Tag(1)));
        assert!(!tags.is_in_flight(Tag(4)), "there is no such tag");
        assert_eq!((tags.end(Tag(3)), tags.end(Tag(3))), (Some(moment(5)), None));
        assert_eq!(tags.seen().collect::<Vec<_>>(), [read]);
    }

    #[test]
    fn a_request_begins_without_the_tries_of_the_one_before() {
        let tags = Tags::new(1);
        tags.begin(&transfer(DataOp::Write, 0, 0, 512), moment(1));
        tags.progress(Tag(0)).expect("a tag").trying(1, 0, 3);
        assert_eq!(tags.seen().map(|seen| seen.tries.tries).collect::<Vec<_>>(), [3]);
        tags.end(Tag(0));
        tags.begin(&transfer(DataOp::Write, 0, 0, 512), moment(2));
        assert_eq!(tags.seen().map(|seen| seen.tries).collect::<Vec<_>>(), [Seen::default()]);
        assert!(tags.progress(Tag(1)).is_none());
    }

    #[test]
    fn a_request_that_ends_while_it_is_looked_at_is_left_out() {
        let tags = Tags::new(1);
        let begin = |at| tags.begin(&transfer(DataOp::Read, 0, at, 512), moment(at));
        let slot = tags.slot(Tag(0)).expect("a tag");
        begin(1);
        let seen = slot.seen_while(Tag(0), || {
            tags.end(Tag(0));
            begin(2);
        });
        assert_eq!(seen, None, "another one has the tag");
        assert_eq!(
            slot.seen_while(Tag(0), || {
                tags.end(Tag(0));
            }),
            None
        );
        assert_eq!(slot.seen_while(Tag(0), || begin(3)), None, "nothing was there at first");
    }

    #[test]
    fn no_mixture_of_two_requests_is_seen() {
        // Long enough for the two threads to run at the same time, also on a busy machine.
        const ROUNDS: u32 = 2_000_000;
        let (tags, over) = (Tags::new(1), AtomicBool::new(false));
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                // All numbers of a request are the same.
                for number in 1..=ROUNDS {
                    let request = transfer(DataOp::Read, 0, number.into(), number);
                    tags.begin(&request, moment(number.into()));
                    tags.end(Tag(0));
                }
                over.store(true, Relaxed);
            });
            let mut found = 0u32;
            while !over.load(Relaxed) {
                for InFlight { since, offset, len, .. } in tags.seen() {
                    assert_eq!((since.nanos(), offset), (len.into(), len.into()));
                    found += 1;
                }
            }
            writer.join().expect("no panic");
            assert!(found > 0, "nothing was seen");
        });
    }
}
