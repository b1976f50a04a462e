// SPDX-License-Identifier: GPL-2.0-only
//! The control channel: what sysfs asks of the agent, and its answers.
//!
//! Before: [`crate::commands`] makes a [`Request`] and waits. After: the agent's control worker
//! takes it from the ring; its ENTER ioctl calls [`reap`], which wakes the waiter. A request that
//! an agent leaves behind is handed to the next one, marked as repeated; its waiter waits on, until
//! [`fail_all`] says that no agent came.
//!
//! # Lock order
//! `CONTROL` → a request's `outcome`. A waiter holds neither while it sleeps on another's work.

use crate::{
    ffi::{
        errors::{EDEADLK, ENOTCONN, EPROTO, ESHUTDOWN},
        mm::AddressSpace,
    },
    log,
    memory::Memory,
    params,
    proto::{
        descriptor::{
            Completion, Generation, Op, Submission, Tag, COMPLETION_WORDS, SUBMISSION_WORDS,
        },
        layout::{Mapping, CONTROL},
        ring::{Consumer, Producer},
    },
    session::{self, Session},
};
use kernel::{
    alloc::AllocError,
    new_condvar, new_mutex,
    prelude::*,
    sync::{global_lock, Arc, CondVar, CondVarTimeoutResult, Mutex},
    time::msecs_to_jiffies,
};

/// The agent's answer.
struct Reply {
    status: i32,
    payload: KVec<u8>,
}

/// Why a request was not done, with the agent's own words.
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
struct Request {
    op: Op,
    arg: u64,
    payload: KVec<u8>,
    /// Whether anybody waits for the answer.
    #[pin]
    outcome: Mutex<Option<Result<Reply>>>,
    #[pin]
    done: CondVar,
}

impl Request {
    fn new(op: Op, arg: u64, payload: &[u8]) -> Result<Arc<Self>> {
        let mut bytes = KVec::with_capacity(payload.len(), GFP_KERNEL)?;
        bytes.extend_from_slice(payload, GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Self {
                op,
                arg,
                payload: bytes,
                outcome <- new_mutex!(None, "srb::control_outcome"),
                done <- new_condvar!("srb::control_done"),
            }),
            GFP_KERNEL,
        )
    }

    fn finish(&self, outcome: Result<Reply>) {
        self.outcome.lock().get_or_insert(outcome);
        self.done.notify_all();
    }
}

struct Pending {
    request: Arc<Request>,
    repeated: bool,
}

struct Slot {
    generation: Generation,
    pending: Option<Pending>,
}

impl Slot {
    const EMPTY: Self = Self { generation: Generation(0), pending: None };
}

struct Link {
    session: Arc<Session>,
    memory: Arc<Memory>,
    submissions: Producer<SUBMISSION_WORDS>,
    completions: Consumer<COMPLETION_WORDS>,
}

struct Control {
    link: Option<Link>,
    slots: [Slot; CONTROL.depth as usize],
    /// Without a tag yet, or without an agent.
    queued: KVec<Pending>,
    exiting: bool,
}

global_lock! {
    // SAFETY: `init` runs before anything else of the module.
    unsafe(uninit) static CONTROL_STATE: Mutex<Control> = Control {
        link: None,
        slots: [const { Slot::EMPTY }; CONTROL.depth as usize],
        queued: KVec::new(),
        exiting: false,
    };
}

/// # Safety
/// Called once, before anything else here.
pub(crate) unsafe fn init() {
    // SAFETY: The contract.
    unsafe { CONTROL_STATE.init() };
}

/// How long a caller waits for an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// As long as the parameters allow the agent; a signal ends it, and cancels the request.
    Interruptible,
    /// So many milliseconds, signals or not.
    AtMost(u32),
}

/// Asks the agent and waits for its answer, the payload of the reply.
///
/// ENOTCONN: no agent. EINTR: a signal came; the agent is told to undo what it began. ETIMEDOUT: no
/// answer in time. EDEADLK: the caller is the agent. Else what the agent answers.
pub(crate) fn call(op: Op, arg: u64, payload: &[u8], wait: Wait) -> Result<KVec<u8>, Failure> {
    call_marked(op, arg, payload, false, wait)
}

