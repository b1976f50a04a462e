// SPDX-License-Identifier: GPL-2.0-only
//! The agent at the other end of a session: its doorbells, what it takes, and how one gets rid of
//! it.
//!
//! The channels know it, and nothing else of the session ([`crate::session`]), which makes it and
//! says when it has ended.

use crate::{
    ffi::{machine, mm::AddressSpace, process, work},
    log,
    proto::layout::{CONTROL_WORKER, RETIRE},
};
use kernel::{
    impl_has_work, new_work,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed, Release},
        Arc,
    },
    workqueue::{Work, WorkItem},
};

mod worker;
pub(crate) use worker::Worker;

/// See the module's documentation.
#[pin_data]
pub(crate) struct Peer {
    id: u64,
    owner: i32,
    space: AddressSpace,
    /// One for each queue, by its number; then the control worker.
    workers: KVec<Pin<KBox<Worker>>>,
    ended: Atomic<bool>,
    /// Another agent takes over: nothing new is submitted.
    retiring: Atomic<bool>,
    /// Whether it is being cut off.
    doomed: Atomic<bool>,
    /// Ends its session.
    end: fn(&Peer),
    #[pin]
    cut_off: Work<Peer>,
}

impl_has_work! {
    impl HasWork<Self> for Peer { self.cut_off }
}

impl WorkItem for Peer {
    type Pointer = Arc<Peer>;

    fn run(this: Arc<Peer>) {
        (this.end)(&this);
    }
}

impl Peer {
    /// The calling process, whose memory is mapped by files of `space`. `end` is called, in a
    /// context that may sleep, when it is to be cut off.
    pub(crate) fn new(id: u64, space: AddressSpace, end: fn(&Peer)) -> Result<Arc<Self>> {
        let mut workers = KVec::new();
        for number in Iterator::chain(0..machine::queues(), [CONTROL_WORKER]) {
            workers.push(Worker::new(number, space)?, GFP_KERNEL)?;
        }
        Arc::pin_init(
            pin_init!(Self {
                id,
                owner: process::current_process(),
                space,
                workers,
                ended: Atomic::new(false),
                retiring: Atomic::new(false),
                doomed: Atomic::new(false),
                end,
                cut_off <- new_work!("srb::cut_off"),
            }),
            GFP_KERNEL,
        )
    }

    /// Number of its session, never used again.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The agent's process.
    pub(crate) fn owner(&self) -> i32 {
        self.owner
    }

    /// Whether the calling process is the agent.
    pub(crate) fn is_caller(&self) -> bool {
        self.owner == process::current_process()
    }

    /// Where its memory is mapped, and taken away.
    pub(crate) fn space(&self) -> AddressSpace {
        self.space
    }

    /// Whether its session is over.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Acquire)
    }

    /// Its session ends. Its workers' memory is taken away and their threads are woken by
    /// [`Worker::revoke`].
    pub(crate) fn set_ended(&self) {
        // ORDERING: release, pairs with the acquire in `has_ended`.
        self.ended.store(true, Release);
    }

    /// Whether another agent takes over, so that it is not given anything new.
    pub(crate) fn is_retiring(&self) -> bool {
        self.retiring.load(Acquire)
    }

    /// Another agent takes over: has it complete what it has, and go.
    pub(crate) fn retire(&self) {
        // ORDERING: release, pairs with the acquire in `is_retiring`. A submission that misses it
        // is in flight like those before it.
        self.retiring.store(true, Release);
        self.announce_control(RETIRE);
    }

    /// All of its workers.
    pub(crate) fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter().map(|worker| &**worker)
    }

    /// The worker that serves a queue, or the control worker.
    pub(crate) fn worker(&self, number: u32) -> Option<&Worker> {
        self.workers().find(|worker| worker.number() == number)
    }

    /// Tells a data worker that a device's channel has submissions. No lock is taken but that of
    /// the worker's wait queue.
    pub(crate) fn announce(&self, queue: u32, device: usize) {
        if let Some(worker) = self.workers.get(queue as usize) {
            worker.announce(device);
        }
    }

    /// Tells the control worker that the control channel has submissions, or that the configuration
    /// has changed.
    pub(crate) fn announce_control(&self, what: usize) {
        if let Some(worker) = self.worker(CONTROL_WORKER) {
            worker.announce(what);
        }
    }

    /// Has its session ended soon by somebody who may sleep: the agent is alive but does not do its
    /// work.
    pub(crate) fn cut_off(self: &Arc<Self>, reason: &'static str) {
        // Requests that were sent together pass their deadlines together; one of them is enough.
        if !self.doomed.xchg(true, Full) && work::enqueue(self.clone()) {
            log::error!(
                "session {}: process {} is cut off from the devices: {}\n",
                self.id,
                self.owner,
                reason
            );
        }
    }
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
