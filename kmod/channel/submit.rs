// SPDX-License-Identifier: GPL-2.0-only
//! The way there: requests get a slot, their data a window, and the agent's worker a word of it.
//!
//! Before: [`super::blk`] with one request or with several; both in blk-mq's RCU read section, so
//! that what is borrowed from a link is not freed meanwhile.
//! After: the submission ring.
//!
//! A slot is taken under the channel's lock; pages are allocated and data copied outside of it, but
//! for data of a page or less.

use super::{Channel, Sent, State, Use, Verdict};
use crate::{
    atomic::SharedWord,
    ffi::{
        errors::EOPNOTSUPP,
        request::{Direction, Request, Requests},
    },
    link::Link,
    memory::Memory,
    proto::{
        descriptor::{Op, Submission, Tag, SUBMISSION_WORDS},
        layout::PAGE_BYTES,
        ring,
    },
};
use kernel::{prelude::*, sync::Arc};

/// The ring that the agent takes submissions from.
type Submissions<'a> = ring::Shared<'a, SharedWord, SUBMISSION_WORDS>;

/// Gives a request's window its pages, and a write's data to it. Called by the holder of its tag.
fn prepare(memory: &Memory, request: &Request) -> Result {
    let tag = request.tag();
    memory.back(tag, request.bytes())?;
    match request.direction() {
        Some(Direction::Write) => memory.fill_from(tag, request),
        _ => Ok(()),
    }
}

/// The same under the lock, where nothing is to be allocated and little to be copied: less than to
/// let the lock go and take it again. Returns whether the request can go out.
fn prepare_at_once(memory: &Memory, request: &Request, direction: Direction) -> bool {
    let (tag, bytes) = (request.tag(), request.bytes());
    memory.has_pages(tag, bytes)
        && match direction {
            Direction::Read => true,
            Direction::Write => bytes <= PAGE_BYTES && memory.fill_from(tag, request).is_ok(),
        }
}

impl Channel {
    /// Sends a started request to the agent. `last`: nothing follows at once, so ring the doorbell.
    pub(super) fn submit(
        &self,
        request: Request,
        repeated: bool,
        last: bool,
    ) -> (Verdict, Option<Request>) {
        let Some(direction) = request.direction() else {
            return (Verdict::Failed(EOPNOTSUPP), Some(request));
        };
        let (tag, bytes) = (request.tag(), request.bytes());
        let (memory, session) = {
            let mut state = self.state.lock();
            if let Err(verdict) = state.occupy(tag) {
                return (verdict, Some(request));
            }
            let Some(Link { memory, peer, .. }) = &state.link else {
                state.release(tag);
                return (Verdict::Parked, Some(request));
            };
            if !self.is_dying() && prepare_at_once(memory, &request, direction) {
                let sent = Sent { request, direction, bytes };
                self.push(&mut state, sent, repeated, last);
                return (Verdict::Taken, None);
            }
            (memory.clone(), peer.id())
        };
        let prepared = prepare(&memory, &request);
        let mut state = self.state.lock();
        let verdict = match prepared {
            Err(error) if error == ENOMEM => Verdict::Later,
            Err(error) => Verdict::Failed(error),
            Ok(()) if self.is_dying() => Verdict::Failed(EIO),
            Ok(()) if !state.is_linked_to(session) => Verdict::Parked,
            Ok(()) => {
                let sent = Sent { request, direction, bytes };
                self.push(&mut state, sent, repeated, last);
                return (Verdict::Taken, None);
            }
        };
        state.release(tag);
        (verdict, Some(request))
    }

