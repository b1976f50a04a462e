// SPDX-License-Identifier: GPL-2.0-only
//! Where requests come in from the block layer, alone or in a list.
//!
//! Before: blk-mq, by way of [`crate::ffi::disk`]. After: [`Channel::submit`] and
//! [`Channel::submit_all`].

use super::{Channel, Verdict};
use crate::ffi::{
    disk::{Answer, HardwareQueue, Queue},
    request::{History, Request, Requests},
};
use kernel::prelude::*;

impl HardwareQueue for Channel {
    fn queue_rq(&self, request: Request, queue: Queue<'_>, last: bool) -> Answer {
        let fate = &self.fate;
        if fate.is_dying() {
            return Answer::Failed(EIO);
        }
        let history = request.history();
        if history.waiting {
            request.remember(History { waiting: false, ..history });
            fate.release();
        }
        match history.held {
            Some(held) if !self.is_linked_to(held.session) => {
                // Its agent has gone. From here on it waits for another one, whose time begins
                // anew.
                request.remember(History { held: None, waiting: false, ..history });
            }
            Some(held) if !fate.holds(held.since.elapsed()) => return Answer::Failed(held.error),
            _ => {}
        }
        request.start();
        match self.submit(request, history.repeated, last) {
            (Verdict::Parked, Some(request)) => self.park(queue, request),
            (Verdict::Later, _) => Answer::Later,
            (Verdict::Failed(error), _) => Answer::Failed(error),
            (Verdict::Taken | Verdict::Parked, _) => Answer::Taken,
        }
    }

    fn queue_rqs(&self, requests: impl Iterator<Item = Request>, left: &mut Requests) {
        self.submit_all(requests, left);
    }

    fn commit_rqs(&self) {
        self.commit();
    }

    fn timed_out(&self, request: usize, tag: usize) {
        self.expire(request, tag);
    }
}

impl Channel {
    /// There is no agent: fails the request if the wait for one is over, else lets it wait on the
    /// requeue list, where no timer runs.
    fn park(&self, queue: Queue<'_>, request: Request) -> Answer {
        let fate = &self.fate;
        if fate.is_failing() {
            return Answer::Failed(EIO);
        }
        request.requeue();
        // An agent may have come, or the wait ended, before the request was on the list: then
        // nobody else kicks it.
        if self.is_served() || fate.is_failing() || fate.is_dying() {
            queue.kick_requeue_list();
        }
        Answer::Taken
    }
}
