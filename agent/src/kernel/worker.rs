// SPDX-License-Identifier: GPL-2.0-only
//! A data worker: one thread that serves one queue of every device.
//!
//! The hop before is the module, which announces submissions in the worker's submit set; the hop
//! after is the worker's own [`Pipeline`], whose futures it polls. Completions go back in batches:
//! one publication for each channel and one ENTER for each turn. The control worker opens and
//! closes queues by [`Order`]s.
//!
//! # Invariants
//! - A queue whose bit was taken stays on the `ready` list until a fetch finds its ring empty.
//! - A queue with unpublished completions is on the `dirty` list; no turn ends with such a list.
//! - Everything but the orders' sending half belongs to this thread.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::unix::thread::JoinHandleExt;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{io, mem};

use nix::sys::pthread::pthread_kill;
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use tokio::time::{interval, Interval, MissedTickBehavior};

use super::bell::{Bell, Port};
use super::device::Device;
use super::ended::Ended;
use super::mapping::{Channel, Doorbell};
use super::polling::Polling;
use super::queue::{Outcome, Queue};
use super::requests::{Finished, Requests};
use super::transfer::Transfer;
use crate::base::clock::{Clock, Moment};
use crate::base::failures::{Failures, LogLimit};
use crate::process::memory::{self, STACK_BYTES};
use crate::volume::{Pipeline, Repository};

/// Futures that may finish before their completions are announced.
const FINISHES_PER_TURN: usize = 64;
/// Turns without a look at the runtime's other events, while submissions keep coming.
const TURNS_BETWEEN_YIELDS: u32 = 16;
/// How often the pipeline closes idle connections.
const TIDY_PERIOD: Duration = Duration::from_secs(10);

/// What the control worker wants of a data worker.
pub enum Order {
    /// Serve a queue of a device.
    Open {
        /// The device.
        device: Arc<Device>,
        /// Its queue, the number of this worker.
        number: u32,
        /// That queue's channel.
        channel: Channel,
        /// Told when the queue is served.
        done: oneshot::Sender<()>,
    },
    /// Abandon the requests of a device and forget it.
    Close {
        /// Its index.
        index: u32,
        /// Told when the channel is not used any more.
        done: oneshot::Sender<()>,
    },
    /// Take no more submissions, and end when there is nothing in flight.
    Drain,
    /// The module submits nothing more: end when all of it is done.
    Finish,
    /// Abandon everything and end.
    Abandon,
}

/// The control worker's end of a data worker.
pub struct Handle {
    orders: mpsc::UnboundedSender<Order>,
    doorbell: Arc<Doorbell>,
    thread: RefCell<Option<JoinHandle<()>>>,
}

impl Handle {
    /// Gives an order; false if the worker is gone.
    #[must_use]
    pub fn send(&self, order: Order) -> bool {
        let sent = self.orders.send(order).is_ok();
        self.doorbell.knock();
        self.interrupt();
        sent
    }

    /// Tells the worker to end. Touches no memory that the module may have taken away, and need
    /// not: a worker that slept in the module was woken by that.
    pub fn abandon(&self) {
        // A worker that is gone needs no order.
        let _ = self.orders.send(Order::Abandon);
        self.interrupt();
    }

    fn interrupt(&self) {
        if let Some(thread) = &*self.thread.borrow() {
            // A thread that is over need not be woken.
            let _ = pthread_kill(thread.as_pthread_t(), WAKE_UP);
        }
    }

    /// Waits for the thread.
    pub fn join(&self) {
        if let Some(thread) = self.thread.take() {
            // Its panic was caught and reported.
            let _ = thread.join();
        }
    }
}

/// What every worker shares.
#[derive(Clone)]
pub struct Shared {
    /// Where requests go.
    pub repository: Arc<Repository>,
    /// Where failures are noted.
    pub failures: Arc<Failures>,
    /// The one clock.
    pub clock: Clock,
    /// Microseconds for which a worker looks for more before it goes to sleep.
    pub poll_usecs: u32,
    /// What each worker's thread has ready of memory before it is needed.
    pub heap_bytes: usize,
}

/// The thread of a worker that has no port yet; it ends when this is dropped.
pub struct Idle {
    orders: mpsc::UnboundedSender<Order>,
    port: oneshot::Sender<Port>,
    thread: JoinHandle<()>,
}

