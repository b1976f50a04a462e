// SPDX-License-Identifier: GPL-2.0-only
//! The control channel: what sysfs asks of the agent, and its answers.
//!
//! Before: [`crate::commands`] makes a [`Request`] and waits. After: the agent's control worker
//! takes it from the ring; its ENTER ioctl calls [`reap`], which wakes the waiter. A request that
//! an agent leaves behind is handed to the next one, marked as repeated; its waiter waits on, until
//! [`fail_all`] says that no agent came.
//!
//! # When the waiter leaves
//! By a signal, at the time-out, or sent away by [`interrupt`]. What it was told must then hold:
//! nothing of its command begins later.
//!
//! | the request is | what becomes of it |
//! |---|---|
//! | answered | the waiter takes the answer: the command has happened |
//! | queued, no agent had it | dropped |
//! | queued, an agent had it | as below, when a session ends |
//! | with the agent | *abandoned*: Cancel is sent, and the waiter stays a moment for the answer |
//!
//! A volume is reserved by whoever is the last to have to do with it: a change holds its
//! [`Operating`] as its command does. So while an agent has an abandoned request, the volume is
//! not free. It is when the agent answers (EINTR: it is undone), when the session ends; an agent
//! that does neither is cut off ([`expire_abandoned`]). An abandoned create that its agent says to
//! have done is undone: `Undo` takes its place. When a session ends, its abandoned requests are
//! dropped, never repeated; a destroy or an extend may have happened or not, which the log says; a
//! create becomes an `Undo` for the next agent, as long as `agent_grace` lets requests wait.
//!
//! # Lock order
//! `CONTROL` → a request's `outcome`; `CONTROL` → registry, where a volume is let go. A waiter
//! holds neither while it sleeps on another's work.

use crate::{
    ffi::{
        errors::{EDEADLK, ENOTCONN, EPROTO, ESHUTDOWN},
        mm::AddressSpace,
        noio::recovery_mutex,
        signals, sleep,
    },
    housekeeping,
    log::{self, Printable},
    memory::Memory,
    params,
    proto::{
        descriptor::{
            Completion, Generation, Op, Submission, Tag, COMPLETION_WORDS, SUBMISSION_WORDS,
        },
        layout::{Mapping, CONTROL},
        ring::{Consumer, Producer},
        status::{Errno, Status},
    },
    registry::Operating,
    session::{self, Session},
};
use kernel::{
    alloc::AllocError,
    new_condvar, new_mutex,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, CondVar, CondVarTimeoutResult, Mutex,
    },
    time::{msecs_to_jiffies, Delta, Instant, Monotonic},
};

/// The agent's answer.
struct Reply {
    status: Status,
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
    /// For a change: reserves the volume until it is known what became of it.
    operation: Option<Operating>,
    /// The request's own, unless it became an `Undo`.
    op: Op,
    arg: u64,
    repeated: bool,
    /// Since when nobody waits for it.
    abandoned: Option<Instant<Monotonic>>,
    /// Whether the agent is to be told so.
    cancel: bool,
    /// Whether the waiter that left stays for the answer to that.
    heard: bool,
}

impl Pending {
    fn new(request: Arc<Request>, repeated: bool, operation: Option<Operating>) -> Self {
        let (op, arg) = (request.op, request.arg);
        Self { request, operation, op, arg, repeated, abandoned: None, cancel: false, heard: false }
    }

    /// Answers it. The volume is let go first, so that the waiter is the last one to hold it.
    fn finish(mut self, outcome: Result<Reply>) {
        drop(self.operation.take());
        self.request.finish(outcome);
    }

    /// Nobody waits for it, and no agent has it any more. False: it is to be dropped.
    fn survives(&mut self) -> bool {
        self.cancel = false;
        match self.op {
            Op::Create | Op::Undo if self.repeated => {
                self.undo(0);
                true
            }
            Op::Destroy | Op::Extend if self.repeated => {
                log::warning!(
                    "{:?} of volume {} was interrupted, and its agent has gone: it may have \
                     happened\n",
                    self.op,
                    Printable(&self.request.payload)
                );
                false
            }
            _ => false,
        }
    }

    /// An agent will undo what an abandoned create has made.
    fn undo(&mut self, made_bytes: u64) {
        (self.op, self.arg, self.repeated) = (Op::Undo, made_bytes, true);
        (self.cancel, self.heard) = (false, false);
    }

