// SPDX-License-Identifier: GPL-2.0-only
//! How many requests of one volume are at the servers at a time; can be changed while they run.
//!
//! Shared by the workers of the volume's queues. Each direction may have all permits but a reserve
//! that is kept for the other one, so that a flood of writes does not make reads wait behind it,
//! nor the other way round. Whoever waits is served in order within its direction; between the
//! directions, the one that has less than its reserve goes first, then who has waited longest.
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
#[derive(Debug, Default)]
struct Lane {
    /// Permits that are out.
    out: usize,
    /// By ticket, which is also the order in which they came.
    waiting: VecDeque<(u64, Waker)>,
}

/// The right to one request.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    limit: &'a Limit,
    direction: Direction,
}

/// Waits for a permit. Dropping it gives up the place, or the permit that it was given already.
#[derive(Debug)]
#[must_use]
struct Enter<'a> {
    limit: &'a Limit,
    direction: Direction,
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

    /// Waits for a permit.
    pub(crate) async fn enter(&self, direction: Direction) -> Permit<'_> {
        Enter { limit: self, direction, ticket: None }.await
    }

    fn give_back(&self, direction: Direction) {
        let mut state = self.lock();
        let lane = state.lane(direction);
        lane.out = lane.out.saturating_sub(1);
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

    fn may_have_one(&self, lane: &Lane) -> bool {
        let out = self.reads.out.saturating_add(self.writes.out);
        out < self.size && lane.out < self.size.saturating_sub(self.reserve())
    }

    /// Takes the next waiter out of its lane and counts its permit.
    fn grant(&mut self) -> Option<Waker> {
        let rank = |lane: &Lane| {
            let (ticket, _) = lane.waiting.front()?;
            self.may_have_one(lane).then_some((lane.out >= self.reserve(), *ticket))
        };
        let direction = match (rank(&self.reads), rank(&self.writes)) {
            (None, None) => return None,
            (Some(_), None) => Direction::Read,
            (None, Some(_)) => Direction::Write,
            (Some(read), Some(write)) if read < write => Direction::Read,
            (Some(_), Some(_)) => Direction::Write,
        };
        let lane = self.lane(direction);
        let (_, waker) = lane.waiting.pop_front()?;
        lane.out = lane.out.saturating_add(1);
        Some(waker)
    }

    /// One step of waiting: whether the permit is there; otherwise `ticket` has a place.
    fn poll(&mut self, direction: Direction, ticket: &mut Option<u64>, waker: &Waker) -> bool {
        if let Some(ticket) = *ticket {
            let Some((_, known)) = self.lane(direction).place(ticket) else { return true };
            known.clone_from(waker);
            return false;
        }
        let lane = match direction {
            Direction::Read => &self.reads,
            Direction::Write => &self.writes,
        };
        // By the invariant, nobody waits in a lane that may have one.
        let free = self.may_have_one(lane);
        let number = self.next_ticket;
        let lane = self.lane(direction);
        if free {
            lane.out = lane.out.saturating_add(1);
            return true;
        }
        lane.waiting.push_back((number, waker.clone()));
        *ticket = Some(number);
        self.next_ticket = number.wrapping_add(1);
        false
    }
}

impl Lane {
    fn place(&mut self, ticket: u64) -> Option<&mut (u64, Waker)> {
        let index = self.index(ticket)?;
        self.waiting.get_mut(index)
    }

    fn index(&self, ticket: u64) -> Option<usize> {
        self.waiting.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()
    }
}

impl<'a> Future for Enter<'a> {
    type Output = Permit<'a>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Permit<'a>> {
        let Self { limit, direction, ticket } = &mut *self;
        let (limit, direction) = (*limit, *direction);
        if !limit.lock().poll(direction, ticket, cx.waker()) {
            return Poll::Pending;
        }
        *ticket = None;
        Poll::Ready(Permit { limit, direction })
    }
}

impl Drop for Enter<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut state = self.limit.lock();
        let lane = state.lane(self.direction);
        match lane.index(ticket) {
            // Those behind wait for what this one waited for.
            Some(index) => drop(lane.waiting.remove(index)),
            // It was given a permit and has not seen it.
            None => {
                drop(state);
                self.limit.give_back(self.direction);
            }
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.limit.give_back(self.direction);
    }
}

#[cfg(test)]
mod tests;
