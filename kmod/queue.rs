// SPDX-License-Identifier: GPL-2.0-only
//! From the block layer to a channel: what becomes of a request that comes alone.
//!
//! Before: blk-mq, in an RCU read section, in process context. After: [`Channel::submit`].

use crate::{
    channel::{Channel, Verdict},
    device::Fate,
    ffi::{
        disk::Queue,
        request::{History, Request},
    },
};
use kernel::prelude::*;

/// What blk-mq is told of a request.
pub(crate) enum Answer {
    /// The driver has it.
    Taken,
    /// Try again soon.
    Later,
    /// End it with this error.
    Failed(Error),
}

/// Takes a request from the block layer.
pub(crate) fn queue_rq(
    fate: &Fate,
    channel: &Channel,
    queue: Queue<'_>,
    request: Request,
    last: bool,
) -> Answer {
    if fate.is_dying() {
        return Answer::Failed(EIO);
    }
    let history = request.history();
    if history.waiting {
        request.remember(History { waiting: false, ..history });
        fate.release();
    }
    match history.held {
        Some(held) if !channel.is_linked_to(held.session) => {
            // Its agent has gone. From here on it waits for another one, whose time begins anew.
            request.remember(History { held: None, waiting: false, ..history });
        }
        Some(held) if !fate.holds(held.since.elapsed()) => return Answer::Failed(held.error),
        _ => {}
    }
    request.start();
    match channel.submit(request, history.repeated, last) {
        (Verdict::Parked, Some(request)) => park(fate, channel, queue, request),
        (Verdict::Later, _) => Answer::Later,
        (Verdict::Failed(error), _) => Answer::Failed(error),
        (Verdict::Taken | Verdict::Parked, _) => Answer::Taken,
    }
}

/// There is no agent: fails the request if the wait for one is over, else lets it wait on the
/// requeue list, where no timer runs.
fn park(fate: &Fate, channel: &Channel, queue: Queue<'_>, request: Request) -> Answer {
    if fate.is_failing() {
        return Answer::Failed(EIO);
    }
    request.requeue();
    // An agent may have come, or the wait ended, before the request was on the list: then nobody
    // else kicks it.
    if channel.is_served() || fate.is_failing() || fate.is_dying() {
        queue.kick_requeue_list();
    }
    Answer::Taken
}