    /// The agent has answered, and nobody waits for that. False: it is over.
    fn continues_after(&mut self, status: Status, words: &[u8]) -> bool {
        let volume = Printable(&self.request.payload);
        let words = Printable(words.get(..words.len().min(700)).unwrap_or_default());
        match (self.op, status) {
            (Op::Create, Status::Done) => {
                // A repeated one may have found what somebody else had made.
                let made = if self.repeated { 0 } else { self.arg };
                self.undo(made);
                return true;
            }
            (Op::Destroy | Op::Extend, Status::Done) => {
                log::warning!(
                    "{:?} of volume {volume} had happened before it was interrupted\n",
                    self.op
                );
            }
            (Op::Undo, Status::Failed(_)) => {
                log::warning!(
                    "an interrupted create of volume {volume} may have left it: {words}\n"
                );
            }
            (Op::Create | Op::Destroy | Op::Extend, Status::Failed(errno))
                if errno != Errno::Interrupted =>
            {
                log::warning!("{:?} of volume {volume}, which was interrupted: {words}\n", self.op);
            }
            _ => {}
        }
        false
    }
}

/// Who uses a tag.
enum Use {
    Nobody,
    /// A Cancel, of which nobody wants to know the answer.
    Cancel,
    Request(Pending),
}

struct Slot {
    generation: Generation,
    used: Use,
}

impl Slot {
    const EMPTY: Self = Self { generation: Generation(0), used: Use::Nobody };

    fn pending(&mut self) -> Option<&mut Pending> {
        match &mut self.used {
            Use::Request(pending) => Some(pending),
            Use::Nobody | Use::Cancel => None,
        }
    }

    fn is_free(&self) -> bool {
        matches!(self.used, Use::Nobody)
    }
}

/// The first tag of requests. Those before it are for Cancels, so that these go out even when all
/// others wait for an agent.
const FIRST_TAG: usize = 1;

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
    /// Statuses that are none.
    nonsense: Option<log::Limit>,
}

recovery_mutex! {
    state: CONTROL_STATE of Control = Control {
        link: None,
        slots: [const { Slot::EMPTY }; CONTROL.depth as usize],
        queued: KVec::new(),
        exiting: false,
        nonsense: None,
    }, guard pub(super) ControlGuard
}

/// Answers of agents, on any channel, that said what no answer may say.
static BAD_ANSWERS: Atomic<u64> = Atomic::new(0);

/// Counts an answer that makes no sense.
pub(crate) fn count_bad_answer() {
    BAD_ANSWERS.fetch_add(1, Relaxed);
}

/// How many there were since the module was loaded.
pub(crate) fn bad_answers() -> u64 {
    BAD_ANSWERS.load(Relaxed)
}

/// # Safety
/// Called once, before anything else here.
pub(crate) unsafe fn init() {
    // SAFETY: The contract.
    unsafe { state::init() };
}

/// How long somebody who was interrupted stays for what the agent says to that.
const CANCEL_WAIT_MSECS: u32 = 500;

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
    run(Pending::new(Request::new(op, arg, payload)?, false, None), wait)
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
    let request = Request::new(op, arg, volume)?;
    let pending = Pending::new(request, repeated, Some(operation.clone()));
    run(pending, Wait::Interruptible).map(drop)
}

