// SPDX-License-Identifier: GPL-2.0-only
//! How many requests of one volume are at the servers at a time; can be changed while they run.
//!
//! Shared by the workers of the volume's queues. While there are requests of both directions, each
//! may have all permits but a reserve that is kept for the other one, so that a flood of writes
//! does not make reads wait behind it, nor the other way round. Whoever waits is served in order
//! within its direction; between the directions, the one that has less than its reserve goes first,
//! then who has waited longest.
//!
//! Permits count requests, and a large write keeps this machine, the network and the server as busy
//! as a hundred small reads. So while there are reads, the writes that are out have few bytes: a
//! read then waits for a few writes at the most, whatever stands in line.
//!
//! # Invariants
//! Whenever the lock is free, nobody waits who may have a permit. So a direction that waits is one
//! that has its share, or all permits are out; and each permit that comes back wakes whom it is
//! for.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Bytes that the writes at the servers may have while there are reads.
const WRITE_BYTES_BESIDE_READS: usize = 2 << 20;
/// Requests of one direction without one of the other between them, after which there are none of
/// the other to mind any more.
const ALONE: u32 = 32;

/// What a permit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// The permits.
#[derive(Debug)]
pub(crate) struct Limit {
    /// That of `state`, to be read without its lock.
    size: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    size: usize,
    next_ticket: u64,
    reads: Lane,
    writes: Lane,
}

/// One direction.
#[derive(Debug)]
struct Lane {
    /// Permits that are out.
    out: usize,
    /// What they are for.
    bytes: usize,
    /// Permits that were given to the other direction since one was given to this.
    since: u32,
    /// By ticket, which is also the order in which they came.
    waiting: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    bytes: usize,
    waker: Waker,
}

/// The right to one request.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    limit: &'a Limit,
    direction: Direction,
    bytes: usize,
}

/// Waits for a permit. Dropping it gives up the place, or the permit that it was given already.
#[derive(Debug)]
#[must_use]
struct Enter<'a> {
    limit: &'a Limit,
    direction: Direction,
    bytes: usize,
    /// Of its place in the lane.
    ticket: Option<u64>,
}

impl Limit {
    pub(crate) fn new(size: usize) -> Self {
        let size = size.max(1);
        let (reads, writes) = (Lane::default(), Lane::default());
        let state = State { size, next_ticket: 0, reads, writes };
        Self { size: AtomicUsize::new(size), state: Mutex::new(state) }
    }

    /// Changes the limit; one load if it is `size` already.
    pub(crate) fn resize(&self, size: usize) {
        let size = size.max(1);
        if self.size.load(Relaxed) == size {
            return;
        }
        let mut state = self.lock();
        self.size.store(size, Relaxed);
        state.size = size;
        Self::hand_out(state);
    }

