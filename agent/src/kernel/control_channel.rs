// SPDX-License-Identifier: GPL-2.0-only
//! The control worker: what is asked of the agent beside data, and what the module lets it know.
//!
//! The hop before is the module, which submits to the control channel and says when its
//! configuration has changed; the hops after are [`super::commands`] and [`Office::read_config`].
//! Runs on the main thread.
//!
//! # Invariants
//! - Every submission is completed once, also a cancelled one (with -EINTR).
//! - A cancelled operation has ended before its completion is sent: it is dropped, or, a create,
//!   has undone what it did.
//! - Opening and closing are never cancelled: they do not wait for servers.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{ready, Context, Poll};

use futures_util::future::{AbortHandle, Abortable, Aborted, LocalBoxFuture};
use futures_util::stream::FuturesUnordered;
use futures_util::StreamExt;
use nix::libc;
use srb_proto::descriptor::{Completion, Op, Submission, Tag, COMPLETION_WORDS, SUBMISSION_WORDS};
use srb_proto::layout::{CONFIG_CHANGED, CONTROL_READY, RETIRE};
use srb_proto::ring::{Consumer, Producer};
use srb_proto::status::{Errno as StatusErrno, Status};
use tokio_util::sync::CancellationToken;

use super::bell::Bell;
use super::commands::{perform, Reply};
use super::ended::Ended;
use super::mapping::Channel;
use super::office::Office;
use crate::base::window::Window;

/// What is said of a submission that makes no sense.
const FAILED: Status = Status::Failed(StatusErrno::Failed);

/// An operation under way, and its place on the channel.
struct Operation {
    submission: Submission,
    cancelled: CancellationToken,
    abort: AbortHandle,
    work: Abortable<LocalBoxFuture<'static, Result<Reply, Ended>>>,
}

impl Future for Operation {
    type Output = (Submission, Result<Reply, Ended>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = match ready!(Pin::new(&mut self.work).poll(cx)) {
            Ok(outcome) => outcome,
            Err(Aborted) => Ok(Err((libc::EINTR, "cancelled".into()))),
        };
        Poll::Ready((self.submission, outcome))
    }
}

/// Whether another turn follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Next,
    /// Another agent takes over.
    Last,
}

/// The control worker.
pub struct ControlWorker {
    bell: Bell,
    counter: Counter,
}

/// The channel and what was taken from it; apart from the bell, so that one can sleep on that while
/// this one works.
struct Counter {
    office: Rc<Office>,
    channel: Channel,
    windows: Rc<[Window]>,
    submissions: Consumer<SUBMISSION_WORDS>,
    completions: Producer<COMPLETION_WORDS>,
    operations: FuturesUnordered<Operation>,
    is_dirty: bool,
}

impl ControlWorker {
    /// A worker on `channel`, which nobody used before.
    #[must_use]
    pub fn new(bell: Bell, channel: Channel, office: Rc<Office>) -> Self {
        let geometry = channel.geometry();
        let window = |tag: u32| {
            let start = channel.window(Tag(u16::try_from(tag).ok()?))?;
            // SAFETY: The channel has a window of that size there, mapped while its owner lives.
            // The module leaves it alone while the tag is in flight, and `take` lets no second
            // operation have the tag.
            Some(unsafe { Window::new(start, geometry.window_bytes as usize, channel.owner()) })
        };
        let counter = Counter {
            windows: (0..geometry.depth).map_while(window).collect(),
            office,
            channel,
            submissions: Consumer::new(),
            completions: Producer::new(),
            operations: FuturesUnordered::new(),
            is_dirty: false,
        };
        Self { bell, counter }
    }

    /// Serves the control channel until another agent takes over.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn run(&mut self) -> Result<(), Ended> {
        while self.turn().await? == Turn::Next {}
        Ok(())
    }

    /// Finishes what is under way, or gives it up if it is cancelled, and takes nothing new; for
    /// the end of the process. What is not begun is the next agent's.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn drain(&mut self) -> Result<(), Ended> {
        loop {
            self.bell.doorbell().submit().take(|_| {});
            self.counter.take_cancels()?;
            self.announce()?;
            if self.counter.operations.is_empty() {
                return Ok(());
            }
            self.sleep().await?;
        }
    }

    async fn turn(&mut self) -> Result<Turn, Ended> {
        let (mut has_submissions, mut config_changed, mut next) = (false, false, Turn::Next);
        self.bell.doorbell().submit().take(|member| match member {
            CONTROL_READY => has_submissions = true,
            CONFIG_CHANGED => config_changed = true,
            RETIRE => next = Turn::Last,
            other => tracing::error!("the module announces {other} to the control worker"),
        });
        if config_changed {
            self.counter.office.read_config()?;
        }
        if has_submissions {
            self.counter.take()?;
        }
        self.announce()?;
        if next == Turn::Next {
            self.sleep().await?;
        }
        Ok(next)
    }

    fn announce(&mut self) -> Result<(), Ended> {
        if std::mem::take(&mut self.counter.is_dirty) {
            self.counter.publish();
            self.bell.doorbell().complete().insert(CONTROL_READY);
            self.bell.enter(0)?;
        }
        Ok(())
    }

    async fn sleep(&mut self) -> Result<(), Ended> {
        let Self { bell, counter } = self;
        let mut outcome = Ok(());
        // What was cancelled meanwhile must not go a step further: an agent that was stopped for a
        // while finds a server's answer and the Cancel at the same moment.
        let is_called = || !bell.doorbell().submit().is_empty();
        bell.sleep(|cx| match is_called() {
            true => Poll::Ready(()),
            false => counter.poll(cx).map(|result| outcome = result),
        })
        .await?;
        outcome
    }
}

