// SPDX-License-Identifier: GPL-2.0-only
//! An agent's session: begun by HELLO, ended when its file is closed, its process dies or it is cut
//! off.
//!
//! A session owns the doorbell pages; the channels own what else it may map, and are linked to it
//! one by one. [`LIFECYCLE`] makes beginning, ending, attaching and detaching follow one another,
//! so that each sees every device linked to the session that is there, and none to one that is not.
//!
//! # Lock order
//! `LIFECYCLE` → registry → channel state → a worker's wait queue. Nobody waits for an agent while
//! holding any of them.

use crate::{
    channel::Channel,
    control,
    device::Device,
    ffi::{
        barrier, errors::ESHUTDOWN, machine, mm::AddressSpace, noio::recovery_mutex, process,
        sleep, wait::WaitQueue, work,
    },
    housekeeping, log,
    memory::Memory,
    params,
    proto::{
        control::{Enter, TAKEOVER_MSECS},
        layout::{Mapping, CONTROL_READY, CONTROL_WORKER, DATA, MAX_DEVICES, RETIRE},
    },
    registry,
};
use kernel::{
    alloc::{allocator::KVmalloc, flags::__GFP_NOWARN},
    impl_has_work, new_spinlock, new_work,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed, Release},
        Arc, SpinLock,
    },
    time::{Instant, Monotonic},
    workqueue::{Work, WorkItem},
};

recovery_mutex! {
    lifecycle: LIFECYCLE of () = (), guard pub(crate) LifecycleGuard
}
pub(crate) use lifecycle::{lock as lock_lifecycle, LifecycleGuard};

/// # Safety
/// Called once, before anything else here.
pub(crate) unsafe fn init() {
    // SAFETY: The contract.
    unsafe { lifecycle::init() };
}

/// One of the agent's threads, as the module sees it.
#[pin_data]
pub(crate) struct Worker {
    number: u32,
    memory: Arc<Memory>,
    joined: Atomic<bool>,
    #[pin]
    wakeup: WaitQueue,
    /// The channels it serves, by device.
    #[pin]
    channels: SpinLock<Vec<Option<Arc<Channel>>, KVmalloc>>,
}

impl Worker {
    fn new(number: u32, devices: usize, space: AddressSpace) -> Result<Pin<KBox<Self>>> {
        let memory = Memory::doorbell(number, space)?;
        let mut channels = Vec::<_, KVmalloc>::with_capacity(devices, GFP_KERNEL | __GFP_NOWARN)?;
        for _ in 0..devices {
            channels.push(None, GFP_KERNEL)?;
        }
        KBox::pin_init(
            pin_init!(Self {
                number,
                memory,
                joined: Atomic::new(false),
                wakeup <- WaitQueue::new(),
                channels <- new_spinlock!(channels, "srb::worker_channels"),
            }),
            GFP_KERNEL,
        )
    }

    /// Tells the agent's thread that channel `index` has something, and wakes it if it sleeps.
    fn announce(&self, index: usize) {
        if let (Some(set), Some(sleeper)) = (self.memory.submit_set(), self.memory.sleeper()) {
            set.insert(index);
            if sleeper.must_wake() {
                self.wakeup.wake_all();
            }
        }
    }

    /// Whether its thread has said that it sleeps, and nobody has woken it since.
    fn is_asleep(&self) -> bool {
        self.memory.sleeper().is_some_and(|sleeper| sleeper.is_asleep())
    }

    fn has_work(&self) -> bool {
        self.memory.submit_set().is_some_and(|set| !set.is_empty())
    }
}

/// See the module's documentation.
#[pin_data]
pub(crate) struct Session {
    id: u64,
    owner: i32,
    /// Whether it took the place of another agent's.
    took_over: bool,
    space: AddressSpace,
    workers: KVec<Pin<KBox<Worker>>>,
    ended: Atomic<bool>,
    /// Another agent takes over: nothing new is submitted.
    retiring: Atomic<bool>,
    /// Whether it is being cut off.
    doomed: Atomic<bool>,
    #[pin]
    cut_off: Work<Session>,
}

impl_has_work! {
    impl HasWork<Self> for Session { self.cut_off }
}