/// As [`call`]; `repeated`: what is asked may have been done before.
pub(crate) fn call_marked(
    op: Op,
    arg: u64,
    payload: &[u8],
    repeated: bool,
    wait: Wait,
) -> Result<KVec<u8>, Failure> {
    let request = Request::new(op, arg, payload)?;
    {
        let mut control = CONTROL_STATE.lock();
        if control.exiting {
            return Err(ENODEV.into());
        }
        let Some(link) = &control.link else { return Err(ENOTCONN.into()) };
        if link.session.is_caller() {
            return Err(EDEADLK.into());
        }
        control.queued.push(Pending { request: request.clone(), repeated }, GFP_KERNEL)?;
        control.pump();
    }
    match request.wait(wait) {
        Ok(Reply { status: 0, payload }) => Ok(payload),
        Ok(Reply { status, payload }) => {
            Err(Failure { error: Error::from_errno(status), details: payload })
        }
        Err(error) => {
            withdraw(&request);
            Err(error.into())
        }
    }
}

/// Asks the agent for something without waiting for the answer.
fn post(control: &mut Control, op: Op, arg: u64) {
    let queued = Request::new(op, arg, &[]).and_then(|request| {
        Ok(control.queued.push(Pending { request, repeated: false }, GFP_KERNEL)?)
    });
    if queued.is_err() {
        log::warning!("no memory to tell the agent that a command was interrupted\n");
    }
}

impl Request {
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
                crate::ffi::system::sleep_jiffies(nap);
                left = left.saturating_sub(nap);
                outcome = self.outcome.lock();
                continue;
            }
            match self.done.wait_interruptible_timeout(&mut outcome, left) {
                CondVarTimeoutResult::Woken { jiffies } => left = jiffies,
                CondVarTimeoutResult::Timeout => left = 0,
                CondVarTimeoutResult::Signal { .. } if outcome.is_none() => return Err(EINTR),
                CondVarTimeoutResult::Signal { .. } => {}
            }
            if left == 0 && outcome.is_none() {
                return Err(ETIMEDOUT);
            }
        }
    }
}

/// Sends those away who wait for something about a volume, as a signal would.
pub(crate) fn interrupt(volume: &[u8]) {
    let control = CONTROL_STATE.lock();
    let interrupt = |pending: &Pending| {
        if pending.request.payload.as_slice() == volume {
            pending.request.finish(Err(EINTR));
        }
    };
    control.queued.iter().for_each(interrupt);
    control.slots.iter().filter_map(|slot| slot.pending.as_ref()).for_each(interrupt);
}

/// Nobody waits for a request any more: forgets it, and tells the agent if it has it.
fn withdraw(request: &Arc<Request>) {
    let mut control = CONTROL_STATE.lock();
    control.queued.retain(|pending| !Arc::ptr_eq(&pending.request, request));
    let held = control.slots.iter().enumerate().find_map(|(tag, slot)| {
        let pending = slot.pending.as_ref()?;
        Arc::ptr_eq(&pending.request, request).then_some((tag, slot.generation))
    });
    if let Some((tag, generation)) = held {
        post(&mut control, Op::Cancel, Submission::cancel_arg(Tag(tag as u16), generation));
        control.pump();
    }
}

impl Control {
    /// Submits what is queued, as far as tags go.
    fn pump(&mut self) {
        let Some(link) = &mut self.link else { return };
        let mut sent = false;
        while !self.queued.is_empty() {
            let free = self.slots.iter_mut().enumerate().find(|(_, slot)| slot.pending.is_none());
            let Some((tag, slot)) = free else { break };
            let Ok(pending) = self.queued.remove(0) else { break };
            // The agent may use the whole window for its reply.
            let backed = link
                .memory
                .back(tag, CONTROL.window_bytes as usize, GFP_KERNEL)
                .and_then(|()| link.memory.write_window(tag, &pending.request.payload));
            if let Err(error) = backed {
                pending.request.finish(Err(error));
                continue;
            }
            let Some(ring) = link.memory.submissions() else { break };
            slot.generation = slot.generation.next();
            let submission = Submission {
                tag: Tag(tag as u16),
                op: pending.request.op,
                repeated: pending.repeated,
                generation: slot.generation,
                arg: pending.request.arg,
                len: pending.request.payload.len() as u32,
            };
            slot.pending = Some(pending);
            link.submissions.push(&ring, &submission.to_words());
            link.submissions.publish(&ring);
            sent = true;
        }
        if sent {
            session::announce_request(&link.session);
        }
    }