impl Idle {
    /// Has the thread serve a port.
    #[must_use]
    pub fn serve(self, port: Port) -> Handle {
        let Self { orders, port: place, thread } = self;
        let doorbell = port.doorbell();
        // A thread that is gone has said why, and takes no orders.
        let _ = place.send(port);
        Handle { orders, doorbell, thread: RefCell::new(Some(thread)) }
    }
}

/// Starts the thread of a worker. Once it has a port, it ends when it is told to, or with the
/// session; `ended` then gets the reason.
///
/// # Errors
/// Those of making a thread.
pub fn spawn(
    number: u32,
    shared: Shared,
    ended: mpsc::UnboundedSender<Result<(), Ended>>,
) -> io::Result<Idle> {
    handle_wake_up()?;
    let (orders, receiver) = mpsc::unbounded_channel();
    let (place, port) = oneshot::channel();
    let body = move || {
        let result = catch_unwind(AssertUnwindSafe(|| run(port, shared, receiver)));
        let panicked = |_| Err(Ended::Thread(format!("worker {number} panicked")));
        // Nobody listens any more when the agent is ending.
        let _ = ended.send(result.unwrap_or_else(panicked));
    };
    let name = format!("srb-worker/{number}");
    let thread = thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(body)?;
    Ok(Idle { orders, port: place, thread })
}

/// Ends the system call that the thread sleeps in, and does nothing else.
const WAKE_UP: Signal = Signal::SIGUSR1;

extern "C" fn nothing(_: i32) {}

fn handle_wake_up() -> io::Result<()> {
    // No SA_RESTART: the call must end.
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: The handler does nothing, which any thread may do at any time.
    unsafe { sigaction(WAKE_UP, &action) }?;
    Ok(())
}

fn run(
    port: oneshot::Receiver<Port>,
    shared: Shared,
    orders: mpsc::UnboundedReceiver<Order>,
) -> Result<(), Ended> {
    let failed = |error: io::Error| Ended::Thread(format!("a worker cannot start: {error}"));
    let runtime = runtime().map_err(failed)?;
    memory::fill_heap(shared.heap_bytes);
    LocalSet::new().block_on(&runtime, async {
        match port.await {
            Ok(port) => serve(port, shared, orders, Naps::InModule).await,
            // There will be no session.
            Err(_) => Ok(()),
        }
    })
}

/// How a worker sleeps that has nothing under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naps {
    /// In the module: the cheapest, and the whole thread sleeps.
    InModule,
    /// In the runtime, which others use too.
    #[cfg_attr(not(test), expect(dead_code, reason = "only simulations share a runtime"))]
    InRuntime,
}

/// A worker, on the runtime that it is called on, until it is told to end or the session ends.
pub(crate) async fn serve(
    port: Port,
    shared: Shared,
    orders: mpsc::UnboundedReceiver<Order>,
    naps: Naps,
) -> Result<(), Ended> {
    let failed = |error: io::Error| Ended::Thread(format!("a worker cannot start: {error}"));
    let bell = port.watch().map_err(failed)?;
    let polling = Polling::new(shared.poll_usecs);
    Worker { bell, naps, polling, state: State::new(shared, orders) }.run().await
}

/// A runtime for one thread, with small stacks for what blocks (name resolution).
///
/// # Errors
/// Those of making an epoll instance.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_stack_size(STACK_BYTES)
        .max_blocking_threads(8)
        .build()
}

struct Worker {
    bell: Bell,
    naps: Naps,
    polling: Polling,
    state: State,
}