impl WorkItem for Session {
    type Pointer = Arc<Session>;

    fn run(this: Arc<Session>) {
        this.end("it was cut off");
    }
}

impl Session {
    /// Begins a session and hands it every device. EBUSY: there is one already, or another agent is
    /// taking over: who does that says so with its `turn`.
    pub(crate) fn begin(space: AddressSpace, turn: Option<&TakingOver>) -> Result<Arc<Self>> {
        let lifecycle = lock_lifecycle();
        if turn.is_none() && TAKING_OVER.load(Acquire) > 0 {
            return Err(EBUSY);
        }
        let id = registry::reserve_session(&lifecycle)?;
        let mut workers = KVec::new();
        for number in 0..machine::queues() {
            workers.push(Worker::new(number, MAX_DEVICES, space)?, GFP_KERNEL)?;
        }
        workers.push(Worker::new(CONTROL_WORKER, 0, space)?, GFP_KERNEL)?;
        let owner = process::current_process();
        let session = Arc::pin_init(
            pin_init!(Self {
                id,
                owner,
                took_over: turn.is_some(),
                space,
                workers,
                ended: Atomic::new(false),
                retiring: Atomic::new(false),
                doomed: Atomic::new(false),
                cut_off <- new_work!("srb::cut_off"),
            }),
            GFP_KERNEL,
        )?;
        let mut linked = Ok(());
        registry::for_each_device(|device| {
            if linked.is_ok() {
                linked = session.adopt(device, &lifecycle);
            }
        });
        let linked = linked.and_then(|()| control::connect(session.clone(), space));
        if let Err(error) = linked {
            session.abandon(&lifecycle);
            return Err(error);
        }
        registry::set_session(Some(session.clone()), &lifecycle);
        log::info!("agent connected: process {}, session {}\n", owner, id);
        Ok(session)
    }

    /// Number of the session, never used again.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Whether its agent said that it takes over.
    pub(crate) fn took_over(&self) -> bool {
        self.took_over
    }

    /// Whether the calling process is the agent.
    pub(crate) fn is_caller(&self) -> bool {
        self.owner == process::current_process()
    }