impl Counter {
    /// The next submission, if there is one.
    fn pop(&mut self) -> Result<Option<[u64; SUBMISSION_WORDS]>, Ended> {
        let overrun = || Ended::Nonsense("its control channel is overrun".into());
        let ring = self.channel.submissions().ok_or_else(overrun)?;
        self.submissions.pop(&ring).map_err(|_| overrun())
    }

    /// Takes every submission and begins what it asks for.
    fn take(&mut self) -> Result<(), Ended> {
        while let Some(words) = self.pop()? {
            match Submission::from_words(words) {
                Ok(submission) => self.begin(submission),
                Err(error) => {
                    tracing::error!("malformed control submission: {error:?}");
                    let [first, ..] = words;
                    // Tag and generation lie where they do in a completion.
                    let to = Completion::from_words([first, 0]);
                    self.push(Completion { transient: false, status: FAILED.to_number(), ..to });
                }
            }
        }
        Ok(())
    }

    /// Takes every submission, and heeds those that cancel others.
    fn take_cancels(&mut self) -> Result<(), Ended> {
        while let Some(words) = self.pop()? {
            match Submission::from_words(words) {
                Ok(submission) if submission.op == Op::Cancel => self.begin(submission),
                _ => {}
            }
        }
        Ok(())
    }

    fn begin(&mut self, submission: Submission) {
        tracing::debug!("control: {submission:?}");
        let fits = self
            .windows
            .get(submission.tag.index())
            .is_some_and(|window| submission.len as usize <= window.len());
        let taken = self.operations.iter().any(|other| other.submission.tag == submission.tag);
        if !fits || taken {
            tracing::error!("malformed control submission: {submission:?}");
            return self.complete(&submission, Err((libc::EIO, "malformed submission".into())));
        }
        if submission.op == Op::Cancel {
            self.cancel(submission.arg);
            return self.complete(&submission, Ok(Vec::new()));
        }
        let (payload, cancelled) = (self.payload(&submission), CancellationToken::new());
        let work = perform(Rc::clone(&self.office), submission, payload, cancelled.clone());
        let (work, abort) = futures_util::future::abortable(Box::pin(work) as _);
        self.operations.push(Operation { submission, cancelled, abort, work });
    }

    fn payload(&self, submission: &Submission) -> Vec<u8> {
        let window = self.windows.get(submission.tag.index());
        window.map(|window| window.to_vec(submission.len as usize)).unwrap_or_default()
    }

    fn cancel(&self, arg: u64) {
        let (tag, generation) = Submission::cancelled(arg);
        for Operation { submission, cancelled, abort, .. } in &self.operations {
            let meant = (submission.tag, submission.generation) == (tag, generation);
            if !meant {
                continue;
            }
            match submission.op {
                // The module holds the volume until it is undone, which is when it completes.
                Op::Create => cancelled.cancel(),
                Op::Open | Op::Close | Op::Undo => continue,
                _ => abort.abort(),
            }
            tracing::info!("{:?} was cancelled", submission.op);
        }
    }

    /// Carries the operations on; ready when one is done.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        if self.operations.is_empty() {
            return Poll::Pending;
        }
        match ready!(self.operations.poll_next_unpin(cx)) {
            Some((submission, Ok(reply))) => self.complete(&submission, reply),
            Some((_, Err(ended))) => return Poll::Ready(Err(ended)),
            None => {}
        }
        Poll::Ready(Ok(()))
    }

    fn complete(&mut self, submission: &Submission, reply: Reply) {
        let Submission { tag, generation, .. } = *submission;
        let (status, bytes) = match &reply {
            Ok(bytes) => (Status::Done, bytes.as_slice()),
            Err((errno, details)) => {
                (Status::Failed(StatusErrno::or_failed(*errno)), details.as_bytes())
            }
        };
        let window = self.windows.get(tag.index());
        let room = window.map_or(0, Window::len);
        let bytes = bytes.get(..room).unwrap_or(bytes);
        let written = window.is_some_and(|window| window.copy_in(0, bytes));
        let len = if written { u32::try_from(bytes.len()).unwrap_or(0) } else { 0 };
        let status = status.to_number();
        self.push(Completion { tag, generation, transient: false, status, len });
    }

    fn push(&mut self, completion: Completion) {
        if let Some(ring) = self.channel.completions() {
            self.completions.push(&ring, &completion.to_words());
        }
        self.is_dirty = true;
    }

    fn publish(&mut self) {
        if let Some(ring) = self.channel.completions() {
            self.completions.publish(&ring);
        }
    }
}
