// SPDX-License-Identifier: GPL-2.0-only
//! The machine goes to sleep, to disk or not, and wakes.
//!
//! First the kernel freezes all processes, and each of them must come to a point where it can be:
//! one that waits for a request does not. So the agent's threads go on (`stays_awake` in
//! [`crate::ffi::process`]): what the others wait for is done, and they come to such a point. Then
//! it has the devices go to sleep, those of the network among them. Here that is the sign to hold
//! new requests back, and to let the agent end those that it has while it still has a network;
//! what cannot end soon goes on after the sleep. What is held back waits as it would for an agent,
//! and is let go with the processes, or when the kernel is about to write its image to a disk.
//!
//! Before: the kernel's power management, by way of [`crate::ffi::power`]. After:
//! [`channel::hold_back`].

use crate::{
    channel,
    ffi::{power::Sleeper, sleep, work},
    log, registry,
};
use kernel::{
    impl_has_work, new_work,
    prelude::*,
    sync::Arc,
    time::{Instant, Monotonic},
    workqueue::{Work, WorkItem},
};

/// How long the machine's sleep waits for requests that are in flight.
const DRAIN_MSECS: i64 = 5000;

static WAKER: work::Place<Waker> = work::Place::empty();

/// Lets requests go; runs when the processes do.
#[pin_data]
struct Waker {
    #[pin]
    work: Work<Waker>,
}

impl_has_work! {
    impl HasWork<Self> for Waker { self.work }
}

impl WorkItem for Waker {
    type Pointer = Arc<Waker>;

    fn run(_this: Arc<Waker>) {
        wake();
    }
}

/// The work item; dropping it lets requests go.
pub(crate) struct Watch(());

impl Watch {
    /// Makes the work item. Called once.
    pub(crate) fn new() -> Result<Self> {
        WAKER
            .fill(Arc::pin_init(pin_init!(Waker { work <- new_work!("srb::waker") }), GFP_KERNEL)?);
        Ok(Self(()))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(waker) = WAKER.take() {
            work::cancel(&waker);
        }
        channel::hold_back(false);
    }
}

/// What is done when the machine goes to sleep.
pub(crate) struct Sleeps;

impl Sleeper for Sleeps {
    fn fall_asleep() {
        fall_asleep();
    }

    fn wake() {
        wake();
    }
}

fn fall_asleep() {
    let Some(waker) = WAKER.get() else { return };
    // Whoever takes a channel's lock from now on sees it, and those before are counted below.
    if channel::hold_back(true) {
        return;
    }
    let since = Instant::<Monotonic>::now();
    loop {
        let mut left = 0u32;
        registry::for_each_device(|device| {
            let active = device.channels().iter().map(|channel| channel.active());
            left = active.fold(left, u32::wrapping_add);
        });
        if left == 0 {
            break;
        }
        if since.elapsed().as_millis() >= DRAIN_MSECS {
            log::warning!("{left} requests go on after the machine's sleep\n");
            break;
        }
        sleep::sleep_msecs(10);
    }
    // On a queue that stands still until then.
    work::enqueue_for_thaw(waker);
}

/// The machine is awake again, or its image is about to be written.
fn wake() {
    if channel::hold_back(false) {
        registry::for_each_device(|device| device.kick());
    }
}
