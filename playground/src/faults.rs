// SPDX-License-Identifier: GPL-2.0-only
//! Faults on purpose: which request meets one, what it does, and how many there were.
//!
//! `connection` asks [`Faults::armed`] for each request, and hands those of an armed server to
//! `act`, which calls `routes` as it sees fit. What ends a connection in a way that HTTP does not
//! know is an `ending`, played on the bare socket. Tests hold a [`Faults`]; `admin` offers the
//! same over HTTP.
//!
//! # Lock order
//!
//! `plan`, then the frozen state's own lock; `late` alone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{watch, Semaphore};

pub(crate) mod act;
pub(crate) mod admin;
pub(crate) mod draw;
pub(crate) mod ending;
pub(crate) mod plan;
pub(crate) mod rule;

use draw::Drawn;
use plan::Plan;
use rule::{Class, Kind};

/// Bodies of held and late requests that are kept in memory at one time.
const KEPT_KIB: usize = 64 * 1024;

/// The faults of a running server; clones are the same.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use srb_playground::{Config, Playground};
///
/// let folder = tempfile::tempdir()?;
/// let playground = Playground::start(Config::ephemeral(folder.path()))?;
/// let faults = playground.faults();
/// faults.set("seed=42 read:2%:delay=20..200 write:1%:lost-reply".parse()?);
/// // ... requests ...
/// assert_eq!(faults.report().faulty, 0);
/// faults.clear();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Faults(Arc<State>);

#[derive(Debug)]
struct State {
    /// Whether a request can meet anything: a plan is set, or the server is frozen.
    armed: AtomicBool,
    plan: Mutex<Option<Arc<Active>>>,
    /// Requests hit since the server's start, by place in [`Kind::ALL`].
    kinds: [AtomicU64; Kind::ALL.len()],
    frozen: watch::Sender<bool>,
    held: AtomicU64,
    /// Writes that are to be applied later.
    late: Mutex<usize>,
    late_done: Condvar,
    /// Counts the calls for late writes to come at once.
    flushes: watch::Sender<u64>,
    room: Arc<Semaphore>,
}

/// A plan in force, and its counts.
#[derive(Debug)]
struct Active {
    plan: Plan,
    requests: [AtomicU64; Class::ALL.len()],
    hits: Vec<AtomicU64>,
}

/// What there was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The plan in force.
    pub plan: Option<String>,
    /// Its seed.
    pub seed: Option<u64>,
    /// The requests that came since that plan was set.
    pub requests: u64,
    /// Its rules, in order.
    pub rules: Vec<RuleReport>,
    /// The requests that met a fault, under all plans since the server's start.
    pub faulty: u64,
    /// The same by kind; those that never came are there, with 0.
    pub kinds: BTreeMap<&'static str, u64>,
    /// Writes whose connection was closed and that will yet be applied.
    pub late_pending: usize,
    /// Requests that are held at this moment, by a freeze or a rule.
    pub held: u64,
    /// Whether the server is frozen.
    pub frozen: bool,
}

/// A rule of the plan in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleReport {
    /// The rule as in the plan.
    pub rule: String,
    /// The requests that it hit.
    pub hits: u64,
}

impl Faults {
    pub(crate) fn new(plan: Option<Plan>) -> Self {
        let faults = Self(Arc::new(State {
            armed: AtomicBool::new(false),
            plan: Mutex::new(None),
            kinds: std::array::from_fn(|_| AtomicU64::new(0)),
            frozen: watch::Sender::new(false),
            held: AtomicU64::new(0),
            late: Mutex::new(0),
            late_done: Condvar::new(),
            flushes: watch::Sender::new(0),
            room: Arc::new(Semaphore::new(KEPT_KIB)),
        }));
        faults.replace(plan);
        faults
    }

    /// Puts a plan in force, from its first request on. Requests under way are not touched.
    pub fn set(&self, plan: Plan) {
        self.replace(Some(plan));
    }

    /// Ends the plan in force. A frozen server stays so, and late writes still come.
    pub fn clear(&self) {
        self.replace(None);
    }

    /// From now on connections are accepted and requests taken, but none is carried out.
    pub fn freeze(&self) {
        self.switch(true);
    }

    /// Ends [`Faults::freeze`]: what was held goes on, also for clients that gave up meanwhile.
    pub fn thaw(&self) {
        self.switch(false);
    }

