// SPDX-License-Identifier: GPL-2.0-only
//! One queue of a device: its channel, as the worker that serves it sees it.
//!
//! The hop before is the module's submission ring; the hop after is the pipeline, at once where the
//! repository needs no waiting, else through a future of the worker's. The way back is
//! [`Queue::complete`] and [`Queue::publish`].
//!
//! # Invariants
//! - A submission is checked whole before anything of it is used: past [`Queue::fetch`] the tag has
//!   a window, the length fits it, the range lies in the volume, and no other request has the tag.
//! - Each fetched submission is completed once, unless the queue is dropped before.

use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::Arc;

use srb_proto::descriptor::{
    Completion, DataOp, Submission, Tag, COMPLETION_WORDS, SUBMISSION_WORDS,
};
use srb_proto::doorbell::ReadySet;
use srb_proto::ring::{Consumer, Overrun, Producer};
use srb_proto::status::{Errno, Status};

use super::counters::Counters;
use super::device::Device;
use super::ended::Ended;
use super::mapping::Channel;
use super::transfer::{Transfer, BEYOND_THE_END};
use crate::base::clock::{Clock, Moment};
use crate::base::window::Window;
use crate::volume::Pipeline;

/// What is said of a submission that makes no sense.
const FAILED: Status = Status::Failed(Errno::Failed);
/// Submissions taken from one queue before the next one has its turn.
const BATCH: usize = 64;

/// How a request went; errors are positive errnos.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Done,
    /// No server answered as one that works; the module holds the request for a later try.
    Held(i32),
    /// The same, and the device's policy is to fail it.
    MayPass(i32),
    /// For good.
    Failed(i32),
}

/// What one round of fetching did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Round {
    /// Whether submissions may be left.
    pub more: bool,
    /// Whether there are completions to publish.
    pub completed: bool,
    /// Submissions that were taken.
    pub taken: u32,
}

/// Requests that one round has completed at once, and their bytes, by op.
#[derive(Debug, Default)]
struct AtOnce {
    reads: (u64, u64),
    writes: (u64, u64),
}

impl AtOnce {
    fn of(&mut self, op: DataOp) -> &mut (u64, u64) {
        match op {
            DataOp::Read => &mut self.reads,
            DataOp::Write => &mut self.writes,
        }
    }

    fn add(&mut self, op: DataOp, len: u32) {
        let (requests, bytes) = self.of(op);
        *requests = requests.wrapping_add(1);
        *bytes = bytes.wrapping_add(len.into());
    }
}

/// One queue of a device. Belongs to its worker's thread.
pub struct Queue {
    device: Arc<Device>,
    number: usize,
    channel: Channel,
    windows: Rc<[Window]>,
    submissions: Consumer<SUBMISSION_WORDS>,
    completions: Producer<COMPLETION_WORDS>,
    complained: bool,
    /// Whether the worker has it on its list of queues to fetch from.
    pub is_ready: bool,
    /// Whether there are completions to publish.
    pub is_dirty: bool,
}

/// Why nothing more can come of a channel.
fn overrun(device: &Device) -> Ended {
    Ended::Nonsense(format!("the submission ring of {} is overrun", device.name))
}