    /// Whether it is over.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Acquire)
    }

    /// Whether another agent takes over.
    pub(crate) fn is_retiring(&self) -> bool {
        self.retiring.load(Acquire)
    }

    /// Makes room for another agent: lets this one complete what it has, and cuts it off if it
    /// takes too long. Requests that come meanwhile wait for the next session.
    ///
    /// EINTR: a signal came; the agent has been told to go all the same.
    pub(crate) fn make_way(self: &Arc<Self>) -> Result {
        // ORDERING: release, pairs with the acquire in `is_retiring`. A submission that misses it
        // is in flight like those before it.
        self.retiring.store(true, Release);
        self.announce_control(RETIRE);
        let since = Instant::<Monotonic>::now();
        while !self.has_ended() {
            if since.elapsed().as_millis() >= i64::from(TAKEOVER_MSECS) {
                self.end("another agent takes over, and it did not finish in time");
                return Ok(());
            }
            sleep::sleep_interruptible(1).inspect_err(|_| {
                self.cut_off("another agent was to take over");
            })?;
        }
        Ok(())
    }

    /// Links a device's channels to this session.
    pub(crate) fn adopt(self: &Arc<Self>, device: &Device, _: &LifecycleGuard) -> Result {
        for channel in device.channels() {
            let mapping = Mapping::Channel { device: device.index(), queue: channel.queue() };
            let memory = Memory::channel(mapping, DATA, device.attachment(), self.space)?;
            let worker = self.worker(channel.queue()).ok_or(EINVAL)?;
            if let Some(slot) = worker.channels.lock().get_mut(device.index() as usize) {
                *slot = Some(channel.clone());
            }
            channel.link(self.clone(), memory);
        }
        device.set_failing(false);
        device.kick();
        Ok(())
    }

    /// Parts a device from this session and takes its memory away from the agent.
    pub(crate) fn part(&self, device: &Device, _: &LifecycleGuard) {
        for channel in device.channels() {
            channel.unlink();
            if let Some(worker) = self.worker(channel.queue()) {
                if let Some(slot) = worker.channels.lock().get_mut(device.index() as usize) {
                    *slot = None;
                }
            }
        }
        barrier::synchronize_rcu();
        device.channels().iter().for_each(|channel| channel.retire());
    }

    /// The worker that serves a queue, or the control worker.
    fn worker(&self, number: u32) -> Option<&Worker> {
        self.workers.iter().map(|worker| &**worker).find(|worker| worker.number == number)
    }

    /// Tells a data worker that a device's channel has submissions. No lock is taken but that of the
    /// worker's wait queue.
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

    /// Makes a file a worker's. EINVAL: there is no such worker. EBUSY: it has a file.
    pub(crate) fn join(&self, number: u32) -> Result {
        let worker = self.worker(number).ok_or(EINVAL)?;
        match worker.joined.xchg(true, Full) {
            true => Err(EBUSY),
            false => Ok(()),
        }
    }

    /// Undoes [`Self::join`] of a file that has become something else meanwhile.
    pub(crate) fn leave(&self, number: u32) {
        if let Some(worker) = self.worker(number) {
            worker.joined.store(false, Release);
        }
    }

    /// Whether its memory is mapped, and taken away, by files of this address space.
    pub(crate) fn is_of(&self, space: AddressSpace) -> bool {
        self.space == space
    }

    /// The ENTER ioctl: applies completions; then looks for submissions as long as it was told, and
    /// sleeps until there are some if it was told so and the worker is marked as asleep.
    pub(crate) fn enter(&self, number: u32, how: Enter) -> Result<usize> {
        let worker = self.worker(number).ok_or(EINVAL)?;
        let applied = self.reap(worker)?;
        // One that is not marked as asleep has been woken, perhaps without work, if it took that
        // before a slow waker came to its mark; nobody would wake it again.
        let is_woken = || how.wait && !worker.is_asleep();
        let must_return = || worker.has_work() || is_woken() || self.has_ended();
        sleep::spin(how.poll_usecs, must_return);
        if how.wait {
            // A waker makes work, clears the mark of who sleeps, and wakes.
            worker.wakeup.sleep_unless(must_return)?;
        }
        if self.has_ended() {
            return Err(ESHUTDOWN);
        }
        Ok(applied)
    }

    fn reap(&self, worker: &Worker) -> Result<usize> {
        if self.has_ended() {
            return Err(ESHUTDOWN);
        }
        if worker.number == CONTROL_WORKER {
            return control::reap(self);
        }
        let (mut applied, mut corrupt) = (0usize, false);
        worker.memory.complete_set().ok_or(EINVAL)?.take(|device| {
            let channel = worker.channels.lock().get(device).cloned().flatten();
            match channel.map(|channel| channel.reap(self)) {
                Some(Ok(count)) => applied = applied.wrapping_add(count),
                Some(Err(_)) => corrupt = true,
                None => {}
            }
        });
        if corrupt {
            log::error!("session {}: a ring is corrupt\n", self.id);
            self.end("its ring is corrupt");
            return Err(ESHUTDOWN);
        }
        Ok(applied)
    }

    /// For poll(2): whether a worker's thread has something to do, or was woken. The latter without
    /// the former happens when the agent took the work before a slow producer came to wake: the
    /// thread must then mark itself as asleep again before it sleeps, or nobody wakes it any more.
    pub(crate) fn poll(&self, number: u32) -> Result<bool> {
        let worker = self.worker(number).ok_or(EINVAL)?;
        if self.has_ended() {
            return Err(ESHUTDOWN);
        }
        Ok(worker.has_work() || !worker.is_asleep())
    }

    /// Where a worker's thread waits, or who polls its file.
    pub(crate) fn wakeup(&self, number: u32) -> Result<&WaitQueue> {
        Ok(&self.worker(number).ok_or(EINVAL)?.wakeup)
    }

    /// What lies at an offset of the control device, if this session may map it.
    pub(crate) fn memory_at(&self, mapping: Mapping) -> Result<Arc<Memory>> {
        match mapping {
            Mapping::Doorbell { worker } => Ok(self.worker(worker).ok_or(EINVAL)?.memory.clone()),
            Mapping::Channel { device, queue } => registry::device_at(device)
                .and_then(|device| device.channels().get(queue as usize)?.memory_for(self))
                .ok_or(ENOENT),
            Mapping::Control => control::memory_for(self).ok_or(ENOENT),
        }
    }

    /// Has the session ended soon by somebody who may sleep: the agent is alive but does not do its
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

    /// Ends the session: takes all memory away from the agent and all requests back. Does nothing
    /// the second time.
    pub(crate) fn end(&self, reason: &'static str) {
        let lifecycle = lock_lifecycle();
        if self.ended.load(Relaxed) {
            return;
        }
        registry::set_session(None, &lifecycle);
        // Before the rest: who stands by is on its way meanwhile.
        announce_vacancy();
        self.abandon(&lifecycle);
        log::info!("agent gone: process {}, session {}: {}\n", self.owner, self.id, reason);
        if params::agent_grace() == 0 {
            registry::fail_devices(&lifecycle);
        }
        // A command may wait for the next agent though no device is attached.
        housekeeping::start();
    }

    fn abandon(&self, _: &LifecycleGuard) {
        // ORDERING: release, pairs with the acquire in `has_ended`.
        self.ended.store(true, Release);
        registry::for_each_device(|device| {
            device.channels().iter().for_each(|channel| channel.unlink());
            if device.is_dying() {
                device.kick();
            }
        });
        control::disconnect();
        for worker in &self.workers {
            worker.channels.lock().iter_mut().for_each(|slot| *slot = None);
            worker.memory.revoke();
            worker.wakeup.wake_all();
        }
        barrier::synchronize_rcu_expedited();
        registry::for_each_device(|device| {
            device.channels().iter().for_each(|channel| channel.retire());
        });
    }
}