    /// Takes one completion; `None` when there is no more.
    fn reap_one(&mut self) -> Result<Option<()>> {
        let Some(link) = &mut self.link else { return Ok(None) };
        let ring = link.memory.completions().ok_or(EPROTO)?;
        let Some(words) = link.completions.pop(&ring).map_err(|_| EPROTO)? else {
            return Ok(None);
        };
        let completion = Completion::from_words(words);
        let tag = completion.tag.index();
        let slot = self.slots.get_mut(tag).ok_or(EPROTO)?;
        if slot.generation != completion.generation {
            return Ok(Some(()));
        }
        let Some(pending) = slot.pending.take() else { return Ok(Some(())) };
        if !completion.status_is_valid() || completion.len > CONTROL.window_bytes {
            pending.request.finish(Err(EPROTO));
            return Err(EPROTO);
        }
        let reply = KVec::from_elem(0u8, completion.len as usize, GFP_KERNEL)
            .map_err(Error::from)
            .and_then(|mut payload| {
                link.memory.read_window(tag, &mut payload)?;
                Ok(Reply { status: completion.status, payload })
            });
        pending.request.finish(reply);
        Ok(Some(()))
    }
}

/// Makes a new session's control channel and submits what waits for an agent.
pub(crate) fn connect(session: Arc<Session>, space: AddressSpace) -> Result {
    let memory = Memory::channel(Mapping::Control, CONTROL, 0, space)?;
    let mut control = CONTROL_STATE.lock();
    if control.exiting {
        return Err(ENODEV);
    }
    control.link =
        Some(Link { session, memory, submissions: Producer::new(), completions: Consumer::new() });
    control.pump();
    Ok(())
}

/// Takes the control channel away from the session that has it; what was in flight waits for the
/// next one.
pub(crate) fn disconnect() {
    let link = {
        let mut control = CONTROL_STATE.lock();
        let Control { link, slots, queued, .. } = &mut *control;
        for slot in slots {
            let Some(mut pending) = slot.pending.take() else { continue };
            pending.repeated = true;
            let request = pending.request.clone();
            if queued.push(pending, GFP_KERNEL).is_err() {
                request.finish(Err(ENOMEM));
            }
        }
        // What is about one agent's own state is nothing to the next one.
        queued.retain(|pending| match pending.request.op {
            Op::Cancel => false,
            Op::Open | Op::Close => {
                pending.request.finish(Err(ENOTCONN));
                false
            }
            _ => true,
        });
        link.take()
    };
    if let Some(link) = link {
        link.memory.revoke();
    }
}

/// No agent came in time: everybody who waits for one is told so.
pub(crate) fn fail_all() {
    let mut control = CONTROL_STATE.lock();
    if control.link.is_none() {
        while let Some(pending) = control.queued.pop() {
            pending.request.finish(Err(ENOTCONN));
        }
    }
}

/// The module goes: everybody who waits is sent away, and nobody comes in any more.
pub(crate) fn shut_down() {
    let mut control = CONTROL_STATE.lock();
    control.exiting = true;
    while let Some(pending) = control.queued.pop() {
        pending.request.finish(Err(ENODEV));
    }
    for slot in &mut control.slots {
        if let Some(pending) = slot.pending.take() {
            pending.request.finish(Err(ENODEV));
        }
    }
    // Nobody comes in any more, and nothing frees a static.
    control.queued = KVec::new();
}

/// Whether somebody waits for an agent to come.
pub(crate) fn has_waiters() -> bool {
    !CONTROL_STATE.lock().queued.is_empty()
}

/// Applies what the agent has completed, a bounded number of entries; EPROTO ends the session.
pub(crate) fn reap(session: &Session) -> Result<usize> {
    let outcome = {
        let mut control = CONTROL_STATE.lock();
        if control.link.as_ref().is_none_or(|link| link.session.id() != session.id()) {
            return Err(ESHUTDOWN);
        }
        let outcome =
            (0..CONTROL.depth.wrapping_mul(2)).try_fold(0usize, |applied, _| {
                match control.reap_one() {
                    Ok(Some(())) => Ok(applied.wrapping_add(1)),
                    Ok(None) => Err(Ok(applied)),
                    Err(error) => Err(Err(error)),
                }
            });
        control.pump();
        outcome
    };
    match outcome {
        Ok(applied) | Err(Ok(applied)) => Ok(applied),
        Err(Err(error)) => {
            log::error!("session {}: the control channel is corrupt\n", session.id());
            session.end("its control channel is corrupt");
            Err(error)
        }
    }
}

/// The memory that `session` may map.
pub(crate) fn memory_for(session: &Session) -> Option<Arc<Memory>> {
    let control = CONTROL_STATE.lock();
    let link = control.link.as_ref()?;
    (link.session.id() == session.id()).then(|| link.memory.clone())
}