    /// Starts new requests and sends them to the agent, with one word for them all. Those that it
    /// cannot take at once it leaves, not started, in `left`.
    pub(super) fn submit_all(&self, requests: impl Iterator<Item = Request>, left: &mut Requests) {
        let mut waiting = Requests::new();
        let Some((memory, session)) = self.submit_ready(requests, &mut waiting, left) else {
            return;
        };
        let (mut prepared, mut refused) = (Requests::new(), Requests::new());
        while let Some(request) = waiting.pop() {
            match prepare(&memory, &request) {
                Ok(()) => prepared.push(request),
                Err(_) => refused.push(request),
            }
        }
        let mut state = self.state.lock();
        let goes_on = state.is_linked_to(session) && !self.is_dying();
        while let Some(request) = prepared.pop() {
            match request.direction() {
                Some(direction) if goes_on => self.start(&mut state, request, direction),
                _ => refused.push(request),
            }
        }
        while let Some(request) = refused.pop() {
            state.release(request.tag());
            left.push(request);
        }
        self.announce(&state);
    }

    /// The part of [`Self::submit_all`] that needs nothing but the lock. Requests that have their
    /// slot, but need pages or a longer copy, are left in `waiting`; returned is then where they
    /// are to be copied, and the session that it belongs to.
    fn submit_ready(
        &self,
        requests: impl Iterator<Item = Request>,
        waiting: &mut Requests,
        left: &mut Requests,
    ) -> Option<(Arc<Memory>, u64)> {
        let mut lent = None;
        let mut state = self.state.lock();
        for request in requests {
            let direction = self.take_up(&mut state, &request);
            let (Some(direction), Some(Link { memory, peer, .. })) = (direction, &state.link)
            else {
                left.push(request);
                continue;
            };
            if prepare_at_once(memory, &request, direction) {
                self.start(&mut state, request, direction);
            } else {
                lent.get_or_insert_with(|| (memory.clone(), peer.id()));
                waiting.push(request);
            }
        }
        if lent.is_none() {
            self.announce(&state);
        }
        lent
    }

    /// Takes the slot of a new request, if there is an agent that it can go to.
    fn take_up(&self, state: &mut State, request: &Request) -> Option<Direction> {
        let direction = request.direction()?;
        if request.has_history() || self.is_dying() {
            return None;
        }
        state.occupy(request.tag()).ok()?;
        Some(direction)
    }

    /// Whether nothing may become in flight any more; asked under the lock. Whoever fails what is
    /// in flight on a dying device sets `dying` first and takes the lock then.
    fn is_dying(&self) -> bool {
        self.fate.is_dying()
    }

    /// Starts a request that has its slot and all that it needs, and sends it.
    fn start(&self, state: &mut State, request: Request, direction: Direction) {
        request.start();
        let bytes = request.bytes();
        self.push(state, Sent { request, direction, bytes }, false, false);
    }

    /// `last`: nothing follows at once, so ring the doorbell.
    fn push(&self, state: &mut State, sent: Sent, repeated: bool, last: bool) {
        let Sent { direction, bytes, .. } = sent;
        let (tag, sector) = (sent.request.tag(), sent.request.sector());
        let State { link: Some(link), slots, .. } = state else { return };
        let (Some(slot), Some(ring)) = (slots.get_mut(tag), link.memory.submissions()) else {
            return;
        };
        slot.generation = slot.generation.next();
        let submission = Submission {
            tag: Tag(tag as u16),
            op: if direction == Direction::Read { Op::Read } else { Op::Write },
            repeated,
            generation: slot.generation,
            arg: sector,
            len: bytes as u32,
        };
        slot.used = Use::InFlight(sent);
        link.submissions.push(&ring, &submission.to_words());
        if last {
            self.ring_doorbell(link, &ring);
        }
    }

    /// Publishes what was pushed and wakes the agent's worker if it sleeps.
    fn ring_doorbell(&self, link: &Link, ring: &Submissions<'_>) {
        link.submissions.publish(ring);
        link.peer.announce(self.queue, self.device as usize);
    }

    /// Ends a batch of submissions whose last one was not said to be the last.
    pub(super) fn commit(&self) {
        self.announce(&self.state.lock());
    }

    fn announce(&self, state: &State) {
        let Some(link) = &state.link else { return };
        if let Some(ring) = link.memory.submissions() {
            self.ring_doorbell(link, &ring);
        }
    }
}