/// How many agents are taking over; they begin before those that stand by.
static TAKING_OVER: Atomic<u32> = Atomic::new(0);

/// An agent that takes over, from when it makes the other one go until it has begun or failed to.
pub(crate) struct TakingOver(());

impl TakingOver {
    pub(crate) fn new() -> Self {
        TAKING_OVER.fetch_add(1, Full);
        Self(())
    }
}

impl Drop for TakingOver {
    fn drop(&mut self) {
        TAKING_OVER.fetch_sub(1, Full);
        announce_vacancy();
    }
}

static VACANCY: work::Place<Vacancy> = work::Place::empty();

/// Where agents wait that stand by until there is no other one.
#[pin_data]
pub(crate) struct Vacancy {
    #[pin]
    wakeup: WaitQueue,
}

impl Vacancy {
    pub(crate) fn wakeup(&self) -> &WaitQueue {
        &self.wakeup
    }
}

/// Keeps the place where agents stand by; dropping it takes it away.
pub(crate) struct Standbys(());

impl Standbys {
    /// Makes the place. Called once, before there is a control device.
    pub(crate) fn new() -> Result<Self> {
        VACANCY.fill(Arc::pin_init(pin_init!(Vacancy { wakeup <- WaitQueue::new() }), GFP_KERNEL)?);
        Ok(Self(()))
    }
}

impl Drop for Standbys {
    fn drop(&mut self) {
        drop(VACANCY.take());
    }
}

/// The place where agents stand by.
pub(crate) fn vacancy() -> Option<Arc<Vacancy>> {
    VACANCY.get()
}

/// Whether an agent could begin a session now. Asked by who waits at the [`vacancy`]: whoever
/// changes one of the two announces it afterwards, so that either this look sees the change or the
/// announcement finds who waits.
pub(crate) fn is_vacant() -> bool {
    TAKING_OVER.load(Acquire) == 0 && registry::session().is_none()
}

fn announce_vacancy() {
    if let Some(vacancy) = VACANCY.get() {
        vacancy.wakeup.wake_all();
    }
}

/// Tells the agent, if there is one, that parameters or URLs have changed.
pub(crate) fn announce_config() {
    if let Some(session) = registry::session() {
        session.announce_control(crate::proto::layout::CONFIG_CHANGED);
    }
}

/// Tells the agent, if there is one, that a control request waits.
pub(crate) fn announce_request(session: &Session) {
    session.announce_control(CONTROL_READY);
}
