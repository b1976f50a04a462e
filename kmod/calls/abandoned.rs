// SPDX-License-Identifier: GPL-2.0-only
//! Waiters that leave before their call is answered, and the calls that they leave behind.

use super::{
    channel::{lock, CallSlot},
    pending::Pending,
    Call, Reply,
};
use crate::{params, proto::descriptor::Op, rounds};
use kernel::{
    prelude::*,
    sync::Arc,
    time::{Delta, Instant},
};

/// Sends those away who wait for something about a volume, as a signal would. Returns whether the
/// agent has anything about it.
pub(crate) fn interrupt(volume: &[u8]) -> bool {
    let mut channel = lock();
    let interrupt = |pending: &Pending| {
        let meant = pending.call.payload.as_slice() == volume;
        if meant && pending.abandoned.is_none() {
            pending.call.finish(Err(EINTR));
        }
        meant
    };
    channel.queued.iter().for_each(|pending| {
        interrupt(pending);
    });
    let in_flight = channel.slots.iter_mut().filter_map(CallSlot::pending);
    in_flight.fold(false, |any, pending| interrupt(pending) || any)
}

/// Where a call was when its waiter left.
pub(super) enum Withdrawn {
    Answered(Result<Reply>),
    /// No agent has it; none will.
    Gone,
    WithAgent,
}

/// Nobody waits for a call any more: see the module's documentation.
pub(super) fn withdraw(call: &Arc<Call>, stays: bool) -> Withdrawn {
    let mut channel = lock();
    let is_it = |pending: &Pending| Arc::ptr_eq(&pending.call, call);
    if let Some(at) = channel.queued.iter().position(is_it) {
        if let Some(pending) = channel.queued.get_mut(at) {
            pending.abandoned = Some(Instant::now());
            if pending.survives() {
                rounds::start();
                return Withdrawn::Gone;
            }
        }
        drop(channel.queued.remove(at));
        return Withdrawn::Gone;
    }
    let held =
        channel.slots.iter_mut().filter_map(CallSlot::pending).find(|pending| is_it(pending));
    if let Some(pending) = held {
        pending.abandoned = Some(Instant::now());
        pending.heard = stays;
        // Opening and closing wait for no server.
        pending.cancel = !matches!(pending.op, Op::Open | Op::Close);
        channel.pump();
        rounds::start();
        return Withdrawn::WithAgent;
    }
    match call.outcome.lock().take() {
        Some(outcome) => Withdrawn::Answered(outcome),
        None => Withdrawn::Gone,
    }
}

/// The waiter of an abandoned call goes for good, unless the answer has come.
pub(super) fn leave(call: &Arc<Call>) -> Option<Result<Reply>> {
    let mut channel = lock();
    let mut held = channel.slots.iter_mut().filter_map(CallSlot::pending);
    if let Some(pending) = held.find(|pending| Arc::ptr_eq(&pending.call, call)) {
        pending.heard = false;
        return None;
    }
    call.outcome.lock().take()
}

/// Whether somebody waits for an agent to come, or an agent has what nobody waits for.
pub(crate) fn has_waiters() -> bool {
    let mut channel = lock();
    let abandoned = |slot: &mut CallSlot| slot.pending().is_some_and(|it| it.abandoned.is_some());
    !channel.queued.is_empty() || channel.slots.iter_mut().any(abandoned)
}

/// Cuts an agent off that neither carries out nor gives up what nobody waits for: the volume is
/// reserved until it does.
pub(crate) fn expire_abandoned() {
    // As long as an agent that works may take for the rest of a command.
    let deadline = Delta::from_millis(params::command_timeout_msecs().into());
    let peer = {
        let mut channel = lock();
        let late = |slot: &mut CallSlot| {
            let since = slot.pending().and_then(|pending| pending.abandoned);
            since.is_some_and(|since| since.elapsed() >= deadline)
        };
        let late = channel.slots.iter_mut().any(late);
        channel.link.as_ref().filter(|_| late).map(|link| link.peer.clone())
    };
    if let Some(peer) = peer {
        peer.cut_off("it does not give up a command that was interrupted");
    }
}
