// SPDX-License-Identifier: GPL-2.0-only
//! Who is to be woken for a connection: whoever uses it, and not for what they do themselves.
//!
//! Before: [`super::link`] and [`super::alarm`] give this waker to hyper, the socket and the timer,
//! the same one as long as the connection lives, so that nobody has to be told of another. After:
//! the request's task. The halves of hyper that a request polls by turns wake each other all the
//! time; such a wake-up is answered by another round at once, and costs the task nothing.
//!
//! # Invariants
//! A wake-up is heard by the round that is under way, or by the task.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Nobody polls.
const IDLE: u8 = 0;
/// Somebody does.
const POLLING: u8 = 1;
/// Somebody does, and there was a wake-up meanwhile.
const WOKEN: u8 = 2;

/// Rounds without a look at anything else.
const ROUNDS: usize = 4;

/// One connection's waker.
#[derive(Debug)]
pub(crate) struct Wakeup {
    target: Arc<Target>,
    /// Wakes `target`.
    waker: Waker,
}

#[derive(Debug, Default)]
struct Target {
    state: AtomicU8,
    /// There was a wake-up since [`News::take`].
    news: AtomicBool,
    task: AtomicWaker,
}

/// Whether anything has woken a connection.
#[derive(Debug)]
pub(crate) struct News(Arc<Target>);

impl News {
    /// Whether there was a wake-up since the last call.
    pub(crate) fn take(&self) -> bool {
        // ORDERING: acquire, pairs with the release in `wake_by_ref`. Nearly always there are no
        // news, and a load costs less than a swap.
        self.0.news.load(Ordering::Acquire) && self.0.news.swap(false, Ordering::AcqRel)
    }
}

impl Wakeup {
    pub(crate) fn new() -> Self {
        let target = Arc::new(Target::default());
        Self { waker: Waker::from(Arc::clone(&target)), target }
    }

    pub(crate) const fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Wake-ups from now on.
    pub(crate) fn news(&self) -> News {
        News(Arc::clone(&self.target))
    }

    /// Polls, and again for as long as polling itself is what wakes.
    pub(crate) fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.target.task.register(cx.waker());
        let mut own = Context::from_waker(&self.waker);
        for _ in 0..ROUNDS {
            self.target.state.store(POLLING, Ordering::Relaxed);
            let polled = poll(&mut own);
            // ORDERING: acquire, pairs with the release in `wake_by_ref`: the next round sees what
            // the wake-up was for.
            let woken = self.target.state.swap(IDLE, Ordering::AcqRel) == WOKEN;
            if polled.is_ready() || !woken {
                return polled;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Does something just before a poll that would have it polled.
    pub(crate) fn before_poll<T>(&self, act: impl FnOnce() -> T) -> T {
        self.target.state.store(POLLING, Ordering::Relaxed);
        let result = act();
        self.target.state.store(IDLE, Ordering::Relaxed);
        result
    }
}

impl Wake for Target {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.news.store(true, Ordering::Release);
        let (release, relaxed) = (Ordering::AcqRel, Ordering::Relaxed);
        let before = self.state.compare_exchange(POLLING, WOKEN, release, relaxed);
        if before == Err(IDLE) {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn task() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    #[test]
    fn what_wakes_amid_a_poll_gets_another_round_and_no_wake_up() {
        let (count, task) = task();
        let (wakeup, mut rounds) = (Wakeup::new(), 0);
        let polled = wakeup.poll(&mut Context::from_waker(&task), |cx| {
            rounds += 1;
            if rounds < 3 {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        assert_eq!((rounds, count.0.load(Ordering::Relaxed)), (3, 0));
    }

    #[test]
    fn rounds_end_and_the_task_comes_back() {
        let (count, task) = task();
        let (wakeup, mut rounds) = (Wakeup::new(), 0);
        let polled = wakeup.poll(&mut Context::from_waker(&task), |cx| {
            rounds += 1;
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        assert_eq!((rounds, count.0.load(Ordering::Relaxed)), (ROUNDS, 1));
    }

    #[test]
    fn what_wakes_at_another_time_wakes_the_task_that_polled_last() {
        let ((one, first), (two, second)) = (task(), task());
        let wakeup = Wakeup::new();
        for task in [first, second] {
            let polled = wakeup.poll(&mut Context::from_waker(&task), |_| Poll::<()>::Pending);
            assert!(polled.is_pending());
        }
        wakeup.before_poll(|| wakeup.waker().wake_by_ref());
        assert_eq!(two.0.load(Ordering::Relaxed), 0);
        wakeup.waker().wake_by_ref();
        assert_eq!((one.0.load(Ordering::Relaxed), two.0.load(Ordering::Relaxed)), (0, 1));
    }
}
