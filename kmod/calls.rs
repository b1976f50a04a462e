// SPDX-License-Identifier: GPL-2.0-only
//! Calls: what sysfs asks of the agent, and its answers.
//!
//! Before: [`crate::commands`] makes a [`Call`] and waits. After: the agent's control worker takes
//! it from the ring of the control channel ([`channel`]); its ENTER ioctl calls [`reap`], which
//! wakes the waiter. A call that an agent leaves behind is handed to the next one, marked as
//! repeated; its waiter waits on, until [`fail_all`] says that no agent came.
//!
//! # When the waiter leaves
//! By a signal, at the time-out, or sent away by [`interrupt`]. What it was told must then hold:
//! nothing of its command begins later.
//!
//! | the call is | what becomes of it |
//! |---|---|
//! | answered | the waiter takes the answer: the command has happened |
//! | queued, no agent had it | dropped |
//! | queued, an agent had it | as below, when a session ends |
//! | with the agent | *abandoned*: Cancel is sent, and the waiter stays a moment for the answer |
//!
//! A volume is reserved by whoever is the last to have to do with it: a change holds its
//! [`Operating`] as its command does. So while an agent has an abandoned call, the volume is
//! not free. It is when the agent answers (EINTR: it is undone), when the session ends; an agent
//! that does neither is cut off ([`expire_abandoned`]). An abandoned create that its agent says to
//! have done is undone: `Undo` takes its place. When a session ends, its abandoned calls are
//! dropped, never repeated; a destroy or an extend may have happened or not, which the log says; a
//! create becomes an `Undo` for the next agent, as long as `agent_grace` lets requests wait.

use crate::{
    ffi::{
        errors::{EDEADLK, ENOTCONN},
        signals, sleep,
    },
    params,
    proto::{descriptor::Op, status::Status},
    registry::Operating,
};
use kernel::{
    alloc::AllocError,
    new_condvar, new_mutex,
    prelude::*,
    sync::{Arc, CondVar, CondVarTimeoutResult, Mutex},
    time::msecs_to_jiffies,
};

mod abandoned;
mod channel;
mod pending;

pub(crate) use abandoned::{expire_abandoned, has_waiters, interrupt};
use abandoned::{leave, withdraw, Withdrawn};
pub(crate) use channel::{connect, disconnect, fail_all, init, memory_for, reap, shut_down};
use pending::Pending;

/// The agent's answer.
struct Reply {
    status: Status,
    payload: KVec<u8>,
}

/// Why a call was not done, with the agent's own words.
pub(crate) struct Failure {
    /// For the caller of write(2).
    pub(crate) error: Error,
    /// For the log; may be empty.
    pub(crate) details: KVec<u8>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, details: KVec::new() }
    }
}

impl From<AllocError> for Failure {
    fn from(_: AllocError) -> Self {
        ENOMEM.into()
    }
}

/// Something asked of the agent.
#[pin_data]
struct Call {
    op: Op,
    arg: u64,
    payload: KVec<u8>,
    #[pin]
    outcome: Mutex<Option<Result<Reply>>>,
    #[pin]
    done: CondVar,
}

impl Call {
    fn new(op: Op, arg: u64, payload: &[u8]) -> Result<Arc<Self>> {
        let mut bytes = KVec::with_capacity(payload.len(), GFP_KERNEL)?;
        bytes.extend_from_slice(payload, GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Self {
                op,
                arg,
                payload: bytes,
                outcome <- new_mutex!(None, "srb::call_outcome"),
                done <- new_condvar!("srb::call_done"),
            }),
            GFP_KERNEL,
        )
    }

    fn finish(&self, outcome: Result<Reply>) {
        self.outcome.lock().get_or_insert(outcome);
        self.done.notify_all();
    }
}

/// How long somebody who was interrupted stays for what the agent says to that.
const CANCEL_WAIT_MSECS: u32 = 500;

/// How long a caller waits for an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// As long as the parameters allow the agent; a signal ends it, and cancels the call.
    Interruptible,
    /// So many milliseconds, signals or not.
    AtMost(u32),
}

