// SPDX-License-Identifier: GPL-2.0-only
//! The device's users, and the agents that live and die.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::Rng;
use srb_proto::command::RepositoryUrl;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::history::{Begun, History, Moment};
use super::rings::{Rings, Serving, QUEUES};
use super::server::{bytes, values, SECTOR_BYTES};
use super::{Counts, Plan, REQ_TIMEOUT};
use crate::base::settings::Settings;
use crate::base::tuning::RestConfig;
use crate::base::window::Window;
use crate::sim::Reply;
use crate::volume::pipeline::Pipeline;
use crate::volume::Heritage;
use crate::volume::Repository;

/// Longer than any request takes, however many agents die on the way.
const ANSWER: Duration = Duration::from_secs(3600);
/// An agent: two workers.
#[derive(Clone)]
struct Agent {
    workers: [Rc<Pipeline>; QUEUES as usize],
    repository: Arc<Repository>,
}

pub(super) struct World {
    plan: Plan,
    history: RefCell<History>,
    /// The agent that lives.
    agent: RefCell<Option<Agent>>,
    /// If requests go through rings: they, and the workers of the agent that lives.
    rings: Option<Rings>,
    serving: RefCell<Option<Serving>>,
    /// Another lives, or none. (A `watch` would wake in an order of its own.)
    changed: Notify,
    failed: Cell<u64>,
}

impl Agent {
    fn new(settle: Duration, heritage: Heritage) -> Self {
        let config = RestConfig { probe: false, settle, ..RestConfig::default() };
        let repository = Repository::with_heritage(config, heritage);
        let url = |name: &str| RepositoryUrl::parse(name.as_bytes()).expect("a URL");
        repository.apply(Settings {
            version: 1,
            urls: vec![url("http://one"), url("http://two")],
            req_timeout: REQ_TIMEOUT,
            nb_req_retries: 3,
            thread_pool_size: 4,
            ..Settings::default()
        });
        let worker = || Pipeline::new(Arc::clone(&repository));
        Self { workers: [worker(), worker()], repository }
    }
}

impl World {
    /// With an agent that lives.
    pub(super) fn new(plan: Plan) -> Rc<Self> {
        let world = Self {
            plan,
            history: RefCell::new(History::new()),
            agent: RefCell::default(),
            rings: plan.rings.then(|| Rings::new((plan.sectors * SECTOR_BYTES) as u64)),
            serving: RefCell::default(),
            changed: Notify::new(),
            failed: Cell::new(0),
        };
        world.succeed(Some(Agent::new(plan.settle, Heritage::default())));
        Rc::new(world)
    }

    /// All but the faults.
    pub(super) fn counts(&self) -> Counts {
        let (history, failed) = (self.history.borrow(), self.failed.get());
        let (requests, digest) = (history.len() as u64, history.digest());
        Counts { requests, failed, faults: 0, digest }
    }

    /// Asks the agent that lives, again and again until one lives long enough to answer. After
    /// `patience` with one agent the request is dropped.
    async fn write(&self, task: usize, sectors: Range<usize>, patience: Duration) {
        let (write, value) = self.history.borrow_mut().begin_write(sectors.clone());
        let bytes = bytes(&vec![value; sectors.len()]);
        if self.rings.is_some() {
            let reply = self.through_rings(task, &sectors, Some(bytes)).await;
            return self.end_write(write, reply.status == 0);
        }
        let (len, offset) = (bytes.len(), (sectors.start * SECTOR_BYTES) as u64);
        let window = Window::from_vec(bytes);
        let mut repeated = false;
        let result = loop {
            let agent = self.living().await;
            let volume = agent.repository.volume("v");
            let write = agent.workers[task % 2].write(&volume, offset, &window, len, repeated);
            tokio::select! {
                biased;
                () = self.death() => repeated = self.plan.tells_repeated,
                result = write => break result.is_ok(),
                () = sleep(patience) => break false,
            }
        };
        self.end_write(write, result);
    }

    fn end_write(&self, write: Begun, success: bool) {
        self.failed.set(self.failed.get() + u64::from(!success));
        self.history.borrow_mut().end_write(write, success);
    }