impl Queue {
    /// Queue `number` of `device`, on a channel that nobody used before.
    #[must_use]
    pub fn new(device: Arc<Device>, number: u32, channel: Channel) -> Self {
        let geometry = channel.geometry();
        let window = |tag: u32| {
            let start = channel.window(Tag(u16::try_from(tag).ok()?))?;
            // SAFETY: The channel has a window of that size there, mapped while its owner lives.
            // The module leaves it alone while the tag is in flight, and `fetch` lets no second
            // request have the tag.
            Some(unsafe { Window::new(start, geometry.window_bytes as usize, channel.owner()) })
        };
        Self {
            windows: (0..geometry.depth).map_while(window).collect(),
            device,
            number: number as usize,
            channel,
            submissions: Consumer::new(),
            completions: Producer::new(),
            complained: false,
            is_ready: false,
            is_dirty: false,
        }
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Its number among the device's queues.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// The windows, by tag.
    #[must_use]
    pub fn windows(&self) -> &Rc<[Window]> {
        &self.windows
    }

    fn counters(&self) -> Option<&Counters> {
        self.device.counters.get(self.number).map(|counters| &**counters)
    }

    /// Takes submissions, a batch at most. Completes what needs no waiting, and what makes no
    /// sense; gives the rest to `start`.
    ///
    /// # Errors
    /// [`Ended`]: the ring is broken.
    pub fn fetch(
        &mut self,
        pipeline: &Pipeline,
        clock: &Clock,
        now: Moment,
        mut start: impl FnMut(&Self, Transfer),
    ) -> Result<Round, Ended> {
        let mut round = Round { more: true, completed: false, taken: 0 };
        let mut at_once = AtOnce::default();
        // Views of the rings cost more than an entry does, hence once for all entries.
        let channel = self.channel.clone();
        let submissions = channel.submissions().ok_or_else(|| overrun(&self.device))?;
        let completions = channel.completions();
        for _ in 0..BATCH {
            let popped = self.submissions.pop(&submissions);
            let Some(words) = popped.map_err(|Overrun| overrun(&self.device))? else {
                round.more = false;
                break;
            };
            round.taken = round.taken.saturating_add(1);
            let completion = match self.check(words)? {
                Err(None) => continue,
                Err(Some(malformed)) => malformed,
                Ok(transfer) => match self.try_at_once(pipeline, &transfer) {
                    Some(completion) => {
                        at_once.add(transfer.op, transfer.len);
                        completion
                    }
                    None => {
                        if let Some(counters) = self.counters() {
                            counters.tags.begin(&transfer, now);
                        }
                        start(self, transfer);
                        continue;
                    }
                },
            };
            if let Some(ring) = &completions {
                self.completions.push(ring, &completion.to_words());
            }
            round.completed = true;
        }
        if let (true, Some(counters)) = (round.completed, self.counters()) {
            let nanos = clock.now().since(now);
            for op in DataOp::ALL {
                let (requests, bytes) = *at_once.of(op);
                if requests > 0 {
                    counters.completed(op, requests, bytes, nanos);
                }
            }
        }
        Ok(round)
    }

    /// Holds a submission against all that it may say. A malformed one gives its completion, but
    /// for a tag that does not exist: the module would take that for a corrupt ring.
    fn check(
        &mut self,
        words: [u64; SUBMISSION_WORDS],
    ) -> Result<Result<Transfer, Option<Completion>>, Ended> {
        let problem = match Submission::from_words(words) {
            Err(error) => format!("{error:?}"),
            Ok(submission) => match self.transfer(&submission)? {
                Ok(transfer) => return Ok(Ok(transfer)),
                Err(problem) => format!("{problem}: {submission:?}"),
            },
        };
        if !std::mem::replace(&mut self.complained, true) {
            let (name, queue) = (&self.device.name, self.number);
            tracing::error!("{name}, queue {queue}: malformed submission: {problem}");
        }
        let [first, ..] = words;
        // Tag and generation lie where they do in a completion.
        let to = Completion::from_words([first, 0]);
        let completion = self.windows.get(to.tag.index()).map(|window| {
            window.mark_written();
            Completion { transient: false, status: FAILED.to_number(), ..to }
        });
        Ok(Err(completion))
    }

    fn transfer(&self, submission: &Submission) -> Result<Result<Transfer, &'static str>, Ended> {
        let tag = submission.tag;
        let Some(window) = self.windows.get(tag.index()) else {
            return Ok(Err("no such tag"));
        };
        if self.counters().is_none_or(|counters| counters.tags.is_in_flight(tag)) {
            return Ok(Err("the tag is in flight"));
        }
        Ok(match Transfer::new(submission, window.len()) {
            Ok(transfer) if !self.device.reaches(transfer.end())? => Err(BEYOND_THE_END),
            checked => checked,
        })
    }

    /// Carries out what needs no waiting. A failure is left to the future, which says why.
    fn try_at_once(&self, pipeline: &Pipeline, transfer: &Transfer) -> Option<Completion> {
        let Transfer { tag, generation, op, len, .. } = *transfer;
        let window = self.windows.get(tag.index())?;
        let result = match op {
            DataOp::Read => pipeline.read_at_once(window, len as usize)?,
            DataOp::Write => pipeline.write_at_once(window, len as usize)?,
        };
        result.ok().map(|()| Completion { tag, generation, transient: false, status: 0, len })
    }

    fn push(&mut self, completion: Completion) {
        if let Some(ring) = self.channel.completions() {
            self.completions.push(&ring, &completion.to_words());
        }
    }

    /// Completes a request that [`Self::fetch`] gave to `start`.
    pub fn complete(&mut self, transfer: &Transfer, outcome: Outcome, now: Moment) {
        let Transfer { tag, generation, op, len, .. } = *transfer;
        let Some(counters) = self.counters() else {
            return;
        };
        let since = counters.tags.end(tag).unwrap_or(now);
        let (transient, errno, len) = match outcome {
            Outcome::Done => {
                counters.completed(op, 1, len.into(), now.since(since));
                (false, 0, len)
            }
            Outcome::Held(errno) => {
                counters.held(op);
                (true, errno, 0)
            }
            Outcome::MayPass(errno) => {
                counters.failed(op);
                (true, errno, 0)
            }
            Outcome::Failed(errno) => {
                counters.failed(op);
                (false, errno, 0)
            }
        };
        let status = match errno {
            0 => Status::Done,
            errno => Status::Failed(Errno::or_failed(errno)),
        };
        let status = status.to_number();
        self.push(Completion { tag, generation, transient, status, len });
    }

    /// Shows the module every completion so far, and announces them in `complete`.
    pub fn publish(&mut self, complete: &ReadySet<'_, AtomicU64>) {
        if let Some(ring) = self.channel.completions() {
            self.completions.publish(&ring);
        }
        complete.insert(self.device.index as usize);
    }
}
