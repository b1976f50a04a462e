// SPDX-License-Identifier: GPL-2.0-only
//! One timer for all requests of a connection.
//!
//! Before: a try says until when an answer must be there. After: the timer of the
//! runtime, which is moved only when it has gone off or would go off too late. The time that a
//! request may take is nearly always the same, so a connection in use moves its timer once in that
//! time, and not twice for each request.
//!
//! # Invariants
//! While a request waits, the timer goes off no later than at `deadline`, and wakes its task.

use std::future::{poll_fn, Future};
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use tokio::time::{sleep_until, Instant, Sleep};

/// The timer.
#[derive(Debug)]
pub(crate) struct Alarm {
    sleep: Pin<Box<Sleep>>,
    deadline: Instant,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self { sleep: Box::pin(sleep_until(now)), deadline: now }
    }

    /// What becomes of `future`; `None` if that is not known at `deadline`.
    pub(crate) async fn bound<F: Future>(
        &mut self,
        deadline: Instant,
        mut future: Pin<&mut F>,
    ) -> Option<F::Output> {
        self.deadline = deadline;
        if self.sleep.deadline() > deadline || self.sleep.is_elapsed() {
            self.sleep.as_mut().reset(deadline);
        }
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll_over(cx).map(|()| None),
        })
        .await
    }

    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            if Instant::now() >= self.deadline {
                return Poll::Ready(());
            }
            // It was set for an earlier request.
            self.sleep.as_mut().reset(self.deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::time::Duration;
    use tokio::time::{advance, sleep};

    const SECOND: Duration = Duration::from_secs(1);

    /// Waits so long for what takes so long; whether it came, and after how long.
    async fn wait(alarm: &mut Alarm, bound: Duration, takes: Duration) -> bool {
        let start = Instant::now();
        let came = alarm.bound(start + bound, pin!(sleep(takes))).await.is_some();
        assert!(came || (bound..bound + SECOND / 100).contains(&start.elapsed()));
        came
    }

    #[tokio::test(start_paused = true)]
    async fn each_wait_ends_at_its_own_deadline() {
        let mut alarm = Alarm::new();
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
            let came = wait(&mut alarm, bound * SECOND, takes * SECOND).await;
            assert_eq!(came, comes, "{takes} s within {bound} s");
        }
        // It goes off while nobody waits.
        assert!(wait(&mut alarm, 3 * SECOND, SECOND).await);
        advance(20 * SECOND).await;
        assert!(!wait(&mut alarm, 3 * SECOND, 4 * SECOND).await);
    }
}
