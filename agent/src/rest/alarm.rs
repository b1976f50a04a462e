// SPDX-License-Identifier: GPL-2.0-only
//! One timer for all requests of a connection.
//!
//! Before: [`super::attempt`] says until when an answer must be there. After: the timer of the
//! runtime, which is moved only when it has gone off or would go off too late. The time that a
//! request may take is nearly always the same, so a connection in use moves its timer once in that
//! time, and not twice for each request.
//!
//! # Invariants
//! The timer goes off no later than at `deadline`.

use std::future::{poll_fn, Future};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::time::{sleep_until, Instant, Sleep};

/// The timer.
#[derive(Debug)]
pub(crate) struct Alarm {
    sleep: Pin<Box<Sleep>>,
    deadline: Instant,
    /// Whether the timer knows of `waker`.
    set: bool,
    waker: Waker,
}

impl Alarm {
    /// A timer that wakes through `waker`.
    pub(crate) fn new(waker: Waker) -> Self {
        let now = Instant::now();
        Self { sleep: Box::pin(sleep_until(now)), deadline: now, set: false, waker }
    }

    /// What becomes of `future`, whose poll sees to it that `waker` wakes its task; `None` if that
    /// is not known at `deadline`.
    pub(crate) async fn bound<F: Future>(
        &mut self,
        deadline: Instant,
        mut future: Pin<&mut F>,
    ) -> Option<F::Output> {
        self.deadline = deadline;
        if self.sleep.is_elapsed() || self.sleep.deadline() > deadline || !self.set {
            self.set(deadline);
        }
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll_over().map(|()| None),
        })
        .await
    }

    fn set(&mut self, at: Instant) {
        self.sleep.as_mut().reset(at);
        self.set = false;
    }

    fn poll_over(&mut self) -> Poll<()> {
        while !self.set || self.sleep.is_elapsed() {
            self.set = true;
            if self.sleep.as_mut().poll(&mut Context::from_waker(&self.waker)).is_pending() {
                break;
            }
            if Instant::now() >= self.deadline {
                return Poll::Ready(());
            }
            self.set(self.deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::wakeup::Wakeup;
    use std::pin::pin;
    use std::time::Duration;
    use tokio::time::{advance, sleep};

    const SECOND: Duration = Duration::from_secs(1);

    /// Waits so long for what takes so long; whether it came, and after how long.
    async fn wait(wakeup: &Wakeup, alarm: &mut Alarm, bound: Duration, takes: Duration) -> bool {
        let start = Instant::now();
        let mut takes = Box::pin(sleep(takes));
        let slow = pin!(poll_fn(|cx| wakeup.poll(cx, |cx| takes.as_mut().poll(cx))));
        let came = alarm.bound(start + bound, slow).await.is_some();
        assert!(came || (bound..bound + SECOND / 100).contains(&start.elapsed()));
        came
    }

    #[tokio::test(start_paused = true)]
    async fn each_wait_ends_at_its_own_deadline() {
        let wakeup = Wakeup::new();
        let mut alarm = Alarm::new(wakeup.waker().clone());
        for (bound, takes, comes) in [
            (3, 1, true),
            // The timer was set for the last one, and is early.
            (3, 4, false),
            (3, 4, false),
            (9, 2, true),
            // And now late.
            (1, 2, false),
            (30, 29, true),
            (5, 6, false),
        ] {
            let came = wait(&wakeup, &mut alarm, bound * SECOND, takes * SECOND).await;
            assert_eq!(came, comes, "{takes} s within {bound} s");
        }
        // It goes off while nobody waits.
        assert!(wait(&wakeup, &mut alarm, 3 * SECOND, SECOND).await);
        advance(20 * SECOND).await;
        assert!(!wait(&wakeup, &mut alarm, 3 * SECOND, 4 * SECOND).await);
    }
}