fn run(pending: Pending, wait: Wait) -> Result<KVec<u8>, Failure> {
    let request = pending.request.clone();
    {
        let mut control = state::lock();
        if control.exiting {
            return Err(ENODEV.into());
        }
        let Some(link) = &control.link else { return Err(ENOTCONN.into()) };
        if link.session.is_caller() {
            return Err(EDEADLK.into());
        }
        control.queued.push(pending, GFP_KERNEL)?;
        control.pump();
    }
    let stays = wait == Wait::Interruptible;
    let outcome = request.wait(wait).or_else(|error| match withdraw(&request, stays) {
        Withdrawn::Answered(reply) => reply,
        Withdrawn::Gone => Err(error),
        // A working agent says at once whether it has been done or undone.
        Withdrawn::WithAgent if stays => {
            let answer = request.wait(Wait::AtMost(CANCEL_WAIT_MSECS));
            answer.or_else(|_| leave(&request).unwrap_or(Err(error)))
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

/// Sends those away who wait for something about a volume, as a signal would. Returns whether the
/// agent has anything about it.
pub(crate) fn interrupt(volume: &[u8]) -> bool {
    let mut control = state::lock();
    let interrupt = |pending: &Pending| {
        let meant = pending.request.payload.as_slice() == volume;
        if meant && pending.abandoned.is_none() {
            pending.request.finish(Err(EINTR));
        }
        meant
    };
    control.queued.iter().for_each(|pending| {
        interrupt(pending);
    });
    let in_flight = control.slots.iter_mut().filter_map(Slot::pending);
    in_flight.fold(false, |any, pending| interrupt(pending) || any)
}

/// Where a request was when its waiter left.
enum Withdrawn {
    Answered(Result<Reply>),
    /// No agent has it; none will.
    Gone,
    WithAgent,
}

/// Nobody waits for a request any more: see the module's documentation.
fn withdraw(request: &Arc<Request>, stays: bool) -> Withdrawn {
    let mut control = state::lock();
    let is_it = |pending: &Pending| Arc::ptr_eq(&pending.request, request);
    if let Some(at) = control.queued.iter().position(is_it) {
        if let Some(pending) = control.queued.get_mut(at) {
            pending.abandoned = Some(Instant::now());
            if pending.survives() {
                housekeeping::start();
                return Withdrawn::Gone;
            }
        }
        drop(control.queued.remove(at));
        return Withdrawn::Gone;
    }
    let held = control.slots.iter_mut().filter_map(Slot::pending).find(|pending| is_it(pending));
    if let Some(pending) = held {
        pending.abandoned = Some(Instant::now());
        pending.heard = stays;
        // Opening and closing wait for no server.
        pending.cancel = !matches!(pending.op, Op::Open | Op::Close);
        control.pump();
        housekeeping::start();
        return Withdrawn::WithAgent;
    }
    match request.outcome.lock().take() {
        Some(outcome) => Withdrawn::Answered(outcome),
        None => Withdrawn::Gone,
    }
}

/// The waiter of an abandoned request goes for good, unless the answer has come.
fn leave(request: &Arc<Request>) -> Option<Result<Reply>> {
    let mut control = state::lock();
    let mut held = control.slots.iter_mut().filter_map(Slot::pending);
    if let Some(pending) = held.find(|pending| Arc::ptr_eq(&pending.request, request)) {
        pending.heard = false;
        return None;
    }
    request.outcome.lock().take()
}

impl Control {
    /// Submits what is queued, as far as tags go.
    fn pump(&mut self) {
        let cancelled = self.pump_cancels();
        let submitted = self.pump_requests();
        if let (true, Some(link)) = (cancelled || submitted, &self.link) {
            session::announce_request(&link.session);
        }
    }

    /// Tells the agent what nobody waits for any more. Returns whether it was told anything.
    fn pump_cancels(&mut self) -> bool {
        let mut sent = false;
        loop {
            let wanted = self.slots.iter_mut().enumerate().find_map(|(tag, slot)| {
                let generation = slot.generation;
                slot.pending().is_some_and(|pending| pending.cancel).then_some((tag, generation))
            });
            let (Some((tag, generation)), Some(free)) =
                (wanted, self.slots.iter().position(Slot::is_free))
            else {
                return sent;
            };
            let arg = Submission::cancel_arg(Tag(tag as u16), generation);
            if !self.submit(free, Op::Cancel, arg, false, 0) {
                return sent;
            }
            if let Some(slot) = self.slots.get_mut(free) {
                slot.used = Use::Cancel;
            }
            if let Some(pending) = self.slots.get_mut(tag).and_then(Slot::pending) {
                pending.cancel = false;
            }
            sent = true;
        }
    }

    fn pump_requests(&mut self) -> bool {
        let mut sent = false;
        while !self.queued.is_empty() {
            let Some(link) = &self.link else { break };
            if link.session.is_retiring() {
                // It takes nothing new; the next agent gets it for the first time.
                break;
            }
            let free = self.slots.iter().skip(FIRST_TAG).position(Slot::is_free);
            let Some(tag) = free.map(|at| at.wrapping_add(FIRST_TAG)) else { break };
            let Ok(pending) = self.queued.remove(0) else { break };
            // The agent may use the whole window for its reply.
            let backed = link
                .memory
                .back(tag, CONTROL.window_bytes as usize)
                .and_then(|()| link.memory.write_window(tag, &pending.request.payload));
            if let Err(error) = backed {
                pending.finish(Err(error));
                continue;
            }
            let len = pending.request.payload.len() as u32;
            let submitted = self.submit(tag, pending.op, pending.arg, pending.repeated, len);
            if let Some(slot) = self.slots.get_mut(tag) {
                slot.used = Use::Request(pending);
            }
            sent |= submitted;
        }
        sent
    }

    /// Puts one entry into the ring; false if there is none.
    fn submit(&mut self, tag: usize, op: Op, arg: u64, repeated: bool, len: u32) -> bool {
        let (Some(link), Some(slot)) = (&mut self.link, self.slots.get_mut(tag)) else {
            return false;
        };
        let Some(ring) = link.memory.submissions() else { return false };
        slot.generation = slot.generation.next();
        let (tag, generation) = (Tag(tag as u16), slot.generation);
        let submission = Submission { tag, op, repeated, generation, arg, len };
        link.submissions.push(&ring, &submission.to_words());
        link.submissions.publish(&ring);
        true
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
        let mut pending = match core::mem::replace(&mut slot.used, Use::Nobody) {
            Use::Request(pending) => pending,
            Use::Nobody | Use::Cancel => return Ok(Some(())),
        };
        if completion.len > CONTROL.window_bytes {
            pending.finish(Err(EPROTO));
            return Err(EPROTO);
        }
        let status = completion.status().unwrap_or_else(|| {
            count_bad_answer();
            if let Some(count) = self.nonsense.get_or_insert_default().pass(1) {
                log::error!(
                    "bad answers of the agent: {}, the last one of {:?} with status {}\n",
                    count,
                    pending.op,
                    completion.status
                );
            }
            Status::Failed(Errno::Failed)
        });
        let reply = KVec::from_elem(0u8, completion.len as usize, GFP_KERNEL)
            .map_err(Error::from)
            .and_then(|mut payload| {
                link.memory.read_window(tag, &mut payload)?;
                Ok(Reply { status, payload })
            });
        if pending.abandoned.is_some() {
            let words = reply.as_ref().map_or(&[][..], |reply| reply.payload.as_slice());
            if !pending.heard && pending.continues_after(status, words) {
                if self.queued.push(pending, GFP_KERNEL).is_err() {
                    log::error!("no memory to undo what an interrupted create has made\n");
                }
                return Ok(Some(()));
            }
        }
        pending.finish(reply);
        Ok(Some(()))
    }
}

/// Makes a new session's control channel and submits what waits for an agent.
pub(crate) fn connect(session: Arc<Session>, space: AddressSpace) -> Result {
    let memory = Memory::channel(Mapping::Control, CONTROL, 0, space)?;
    let mut control = state::lock();
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
        let mut control = state::lock();
        let Control { link, slots, queued, .. } = &mut *control;
        for slot in slots {
            let Use::Request(mut pending) = core::mem::replace(&mut slot.used, Use::Nobody) else {
                continue;
            };
            pending.repeated = true;
            if pending.abandoned.is_some() && !pending.survives() {
                continue;
            }
            let request = pending.request.clone();
            if queued.push(pending, GFP_KERNEL).is_err() {
                request.finish(Err(ENOMEM));
            }
        }
        // What is about one agent's own state is nothing to the next one.
        queued.retain(|pending| match pending.op {
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
    let mut control = state::lock();
    if control.link.is_none() {
        while let Some(pending) = control.queued.pop() {
            if pending.op == Op::Undo {
                log::warning!(
                    "no agent came to undo an interrupted create of volume {}: it may be there\n",
                    Printable(&pending.request.payload)
                );
            }
            pending.finish(Err(ENOTCONN));
        }
    }
}

/// The module goes: everybody who waits is sent away, and nobody comes in any more.
pub(crate) fn shut_down() {
    let mut control = state::lock();
    control.exiting = true;
    while let Some(pending) = control.queued.pop() {
        pending.request.finish(Err(ENODEV));
    }
    for slot in &mut control.slots {
        if let Use::Request(pending) = core::mem::replace(&mut slot.used, Use::Nobody) {
            pending.finish(Err(ENODEV));
        }
    }
    // Nobody comes in any more, and nothing frees a static.
    control.queued = KVec::new();
}

/// Whether somebody waits for an agent to come, or an agent has what nobody waits for.
pub(crate) fn has_waiters() -> bool {
    let mut control = state::lock();
    let abandoned = |slot: &mut Slot| slot.pending().is_some_and(|it| it.abandoned.is_some());
    !control.queued.is_empty() || control.slots.iter_mut().any(abandoned)
}

/// Cuts an agent off that neither carries out nor gives up what nobody waits for: the volume is
/// reserved until it does.
pub(crate) fn expire_abandoned() {
    // As long as an agent that works may take for the rest of a command.
    let deadline = Delta::from_millis(params::command_timeout_msecs().into());
    let session = {
        let mut control = state::lock();
        let late = |slot: &mut Slot| {
            let since = slot.pending().and_then(|pending| pending.abandoned);
            since.is_some_and(|since| since.elapsed() >= deadline)
        };
        let late = control.slots.iter_mut().any(late);
        control.link.as_ref().filter(|_| late).map(|link| link.session.clone())
    };
    if let Some(session) = session {
        session.cut_off("it does not give up a command that was interrupted");
    }
}

/// Applies what the agent has completed, a bounded number of entries; EPROTO ends the session.
pub(crate) fn reap(session: &Session) -> Result<usize> {
    let outcome = {
        let mut control = state::lock();
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
    let control = state::lock();
    let link = control.link.as_ref()?;
    (link.session.id() == session.id()).then(|| link.memory.clone())
}
