// SPDX-License-Identifier: GPL-2.0-only
//! The control worker: what is asked of the agent beside data, and what the module lets it know.
//!
//! The hop before is the module, which submits to the control channel and says when its
//! configuration has changed; the hops after are [`Volumes`] for operations on volumes and
//! [`Devices`] for devices that come and go. Runs on the main thread.
//!
//! # Invariants
//! - Every submission is completed once, also a cancelled one (with -EINTR).
//! - A cancelled operation has ended before its completion is sent: it is dropped, or, a create,
//!   has undone what it did.
//! - Opening and closing are never cancelled: they do not wait for servers.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use futures_util::future::{AbortHandle, Abortable, Aborted, LocalBoxFuture};
use futures_util::stream::FuturesUnordered;
use futures_util::StreamExt;
use nix::errno::Errno;
use nix::libc;
use srb_proto::command::check_volume_name;
use srb_proto::control::LISTING_HEAD_BYTES;
use srb_proto::descriptor::{Completion, Op, Submission, Tag, COMPLETION_WORDS, SUBMISSION_WORDS};
use srb_proto::layout::{CONFIG_CHANGED, CONTROL, CONTROL_READY, RETIRE};
use srb_proto::ring::{Consumer, Producer};
use srb_proto::status::{Errno as StatusErrno, Status};
use tokio_util::sync::CancellationToken;

use crate::device::Devices;
use crate::errors::RequestError;
use crate::failures::Failures;
use crate::logging::Log;
use crate::mapping::Channel;
use crate::paths::UrlNews;
use crate::session::{Bell, Ended, Session};
use crate::settings::Settings;
use crate::volume::{Repository, Volumes};
use crate::window::Window;

/// What is said of a submission that makes no sense.
const FAILED: Status = Status::Failed(StatusErrno::Failed);

/// What control operations work with. Everything but the session belongs to the main thread.
pub struct Office {
    /// To the module.
    pub session: Arc<Session>,
    /// To the servers.
    pub repository: Arc<Repository>,
    /// Operations on volumes.
    pub volumes: Volumes,
    /// What is served.
    pub devices: Devices,
    /// Where failures are noted.
    pub failures: Arc<Failures>,
    /// Whose level follows the module's.
    pub log: Log,
}

impl Office {
    /// Reads parameters and URLs and puts them in force.
    ///
    /// # Errors
    /// [`Ended`].
    pub fn read_config(&self) -> Result<(), Ended> {
        let (config, urls) = self.session.config()?;
        self.log.follow(config.debug);
        tracing::info!("configuration {}: {} URLs", config.version, urls.len());
        self.repository.apply(Settings::new(&config, urls));
        self.tell_active_url()
    }

    fn tell_active_url(&self) -> Result<(), Ended> {
        match self.repository.paths().news() {
            Some(UrlNews { version, active, fit_urls }) => {
                let index = u32::try_from(active).unwrap_or(u32::MAX);
                self.session.set_active_url(version, index, fit_urls)
            }
            None => Ok(()),
        }
    }

    /// Tells the module which URL is in use and which ones are fit, whenever that changes.
    pub async fn follow_active_url(&self) -> Ended {
        let mut changes = self.repository.subscribe();
        loop {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            if let Err(ended) = self.tell_active_url() {
                return ended;
            }
        }
    }
}