/// Asks the agent and waits for its answer, the payload of the reply.
///
/// ENOTCONN: no agent. EINTR: a signal came; the agent is told to undo what it began. ETIMEDOUT: no
/// answer in time. EDEADLK: the caller is the agent. Else what the agent answers.
pub(crate) fn call(op: Op, arg: u64, payload: &[u8], wait: Wait) -> Result<KVec<u8>, Failure> {
    run(Pending::new(Call::new(op, arg, payload)?, false, None), wait)
}

/// As [`call`], for what changes a volume, which `operation` reserves. `repeated`: what is asked
/// may have been done before.
pub(crate) fn change(
    op: Op,
    arg: u64,
    volume: &[u8],
    repeated: bool,
    operation: &Operating,
) -> Result<(), Failure> {
    let call = Call::new(op, arg, volume)?;
    let pending = Pending::new(call, repeated, Some(operation.clone()));
    run(pending, Wait::Interruptible).map(drop)
}

fn run(pending: Pending, wait: Wait) -> Result<KVec<u8>, Failure> {
    let call = pending.call.clone();
    {
        let mut channel = channel::lock();
        if channel.exiting {
            return Err(ENODEV.into());
        }
        let Some(link) = &channel.link else { return Err(ENOTCONN.into()) };
        if link.peer.is_caller() {
            return Err(EDEADLK.into());
        }
        channel.queued.push(pending, GFP_KERNEL)?;
        channel.pump();
    }
    let stays = wait == Wait::Interruptible;
    let outcome = call.wait(wait).or_else(|error| match withdraw(&call, stays) {
        Withdrawn::Answered(reply) => reply,
        Withdrawn::Gone => Err(error),
        // A working agent says at once whether it has been done or undone.
        Withdrawn::WithAgent if stays => {
            let answer = call.wait(Wait::AtMost(CANCEL_WAIT_MSECS));
            answer.or_else(|_| leave(&call).unwrap_or(Err(error)))
        }
        Withdrawn::WithAgent => Err(error),
    });
    match outcome? {
        Reply { status: Status::Done, payload } => Ok(payload),
        Reply { status, payload } => {
            Err(Failure { error: Error::from_errno(status.to_number()), details: payload })
        }
    }
}

impl Call {
    fn wait(&self, wait: Wait) -> Result<Reply> {
        let mut left = match wait {
            Wait::Interruptible => msecs_to_jiffies(params::command_timeout_msecs()),
            Wait::AtMost(msecs) => msecs_to_jiffies(msecs),
        };
        let mut outcome = self.outcome.lock();
        loop {
            if let Some(outcome) = outcome.take() {
                return outcome;
            }
            if let Wait::AtMost(_) = wait {
                // A pending signal must not turn a bounded wait into none: look again after short
                // naps.
                if left == 0 {
                    return Err(ETIMEDOUT);
                }
                drop(outcome);
                let nap = left.min(msecs_to_jiffies(5).max(1));
                sleep::nap(nap);
                left = left.saturating_sub(nap);
                outcome = self.outcome.lock();
                continue;
            }
            match self.done.wait_interruptible_timeout(&mut outcome, left) {
                CondVarTimeoutResult::Woken { jiffies } => left = jiffies,
                CondVarTimeoutResult::Timeout => left = 0,
                CondVarTimeoutResult::Signal { jiffies } if outcome.is_none() => {
                    if signals::must_end() {
                        return Err(EINTR);
                    }
                    // The freezer, or a stop of the process that this thread has not come to.
                    drop(outcome);
                    let nap = jiffies.min(msecs_to_jiffies(10).max(1));
                    sleep::nap(nap);
                    left = jiffies.saturating_sub(nap);
                    outcome = self.outcome.lock();
                }
                CondVarTimeoutResult::Signal { .. } => {}
            }
            if left == 0 && outcome.is_none() {
                return Err(ETIMEDOUT);
            }
        }
    }
}