    /// Waits for a permit for a request of so many bytes.
    pub(crate) async fn enter(&self, direction: Direction, bytes: usize) -> Permit<'_> {
        Enter { limit: self, direction, bytes, ticket: None }.await
    }

    fn give_back(&self, direction: Direction, bytes: usize) {
        let mut state = self.lock();
        let lane = state.lane(direction);
        lane.out = lane.out.saturating_sub(1);
        lane.bytes = lane.bytes.saturating_sub(bytes);
        Self::hand_out(state);
    }

    /// Gives the permits that are there to those who wait for them.
    fn hand_out(mut state: MutexGuard<'_, State>) {
        let Some(first) = state.grant() else { return };
        // More than one only after the limit has grown.
        let more: Vec<Waker> = std::iter::from_fn(|| state.grant()).collect();
        // Whoever is woken takes the lock.
        drop(state);
        first.wake();
        more.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What is kept for each direction.
    fn reserve(&self) -> usize {
        if self.size == 1 {
            0
        } else {
            (self.size / 4).max(1)
        }
    }

    fn lane(&mut self, direction: Direction) -> &mut Lane {
        match direction {
            Direction::Read => &mut self.reads,
            Direction::Write => &mut self.writes,
        }
    }

    fn may_have_one(&self, direction: Direction, bytes: usize) -> bool {
        let out = self.reads.out.saturating_add(self.writes.out);
        let (lane, other) = match direction {
            Direction::Read => (&self.reads, &self.writes),
            Direction::Write => (&self.writes, &self.reads),
        };
        let reserve = if other.is_about() { self.reserve() } else { 0 };
        out < self.size
            && lane.out < self.size.saturating_sub(reserve)
            && (direction == Direction::Read || self.minds_reads(bytes))
    }

    /// Whether another write of so many bytes leaves room for reads.
    fn minds_reads(&self, bytes: usize) -> bool {
        // One write there may always be, however large.
        !self.reads.is_about()
            || self.writes.out == 0
            || self.writes.bytes.saturating_add(bytes) <= WRITE_BYTES_BESIDE_READS
    }

    /// Counts a permit that is given.
    fn count(&mut self, direction: Direction, bytes: usize) {
        let (lane, other) = match direction {
            Direction::Read => (&mut self.reads, &mut self.writes),
            Direction::Write => (&mut self.writes, &mut self.reads),
        };
        other.since = other.since.saturating_add(1);
        lane.since = 0;
        lane.out = lane.out.saturating_add(1);
        lane.bytes = lane.bytes.saturating_add(bytes);
    }

    /// Takes the next waiter out of its lane and counts its permit.
    fn grant(&mut self) -> Option<Waker> {
        let rank = |lane: &Lane, direction| {
            let Waiter { ticket, bytes, .. } = lane.waiting.front()?;
            let free = self.may_have_one(direction, *bytes);
            free.then_some((lane.out >= self.reserve(), *ticket))
        };
        let (read, write) =
            (rank(&self.reads, Direction::Read), rank(&self.writes, Direction::Write));
        let direction = match (read, write) {
            (None, None) => return None,
            (Some(_), None) => Direction::Read,
            (None, Some(_)) => Direction::Write,
            (Some(read), Some(write)) if read < write => Direction::Read,
            (Some(_), Some(_)) => Direction::Write,
        };
        let Waiter { bytes, waker, .. } = self.lane(direction).waiting.pop_front()?;
        self.count(direction, bytes);
        Some(waker)
    }

    /// One step of waiting: whether the permit is there; otherwise `ticket` has a place.
    fn poll(
        &mut self,
        (direction, bytes): (Direction, usize),
        ticket: &mut Option<u64>,
        waker: &Waker,
    ) -> bool {
        if let Some(ticket) = *ticket {
            let Some(waiter) = self.lane(direction).place(ticket) else { return true };
            waiter.waker.clone_from(waker);
            return false;
        }
        // Nobody overtakes a larger request.
        let first = self.lane(direction).waiting.is_empty();
        if first && self.may_have_one(direction, bytes) {
            self.count(direction, bytes);
            return true;
        }
        let number = self.next_ticket;
        let waiter = Waiter { ticket: number, bytes, waker: waker.clone() };
        self.lane(direction).waiting.push_back(waiter);
        *ticket = Some(number);
        self.next_ticket = number.wrapping_add(1);
        false
    }
}

impl Default for Lane {
    /// Of a direction of which there was nothing yet.
    fn default() -> Self {
        Self { out: 0, bytes: 0, since: ALONE, waiting: VecDeque::new() }
    }
}

impl Lane {
    /// Whether there are requests of this direction, or were a moment ago.
    fn is_about(&self) -> bool {
        self.out > 0 || !self.waiting.is_empty() || self.since < ALONE
    }

    fn place(&mut self, ticket: u64) -> Option<&mut Waiter> {
        let index = self.index(ticket)?;
        self.waiting.get_mut(index)
    }

    fn index(&self, ticket: u64) -> Option<usize> {
        self.waiting.binary_search_by_key(&ticket, |waiter| waiter.ticket).ok()
    }
}

impl<'a> Future for Enter<'a> {
    type Output = Permit<'a>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Permit<'a>> {
        let Self { limit, direction, bytes, ticket } = &mut *self;
        let (limit, direction, bytes) = (*limit, *direction, *bytes);
        if !limit.lock().poll((direction, bytes), ticket, cx.waker()) {
            return Poll::Pending;
        }
        *ticket = None;
        Poll::Ready(Permit { limit, direction, bytes })
    }
}

impl Drop for Enter<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut state = self.limit.lock();
        let lane = state.lane(self.direction);
        match lane.index(ticket) {
            // Those behind wait for what this one waited for.
            Some(index) => {
                drop(lane.waiting.remove(index));
                // A smaller one may go where this one could not.
                Limit::hand_out(state);
            }
            // It was given a permit and has not seen it.
            None => {
                drop(state);
                self.limit.give_back(self.direction, self.bytes);
            }
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.limit.give_back(self.direction, self.bytes);
    }
}

#[cfg(test)]
mod tests;
