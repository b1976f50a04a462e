// SPDX-License-Identifier: GPL-2.0-only
//! One channel of the simulated module: its tags, what is in flight on them and what waits for one.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use srb_proto::descriptor::{
    Completion, Generation, Op, Submission, Tag, COMPLETION_WORDS, SUBMISSION_WORDS,
};
use srb_proto::layout::{Geometry, ABI_VERSION, MAGIC};
use srb_proto::ring::{Consumer, Producer};

use super::lock;
use super::session::{Memory, SimSession};
use crate::kernel::mapping::{Channel, Mapped};

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The request's.
    pub cookie: u64,
    /// 0, or a negative errno.
    pub status: i32,
    /// As the agent said.
    pub len: u32,
    /// So many bytes of the window, if the request wanted them.
    pub bytes: Vec<u8>,
}

type Answer = Box<dyn FnOnce(Reply) + Send>;
type Forge = Box<dyn FnOnce(Tag, Generation) -> [u64; SUBMISSION_WORDS] + Send>;

/// A request to be submitted.
pub struct Request {
    op: Op,
    arg: u64,
    len: u32,
    payload: Vec<u8>,
    wants_bytes: bool,
    repeated: bool,
    cookie: u64,
    answer: Answer,
    forge: Option<Forge>,
}

impl Request {
    /// A request that is answered to `replies`. `arg` is the first sector, or what the op says.
    #[must_use]
    pub fn new(op: Op, arg: u64, len: u32, replies: &Sender<Reply>) -> Self {
        let replies = replies.clone();
        // A test that has seen enough has dropped the receiver.
        Self::answered_by(op, arg, len, move |reply| drop(replies.send(reply)))
    }

    /// A request whose answer goes to `answer`, on whatever thread it comes.
    #[must_use]
    pub fn answered_by(
        op: Op,
        arg: u64,
        len: u32,
        answer: impl FnOnce(Reply) + Send + 'static,
    ) -> Self {
        let (payload, answer) = (Vec::new(), Box::new(answer));
        let (wants_bytes, repeated, cookie, forge) = (false, false, 0, None);
        Self { op, arg, len, payload, wants_bytes, repeated, cookie, answer, forge }
    }

    /// The same with bytes for the window.
    #[must_use]
    pub fn with_payload(self, payload: Vec<u8>) -> Self {
        Self { payload, ..self }
    }

    /// The same, its reply with the window's bytes.
    #[must_use]
    pub fn wanting_bytes(self) -> Self {
        Self { wants_bytes: true, ..self }
    }

    /// The same with a number that comes back in the reply.
    #[must_use]
    pub fn with_cookie(self, cookie: u64) -> Self {
        Self { cookie, ..self }
    }

    pub(super) fn forged(self, forge: Forge) -> Self {
        Self { forge: Some(forge), ..self }
    }

    fn answer(self, status: i32, len: u32, bytes: Vec<u8>) {
        (self.answer)(Reply { cookie: self.cookie, status, len, bytes });
    }
}

/// A lane's connection to an agent.
pub(super) struct Link {
    session: Arc<SimSession>,
    memory: Memory,
    channel: Channel,
    submissions: Producer<SUBMISSION_WORDS>,
    completions: Consumer<COMPLETION_WORDS>,
}

impl Link {
    pub(super) fn new(
        session: Arc<SimSession>,
        geometry: Geometry,
        attachment: u64,
    ) -> io::Result<Self> {
        let memory = Memory::new(geometry.total_bytes())?;
        let halves = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let header = [
            MAGIC,
            halves(ABI_VERSION, geometry.depth),
            halves(geometry.window_bytes, 0),
            attachment,
        ];
        let view = memory.map()?;
        view.write_words(0, &header);
        let channel = Channel::new(view, geometry).map_err(io::Error::other)?;
        let (submissions, completions) = (Producer::new(), Consumer::new());
        Ok(Self { session, memory, channel, submissions, completions })
    }

    fn fill(&self, tag: Tag, bytes: &[u8]) {
        if let Some(window) = self.channel.window(tag) {
            let source = std::ptr::NonNull::from(bytes).cast();
            // SAFETY: Requests are no larger than a window (`Lane::pump`), the window is mapped
            // while `self` lives, and the agent leaves it alone while the tag is not in flight.
            unsafe { window.copy_from_nonoverlapping(source, bytes.len()) };
        }
    }

    fn copy(&self, tag: Tag, len: u32) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        if let Some(window) = self.channel.window(tag) {
            let target = std::ptr::NonNull::from(bytes.as_mut_slice()).cast();
            // SAFETY: `Lane::reap` has seen that the window has `len` bytes; it is mapped while
            // `self` lives, and the agent is done with it.
            unsafe { window.copy_to_nonoverlapping(target, bytes.len()) };
        }
        bytes
    }
}

#[derive(Default)]
struct Slot {
    generation: Generation,
    request: Option<Request>,
}

struct State {
    link: Option<Link>,
    slots: Vec<Slot>,
    free: Vec<u16>,
    queued: VecDeque<Request>,
    late: u64,
}