    /// Applies all late writes at once, and waits for that. False if it took longer than
    /// `patience`, which a slow disk can do. It blocks the thread.
    pub fn flush_late(&self, patience: Duration) -> bool {
        self.0.flushes.send_modify(|flushes| *flushes += 1);
        let late = self.late();
        let waited = self.0.late_done.wait_timeout_while(late, patience, |late| *late > 0);
        let (late, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *late == 0
    }

    /// The counts.
    pub fn report(&self) -> Report {
        // ORDERING: each count stands alone; a request under way may be in one of them only.
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let active = self.plan().clone();
        let kinds: BTreeMap<_, _> =
            Kind::ALL.iter().zip(&self.0.kinds).map(|(kind, n)| (kind.name(), load(n))).collect();
        let rules = active.iter().flat_map(|active| active.plan.rules().iter().zip(&active.hits));
        Report {
            plan: active.as_ref().map(|active| active.plan.to_string()),
            seed: active.as_ref().map(|active| active.plan.seed()),
            requests: active.iter().flat_map(|active| &active.requests).map(load).sum(),
            rules: rules
                .map(|(rule, hits)| RuleReport { rule: rule.to_string(), hits: load(hits) })
                .collect(),
            faulty: kinds.values().sum(),
            kinds,
            late_pending: *self.late(),
            held: load(&self.0.held),
            frozen: self.is_frozen(),
        }
    }

    /// Whether a request can meet anything.
    pub(crate) fn armed(&self) -> bool {
        // ORDERING: only says that it is worth a look; what there is to see is behind locks.
        self.0.armed.load(Ordering::Relaxed)
    }

    /// What the next request of that class meets, which is counted.
    fn draw(&self, class: Class) -> Option<Drawn> {
        let active = self.plan().clone()?;
        // ORDERING: counts alone; each number is given once.
        let number = active.requests.get(class as usize)?.fetch_add(1, Ordering::Relaxed);
        let drawn = draw::draw(&active.plan, class, number)?;
        let hits = active.hits.get(drawn.rule);
        let kind = self.0.kinds.get(drawn.fault.kind() as usize);
        for count in hits.into_iter().chain(kind) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Some(drawn)
    }

    fn is_frozen(&self) -> bool {
        *self.0.frozen.borrow()
    }

    /// Returns when the server is not frozen.
    async fn thawed(&self) {
        // An error would mean that the sender is gone, which `self` holds.
        let _ = self.0.frozen.subscribe().wait_for(|frozen| !frozen).await;
    }

    /// Counts a held request until the result is dropped.
    fn hold(&self) -> Held {
        // ORDERING: a count alone.
        self.0.held.fetch_add(1, Ordering::Relaxed);
        Held(self.clone())
    }

    /// Counts a late write until the result is dropped.
    fn defer(&self) -> Late {
        // First: who counts this one also waits for it, so it has to hear of that.
        let flushes = self.0.flushes.subscribe();
        *self.late() += 1;
        Late { faults: self.clone(), flushes }
    }

    fn replace(&self, plan: Option<Plan>) {
        let active = plan.map(|plan| {
            let hits = plan.rules().iter().map(|_| AtomicU64::new(0)).collect();
            Arc::new(Active { plan, requests: std::array::from_fn(|_| AtomicU64::new(0)), hits })
        });
        let mut plan = self.plan();
        *plan = active;
        self.rearm(&plan);
    }

    fn switch(&self, frozen: bool) {
        let plan = self.plan();
        self.0.frozen.send_replace(frozen);
        self.rearm(&plan);
    }

    fn rearm(&self, plan: &MutexGuard<'_, Option<Arc<Active>>>) {
        // ORDERING: as in `armed`; the lock that is held keeps two of these apart.
        self.0.armed.store(plan.is_some() || self.is_frozen(), Ordering::Relaxed);
    }

    fn plan(&self) -> MutexGuard<'_, Option<Arc<Active>>> {
        self.0.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn late(&self) -> MutexGuard<'_, usize> {
        self.0.late.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is held.
#[derive(Debug)]
struct Held(Faults);

impl Drop for Held {
    fn drop(&mut self) {
        // ORDERING: a count alone.
        self.0 .0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A write that is to be applied later.
#[derive(Debug)]
struct Late {
    faults: Faults,
    flushes: watch::Receiver<u64>,
}

impl Late {
    /// Returns after `span`, or when late writes are called for.
    async fn due(&mut self, span: Duration) {
        tokio::select! {
            () = tokio::time::sleep(span) => {}
            _ = self.flushes.changed() => {}
        }
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        *self.faults.late() -= 1;
        self.faults.0.late_done.notify_all();
    }
}