/// What an operation gives: its reply, or a positive errno and the details for the module's log.
type Reply = Result<Vec<u8>, (i32, String)>;

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
    /// Takes every submission and begins what it asks for.
    fn take(&mut self) -> Result<(), Ended> {
        let overrun = || Ended::Nonsense("its control channel is overrun".into());
        loop {
            let ring = self.channel.submissions().ok_or_else(overrun)?;
            let Some(words) = self.submissions.pop(&ring).map_err(|_| overrun())? else {
                return Ok(());
            };
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
    }

    /// Takes every submission, and heeds those that cancel others.
    fn take_cancels(&mut self) -> Result<(), Ended> {
        let overrun = || Ended::Nonsense("its control channel is overrun".into());
        loop {
            let ring = self.channel.submissions().ok_or_else(overrun)?;
            let Some(words) = self.submissions.pop(&ring).map_err(|_| overrun())? else {
                return Ok(());
            };
            match Submission::from_words(words) {
                Ok(submission) if submission.op == Op::Cancel => self.begin(submission),
                _ => {}
            }
        }
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

/// The name of an op in the log and in the list of failures.
fn name_of(op: Op) -> &'static str {
    match op {
        Op::Read => "read",
        Op::Write => "write",
        Op::List => "list",
        Op::Stat => "stat",
        Op::Create => "create",
        Op::Extend => "extend",
        Op::Destroy => "destroy",
        Op::Open => "open",
        Op::Close => "close",
        Op::Cancel => "cancel",
        Op::Undo => "undo",
    }
}

async fn perform(
    office: Rc<Office>,
    submission: Submission,
    payload: Vec<u8>,
    cancelled: CancellationToken,
) -> Result<Reply, Ended> {
    let Submission { op, arg, .. } = submission;
    match op {
        Op::Open | Op::Close => {
            let Ok(index) = u32::try_from(arg) else {
                return Ok(Err((libc::EINVAL, format!("no device has the index {arg}"))));
            };
            if op == Op::Close {
                office.devices.close(index).await?;
                return Ok(Ok(Vec::new()));
            }
            let opened = office.devices.open(index).await?;
            Ok(opened.map(|()| Vec::new()).map_err(|errno| not_opened(&office, index, errno)))
        }
        Op::List | Op::Stat | Op::Create | Op::Extend | Op::Destroy | Op::Undo => {
            Ok(on_volume(&office, submission, &payload, &cancelled).await)
        }
        Op::Read | Op::Write | Op::Cancel => {
            Ok(Err((libc::EINVAL, format!("{op:?} on the control channel"))))
        }
    }
}

fn not_opened(office: &Office, index: u32, errno: Errno) -> (i32, String) {
    let message = format!("device {index} cannot be served: {}", errno.desc());
    tracing::error!("{message}");
    office.failures.note_local("open", None, message.clone(), errno as i32);
    (errno as i32, message)
}

async fn on_volume(
    office: &Office,
    submission: Submission,
    payload: &[u8],
    cancelled: &CancellationToken,
) -> Reply {
    let Submission { op, arg, repeated, .. } = submission;
    let volumes = &office.volumes;
    let name = match std::str::from_utf8(payload) {
        Ok(name) if op == Op::List || check_volume_name(name).is_ok() => name,
        _ => return Err((libc::EINVAL, "not the name of a volume".into())),
    };
    let empty = |()| Vec::new();
    let result = match op {
        Op::List => volumes.list().await.map(|names| listing(&names, arg)),
        Op::Stat => volumes.stat(name).await.map(|size| size.to_ne_bytes().to_vec()),
        Op::Create => volumes.create_unless(name, arg, repeated, cancelled).await.map(empty),
        Op::Undo => volumes.undo_create(name, arg).await.map(empty),
        Op::Extend => volumes.extend(name, arg, repeated).await.map(empty),
        _ => volumes.destroy(name, repeated).await.map(empty),
    };
    result.map_err(|error| {
        let volume = (op != Op::List).then_some(name);
        office.failures.note(name_of(op), volume, &error);
        let line = one_line(&error);
        tracing::warn!("{line}");
        (error.errno(), line)
    })
}

/// The error as the module's log takes it, whatever a server put into it.
fn one_line(error: &RequestError) -> String {
    error.to_string().replace(char::is_control, " ")
}

/// The reply to a listing: as many whole names as fit into `room` bytes.
fn listing(names: &[String], room: u64) -> Vec<u8> {
    let window = CONTROL.window_bytes as usize;
    let room = usize::try_from(room).unwrap_or(window).min(window);
    let mut reply = Vec::with_capacity(LISTING_HEAD_BYTES);
    reply.extend_from_slice(&(names.len() as u64).to_ne_bytes());
    for name in names {
        if name.len() >= room.saturating_sub(reply.len()) {
            break;
        }
        reply.extend_from_slice(name.as_bytes());
        reply.push(b'\n');
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use srb_proto::control::Listing;

    #[test]
    fn a_listing_ends_with_a_whole_name() {
        let names = ["a".to_owned(), "bb".to_owned(), "ccc".to_owned()];
        for (room, expected) in [
            (0, &b""[..]),
            (9, b""),
            (10, b"a\n"),
            (12, b"a\n"),
            (13, b"a\nbb\n"),
            (17, b"a\nbb\nccc\n"),
            (u64::MAX, b"a\nbb\nccc\n"),
        ] {
            let reply = listing(&names, room);
            let listing = Listing::from_bytes(&reply).expect("a head");
            assert_eq!((listing.total, listing.names), (3, expected), "{room}");
        }
    }

    #[test]
    fn details_are_one_line() {
        let error = RequestError::plain(crate::errors::ErrorKind::Garbage, "list", "a\r\nb\u{7}");
        assert_eq!(one_line(&error), "list: a  b ");
    }
}