pub(super) struct Lane {
    geometry: Geometry,
    worker: u32,
    member: usize,
    state: Mutex<State>,
}

impl Lane {
    /// A channel that `worker` serves, announced as `member` of its submit set.
    pub(super) fn new(geometry: Geometry, worker: u32, member: usize) -> Self {
        let depth = u16::try_from(geometry.depth).unwrap_or(u16::MAX);
        let state = State {
            link: None,
            slots: (0..depth).map(|_| Slot::default()).collect(),
            free: (0..depth).rev().collect(),
            queued: VecDeque::new(),
            late: 0,
        };
        Self { geometry, worker, member, state: Mutex::new(state) }
    }

    /// Submits requests, or queues those for which there is no tag or no agent. Gives the last tag.
    pub(super) fn submit(
        &self,
        requests: impl IntoIterator<Item = Request>,
    ) -> Option<(Tag, Generation)> {
        let mut state = lock(&self.state);
        state.queued.extend(requests);
        self.pump(&mut state)
    }

    fn pump(&self, state: &mut State) -> Option<(Tag, Generation)> {
        let State { link, slots, free, queued, .. } = state;
        let link = link.as_mut()?;
        let ring = link.channel.submissions()?;
        let mut last = None;
        while let (Some(&number), false) = (free.last(), queued.is_empty()) {
            let Some(mut request) = queued.pop_front() else { break };
            let Some(slot) = slots.get_mut(usize::from(number)) else { break };
            free.pop();
            let tag = Tag(number);
            slot.generation = slot.generation.next();
            let generation = slot.generation;
            request.payload.truncate(self.geometry.window_bytes as usize);
            link.fill(tag, &request.payload);
            let Request { op, repeated, arg, len, .. } = request;
            let words = match request.forge.take() {
                Some(forge) => forge(tag, generation),
                None => Submission { tag, op, repeated, generation, arg, len }.to_words(),
            };
            link.submissions.push(&ring, &words);
            slot.request = Some(request);
            last = Some((tag, generation));
        }
        if last.is_some() {
            link.submissions.publish(&ring);
            link.session.announce(self.worker, self.member);
        }
        last
    }

    /// Applies what the agent has completed.
    pub(super) fn reap(&self) -> Result<u32, Errno> {
        let mut state = lock(&self.state);
        let mut applied = 0;
        loop {
            let State { link, slots, free, late, .. } = &mut *state;
            let Some(link) = link else { return Ok(applied) };
            let ring = link.channel.completions().ok_or(Errno::EPROTO)?;
            let Some(words) = link.completions.pop(&ring).map_err(|_| Errno::EPROTO)? else {
                self.pump(&mut state);
                return Ok(applied);
            };
            let completion = Completion::from_words(words);
            let Completion { tag, generation, status, len, .. } = completion;
            let slot = slots.get_mut(tag.index()).ok_or(Errno::EPROTO)?;
            if slot.generation != generation || slot.request.is_none() {
                *late += 1;
                continue;
            }
            if completion.status().is_none() || len > self.geometry.window_bytes {
                return Err(Errno::EPROTO);
            }
            if let Some(request) = slot.request.take() {
                let bytes = if request.wants_bytes { link.copy(tag, len) } else { Vec::new() };
                request.answer(status, len, bytes);
                free.push(tag.0);
                applied += 1;
            }
        }
    }

    /// Connects the lane to an agent and submits what waits for one.
    pub(super) fn link(&self, link: Link) {
        let mut state = lock(&self.state);
        state.link = Some(link);
        self.pump(&mut state);
    }

    /// Takes the lane away from its agent; what was in flight waits for the next one.
    pub(super) fn unlink(&self) {
        let mut state = lock(&self.state);
        let State { link, slots, free, queued, .. } = &mut *state;
        *link = None;
        for (slot, tag) in slots.iter_mut().zip(0u16..) {
            if let Some(request) = slot.request.take() {
                free.push(tag);
                queued.push_back(Request { repeated: true, ..request });
            }
        }
    }

    /// Answers everything with `errno`.
    pub(super) fn fail_all(&self, errno: Errno) {
        let mut state = lock(&self.state);
        for request in state.queued.drain(..) {
            request.answer((errno as i32).wrapping_neg(), 0, Vec::new());
        }
    }

    pub(super) fn overrun(&self) {
        let mut state = lock(&self.state);
        if let Some(link) = &mut state.link {
            if let Some(ring) = link.channel.submissions() {
                for _ in 0..self.geometry.depth * 2 {
                    link.submissions.push(&ring, &[0; SUBMISSION_WORDS]);
                }
                link.submissions.publish(&ring);
            }
            link.session.announce(self.worker, self.member);
        }
    }

    pub(super) fn late(&self) -> u64 {
        lock(&self.state).late
    }

    pub(super) fn map(&self, session: &SimSession) -> Result<Mapped, Errno> {
        match &lock(&self.state).link {
            Some(link) if link.session.number == session.number => link.memory.map(),
            _ => Err(Errno::ENOENT),
        }
    }
}