    /// Whoever lives answers, once.
    async fn through_rings(
        &self,
        task: usize,
        sectors: &Range<usize>,
        bytes: Option<Vec<u8>>,
    ) -> Reply {
        let rings = self.rings.as_ref().expect("there are rings");
        let queue = task as u32 % QUEUES;
        let asked = rings.ask(queue, sectors.start, sectors.len() * SECTOR_BYTES, bytes);
        let reply = timeout(ANSWER, asked).await.expect("each request is answered");
        reply.expect("the module forgets no request")
    }

    pub(super) async fn read(&self, task: usize, sectors: Range<usize>) {
        let begin = self.history.borrow_mut().now();
        let (len, offset) = (sectors.len() * SECTOR_BYTES, (sectors.start * SECTOR_BYTES) as u64);
        if self.rings.is_some() {
            let reply = self.through_rings(task, &sectors, None).await;
            return self.end_read(&sectors, begin, (reply.status == 0).then_some(reply.bytes));
        }
        let window = Window::from_vec(vec![0; len]);
        let result = loop {
            let agent = self.living().await;
            let volume = agent.repository.volume("v");
            let read = agent.workers[task % 2].read(&volume, offset, &window, len);
            tokio::select! {
                biased;
                () = self.death() => {}
                result = read => break result,
            }
        };
        self.end_read(&sectors, begin, result.is_ok().then(|| window.to_vec(len)));
    }

    fn end_read(&self, sectors: &Range<usize>, begin: Moment, bytes: Option<Vec<u8>>) {
        match bytes {
            Some(bytes) => {
                assert_eq!(bytes.len(), sectors.len() * SECTOR_BYTES, "what was asked for");
                self.history.borrow_mut().read(sectors.start, values(&bytes), begin);
            }
            None => self.failed.set(self.failed.get() + 1),
        }
    }

    async fn living(&self) -> Agent {
        loop {
            let agent = self.agent.borrow().clone();
            match agent {
                Some(agent) => return agent,
                None => self.changed.notified().await,
            }
        }
    }

    fn succeed(&self, agent: Option<Agent>) {
        if let Some(rings) = &self.rings {
            let next = agent.as_ref().map(|agent| rings.serve(&agent.repository));
            let last = self.serving.replace(next);
            last.into_iter().for_each(|last| rings.kill(last));
        }
        self.agent.replace(agent);
        self.changed.notify_waiters();
    }

    async fn death(&self) {
        while self.agent.borrow().is_some() {
            self.changed.notified().await;
        }
    }

    /// One user, with as many requests as the plan says, one after another.
    pub(super) async fn live(self: Rc<Self>, task: usize, mut chance: StdRng) {
        let count = self.plan.sectors;
        for _ in 0..self.plan.requests_per_task {
            let (first, len) = (chance.random_range(0..count), chance.random_range(1..=8));
            let sectors = first..(first + len).min(count);
            if chance.random_bool(0.5) {
                let impatient = chance.random_range(0..100) < self.plan.impatient;
                let patience = if impatient {
                    chance.random_range(Duration::ZERO..REQ_TIMEOUT)
                } else {
                    Duration::MAX
                };
                self.write(task, sectors, patience).await;
            } else {
                self.read(task, sectors).await;
            }
            sleep(Duration::from_millis(chance.random_range(0..10))).await;
        }
    }

    /// Fails if something was read that must not be, or an agent kept what it should have
    /// forgotten.
    pub(super) fn check(&self) -> Result<(), String> {
        let settle = self.plan.settle + Duration::from_millis(2);
        self.history.borrow().check(self.plan.sectors, settle)?;
        if let Some(late) = self.rings.as_ref().map(Rings::late_completions).filter(|n| *n > 0) {
            return Err(format!("{late} requests were answered twice"));
        }
        let agent = self.agent.borrow();
        let volume = agent.as_ref().ok_or("no agent is left")?.repository.volume("v");
        if self.plan.flaw.is_none() && !volume.unsettled().is_empty() {
            return Err(format!("not forgotten: {:?}", volume.unsettled()));
        }
        Ok(())
    }

    /// Lets agents die and others take their place.
    pub(super) async fn kill(self: Rc<Self>, mut chance: StdRng) {
        for _ in 0..self.plan.deaths {
            sleep(chance.random_range(self.plan.life / 40..self.plan.life)).await;
            let known = self.living().await.repository.heritage().until();
            self.succeed(None);
            sleep(Duration::from_millis(chance.random_range(1..200))).await;
            let heritage = Heritage::after(known.filter(|_| self.plan.inherits));
            self.succeed(Some(Agent::new(self.plan.settle, heritage)));
        }
    }
}
