// SPDX-License-Identifier: GPL-2.0-only
//! How a worker learns of submissions, and announces completions.
//!
//! Before: [`super::session`] joins the session with a [`Port`] for each worker. After: the
//! worker's thread has a [`Bell`] of it. Belongs to that thread, but for the doorbell page, which
//! whoever must wake the worker has too.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::task::{Context, Poll};

use nix::errno::Errno;
use srb_proto::control::{Enter, Join};
use srb_proto::layout::Mapping;
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};

use super::control_device::ControlFile;
use super::ended::{ended, failed, BeginError, Ended};
use super::mapping::Doorbell;

/// A worker's file and doorbell page. Made where the session begins, used by its worker's thread.
pub struct Port {
    file: Box<dyn ControlFile>,
    doorbell: Arc<Doorbell>,
}

impl Port {
    pub(super) fn join(
        file: Box<dyn ControlFile>,
        session: u64,
        worker: u32,
    ) -> Result<Self, BeginError> {
        let mut join = Join { session, worker, reserved: 0 };
        file.join(&mut join).map_err(failed(format!("join as worker {worker}")))?;
        let doorbell = file
            .map(Mapping::Doorbell { worker })
            .and_then(|memory| Doorbell::new(memory).ok_or(Errno::EPROTO))
            .map_err(failed(format!("map the doorbell of worker {worker}")))?;
        Ok(Self { file, doorbell: Arc::new(doorbell) })
    }

    /// The page, for whoever must wake the worker.
    #[must_use]
    pub fn doorbell(&self) -> Arc<Doorbell> {
        Arc::clone(&self.doorbell)
    }

    /// Lets the calling thread's runtime watch the file.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn watch(self) -> io::Result<Bell> {
        let interest = Interest::READABLE | Interest::ERROR;
        let file = Watched(self.file);
        // SAFETY: The descriptor is the one that `file` owns, always the same, and it is closed
        // when `file` is dropped, which the registration outlives by nothing.
        let file = unsafe { AsyncFd::register_with_interest(file, interest) }?;
        Ok(Bell { file, doorbell: self.doorbell })
    }
}

struct Watched(Box<dyn ControlFile>);

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// A [`Port`] in its worker's runtime: how the worker learns of submissions and announces
/// completions.
pub struct Bell {
    file: AsyncFd<Watched>,
    doorbell: Arc<Doorbell>,
}

impl Bell {
    /// The shared page.
    #[must_use]
    pub fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }

    /// Lets the module reap what was announced in the complete set, and then look for submissions
    /// for so many microseconds.
    ///
    /// # Errors
    /// [`Ended`].
    pub fn enter(&self, poll_usecs: u32) -> Result<u32, Ended> {
        let how = Enter { wait: false, poll_usecs };
        loop {
            match self.file.get_ref().0.enter(how) {
                Err(Errno::EINTR) => {}
                result => return result.map_err(|errno| ended("enter", errno)),
            }
        }
    }

    /// As [`Self::enter`], then sleeps in the module until the submit set has members or seems to
    /// ([`Doorbell::knock`]), or the thread gets a signal. The thread's runtime stands still
    /// meanwhile.
    ///
    /// Whoever wants to wake the thread knocks and then sends it a signal. A thread that is not
    /// asleep yet sees the knock, in `prepare` or in the module's own looks at the set; one that is
    /// asleep gets the signal. The module makes itself ready to be woken before it looks, so
    /// nothing is between.
    ///
    /// # Errors
    /// [`Ended`].
    pub fn enter_and_sleep(&self, poll_usecs: u32) -> Result<(), Ended> {
        let sleeper = self.doorbell.sleeper();
        if !sleeper.prepare(&self.doorbell.submit()) {
            return self.enter(0).map(drop);
        }
        match self.file.get_ref().0.enter(Enter { wait: true, poll_usecs }) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(ended("enter", errno)),
        }
        sleeper.awake();
        Ok(())
    }

    /// Sleeps until the submit set has members or `others` is ready; may also return for nothing.
    ///
    /// # No wake-up is lost
    /// The module wakes once per sleep, and epoll reports that wake-up as an edge, which tokio
    /// keeps as the file's readiness until it is cleared. A submission comes at one of three times:
    /// - before `prepare` looks at the set: `prepare` sees it and there is no sleep;
    /// - after that look: the module sees `sleeping` (Dekker, see `srb_proto::doorbell`) and wakes
    ///   the file. Until the worker takes the set, poll(2) keeps saying readable, so epoll's look
    ///   at it confirms the edge, and the readiness is set anew even if an older one was cleared:
    ///   only this thread runs its reactor, so nothing is set between the sight of a readiness and
    ///   its clearing below;
    /// - after the return, with `sleeping` withdrawn: no wake-up, but the caller takes the set, or
    ///   at the latest the next `prepare` looks at it.
    ///
    /// So a readiness is cleared before the set is taken, never after, and what it stood for is in
    /// the set. One left over from an earlier sleep costs a turn for nothing and no more.
    ///
    /// # Errors
    /// [`Ended`]: the module has hung up. Shared memory was not touched after that was seen.
    pub async fn sleep(
        &self,
        mut others: impl FnMut(&mut Context<'_>) -> Poll<()>,
    ) -> Result<(), Ended> {
        let sleeper = self.doorbell.sleeper();
        if !sleeper.prepare(&self.doorbell.submit()) {
            return Ok(());
        }
        std::future::poll_fn(|cx| {
            let file = self.poll_file(cx)?;
            Poll::Ready(match (file, others(cx)) {
                (Poll::Pending, Poll::Pending) => return Poll::Pending,
                _ => Ok(()),
            })
        })
        .await?;
        sleeper.awake();
        Ok(())
    }

    fn poll_file(&self, cx: &mut Context<'_>) -> Result<Poll<()>, Ended> {
        match self.file.poll_read_ready(cx) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Err(error)) => Err(Ended::Nonsense(format!("poll: {error}"))),
            Poll::Ready(Ok(mut guard)) => {
                let ready: Ready = guard.ready();
                if ready.is_read_closed() || ready.is_error() {
                    return Err(Ended::CutOff);
                }
                guard.clear_ready();
                Ok(Poll::Ready(()))
            }
        }
    }
}