impl Worker {
    async fn run(mut self) -> Result<(), Ended> {
        let Self { bell, naps, polling, state } = &mut self;
        let mut turns = 0u32;
        loop {
            bell.doorbell().submit().take(|device| state.note_ready(device));
            state.now = state.clock.now();
            if !state.ready.is_empty() {
                polling.resume(state.now);
            }
            polling.served(state.fetch()?);
            std::future::poll_fn(|cx| {
                let _ = state.poll(cx);
                Poll::Ready(())
            })
            .await;
            let announced = state.publish(bell.doorbell());
            let idle = state.is_idle() && bell.doorbell().submit().is_empty();
            let may_nap = idle && *naps == Naps::InModule;
            let poll_usecs = if may_nap { polling.rest(state.clock.now()) } else { 0 };
            if may_nap && state.is_alone() {
                bell.enter_and_sleep(poll_usecs)?;
                continue;
            }
            if announced || poll_usecs > 0 {
                bell.enter(poll_usecs)?;
            }
            if state.is_done(!bell.doorbell().submit().is_empty()) {
                return Ok(());
            }
            if state.ready.is_empty() && bell.doorbell().submit().is_empty() {
                bell.sleep(|cx| state.poll(cx)).await?;
            } else {
                turns = turns.wrapping_add(1);
                // Submissions keep coming; sockets and timers must be looked at now and then.
                if !state.requests.is_empty() || turns % TURNS_BETWEEN_YIELDS == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

struct State {
    /// By index of the device.
    queues: Vec<Option<Box<Queue>>>,
    ready: VecDeque<u32>,
    dirty: Vec<u32>,
    requests: Requests,
    pipeline: Rc<Pipeline>,
    failures: Arc<Failures>,
    limit: LogLimit,
    clock: Clock,
    /// When this turn began.
    now: Moment,
    orders: mpsc::UnboundedReceiver<Order>,
    /// Runs once there may be connections.
    tidy: Option<Interval>,
    ending: Ending,
    abandoned: bool,
}

/// Whether the worker is to end when nothing is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    No,
    /// After what it has taken.
    Drain,
    /// After what the module has submitted.
    Finish,
}

impl State {
    fn new(shared: Shared, orders: mpsc::UnboundedReceiver<Order>) -> Self {
        Self {
            queues: Vec::new(),
            ready: VecDeque::new(),
            dirty: Vec::new(),
            requests: Requests::default(),
            pipeline: Pipeline::new(shared.repository),
            failures: shared.failures,
            limit: LogLimit::default(),
            now: shared.clock.now(),
            clock: shared.clock,
            orders,
            tidy: None,
            ending: Ending::No,
            abandoned: false,
        }
    }

    /// Puts a device's queue on the list to fetch from. Of a device that is not open the news is
    /// dropped: opening it puts it there.
    fn note_ready(&mut self, device: usize) {
        if let Some(Some(queue)) = self.queues.get_mut(device) {
            if !mem::replace(&mut queue.is_ready, true) && self.ending != Ending::Drain {
                self.ready.push_back(queue.device().index);
            }
        }
    }

    /// Lets each queue on the list have one round; those that have more stay on it. Returns how
    /// many submissions there were.
    fn fetch(&mut self) -> Result<u32, Ended> {
        let mut taken = 0u32;
        for _ in 0..self.ready.len() {
            let Some(index) = self.ready.pop_front() else { break };
            let Some(Some(queue)) = self.queues.get_mut(index as usize) else { continue };
            let (pipeline, requests) = (&self.pipeline, &self.requests);
            let round = queue.fetch(pipeline, &self.clock, self.now, |queue, fetched| {
                requests.push(queue, fetched, pipeline);
            })?;
            taken = taken.saturating_add(round.taken);
            queue.is_ready = round.more;
            if round.more {
                self.ready.push_back(index);
            }
            if round.completed && !mem::replace(&mut queue.is_dirty, true) {
                self.dirty.push(index);
            }
        }
        if self.tidy.is_none() && !self.requests.is_empty() {
            let mut tidy = interval(TIDY_PERIOD);
            tidy.set_missed_tick_behavior(MissedTickBehavior::Delay);
            self.tidy = Some(tidy);
        }
        Ok(taken)
    }

    /// Looks at all that is not the submit set; ready if any of it moved.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut moved = false;
        while !self.abandoned {
            match self.orders.poll_recv(cx) {
                Poll::Ready(Some(order)) => self.obey(order),
                // Nobody is there who could wait for the rest.
                Poll::Ready(None) => self.abandon_all(),
                Poll::Pending => break,
            }
            moved = true;
        }
        let mut finishes = 0usize;
        if !self.requests.is_empty() {
            self.now = self.clock.now();
            while let Some(finished) = self.requests.poll_finished(cx) {
                self.finish(finished);
                finishes = finishes.saturating_add(1);
                if finishes == FINISHES_PER_TURN {
                    cx.waker().wake_by_ref();
                    break;
                }
            }
        }
        if let Some(tidy) = &mut self.tidy {
            if tidy.poll_tick(cx).is_ready() {
                self.pipeline.close_idle();
                moved = true;
            }
        }
        if moved || finishes > 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn finish(&mut self, finished: Finished) {
        let Finished { device, transfer, result } = finished;
        let Some(Some(queue)) = self.queues.get_mut(device as usize) else { return };
        let outcome = match &result {
            Ok(()) => Outcome::Done,
            Err(error) if !error.may_pass() => Outcome::Failed(error.errno()),
            Err(error) if queue.device().holds() => Outcome::Held(error.errno()),
            Err(error) => Outcome::MayPass(error.errno()),
        };
        queue.complete(&transfer, outcome, self.now);
        if !mem::replace(&mut queue.is_dirty, true) {
            self.dirty.push(device);
        }
        if let Err(error) = result {
            let Transfer { op, offset, len, .. } = transfer;
            let what = op.name();
            let (name, volume) = (&queue.device().name, queue.device().volume.name());
            if let Outcome::Held(_) = outcome {
                // No failure: the request comes again, and the module says so once for all of them.
                tracing::debug!("{name}: {what} at {offset} is held: {error}");
                return;
            }
            self.failures.note(what, Some(volume), &error);
            if let Some(held) = self.limit.pass() {
                tracing::error!("{name}: {what} of {len} bytes at {offset} failed: {error}");
                if held > 0 {
                    tracing::error!("{held} more failures before this one were not logged");
                }
            }
        }
    }

    fn publish(&mut self, doorbell: &Doorbell) -> bool {
        let complete = doorbell.complete();
        let any = !self.dirty.is_empty();
        for index in self.dirty.drain(..) {
            if let Some(Some(queue)) = self.queues.get_mut(index as usize) {
                if mem::take(&mut queue.is_dirty) {
                    queue.publish(&complete);
                }
            }
        }
        any
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Open { device, number, channel, done } => {
                let index = device.index as usize;
                self.forget(device.index);
                if self.queues.len() <= index {
                    self.queues.resize_with(index.saturating_add(1), || None);
                }
                if let Some(place) = self.queues.get_mut(index) {
                    *place = Some(Box::new(Queue::new(device, number, channel)));
                }
                // What came before is announced by a bit that may have been taken already.
                self.note_ready(index);
                // Nobody waits any more when the agent is ending.
                let _ = done.send(());
            }
            Order::Close { index, done } => {
                self.forget(index);
                let _ = done.send(());
            }
            Order::Drain => {
                self.ending = Ending::Drain;
                self.ready.clear();
            }
            Order::Finish => self.ending = Ending::Finish,
            Order::Abandon => self.abandon_all(),
        }
    }

    /// Drops a device's queue, and its requests with the connections that they use.
    fn forget(&mut self, index: u32) {
        let Some(queue) = self.queues.get_mut(index as usize).and_then(Option::take) else {
            return;
        };
        self.requests.forget(index);
        self.ready.retain(|ready| *ready != index);
        self.dirty.retain(|dirty| *dirty != index);
        drop(queue);
    }

    fn abandon_all(&mut self) {
        self.abandoned = true;
        self.ready.clear();
        self.dirty.clear();
        self.requests = Requests::default();
    }

    /// Whether no request is under way, and the worker goes on.
    fn is_idle(&self) -> bool {
        let going_on = self.ending == Ending::No && !self.abandoned;
        going_on && self.ready.is_empty() && self.requests.is_empty()
    }

    /// Whether nothing but submissions and orders can come to an idle worker: there never was a
    /// request that left a connection.
    fn is_alone(&self) -> bool {
        self.tidy.is_none()
    }

    /// Whether the worker can end; `submitted`: whether the module may have submitted something.
    fn is_done(&self, submitted: bool) -> bool {
        let idle = self.requests.is_empty();
        self.abandoned
            || match self.ending {
                Ending::No => false,
                Ending::Drain => idle,
                Ending::Finish => idle && self.ready.is_empty() && !submitted,
            }
    }
}
