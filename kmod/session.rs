// SPDX-License-Identifier: GPL-2.0-only
//! An agent's session: begun by HELLO, ended when its file is closed, its process dies or it is cut
//! off.
//!
//! A session has a [`Peer`], whose doorbell pages it may map; the channels own what else it may
//! map, and are linked to the peer one by one. [`lifecycle`] makes beginning, ending, attaching and
//! detaching follow one another.

use crate::{
    calls,
    ffi::{
        barrier,
        errors::{EPROTO, ESHUTDOWN},
        mm::AddressSpace,
        sleep,
    },
    lifecycle::{self, LifecycleGuard},
    link::Corrupt,
    log,
    memory::Memory,
    params,
    peer::{Peer, Worker},
    proto::{
        control::{Enter, TAKEOVER_MSECS},
        layout::{Mapping, CONFIG_CHANGED, CONTROL_WORKER},
    },
    registry, rounds,
};
use kernel::{
    prelude::*,
    sync::Arc,
    time::{Instant, Monotonic},
};

mod adoption;
mod current;
mod vacancy;

use adoption::Served;
pub(crate) use current::{gone_for_secs, init, session};
pub(crate) use vacancy::{is_vacant, vacancy, TakingOver, VacancyKeeper};

/// See the module's documentation.
pub(crate) struct Session {
    /// Whether it took the place of another agent's.
    took_over: bool,
    peer: Arc<Peer>,
    /// What each data worker serves, by queue.
    served: KVec<Pin<KBox<Served>>>,
}

impl Session {
    /// Begins a session and hands it every device. EBUSY: there is one already, or another agent is
    /// taking over: who does that says so with its `turn`.
    pub(crate) fn begin(space: AddressSpace, turn: Option<&TakingOver>) -> Result<Arc<Self>> {
        let lifecycle = lifecycle::lock();
        if turn.is_none() && vacancy::is_promised() || session().is_some() {
            return Err(EBUSY);
        }
        let id = registry::reserve_number(&lifecycle);
        let peer = Peer::new(id, space, end_of)?;
        let mut served = KVec::new();
        for _ in peer.workers().filter(|worker| worker.number() != CONTROL_WORKER) {
            served.push(Served::new()?, GFP_KERNEL)?;
        }
        let session = Arc::new(Self { took_over: turn.is_some(), peer, served }, GFP_KERNEL)?;
        let mut linked = Ok(());
        registry::for_each_device(|device| {
            if linked.is_ok() {
                linked = session.adopt(device, &lifecycle);
            }
        });
        let linked = linked.and_then(|()| calls::connect(session.peer.clone()));
        if let Err(error) = linked {
            session.abandon(&lifecycle);
            return Err(error);
        }
        current::set(Some(session.clone()), &lifecycle);
        log::info!("agent connected: process {}, session {}\n", session.peer.owner(), id);
        Ok(session)
    }

    /// The agent.
    pub(crate) fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// Number of the session, never used again.
    pub(crate) fn id(&self) -> u64 {
        self.peer.id()
    }

    /// Whether its agent said that it takes over.
    pub(crate) fn took_over(&self) -> bool {
        self.took_over
    }

    /// Whether it is over.
    pub(crate) fn has_ended(&self) -> bool {
        self.peer.has_ended()
    }

    fn served(&self, queue: u32) -> Option<&Served> {
        self.served.get(queue as usize).map(|served| &**served)
    }

    /// Its worker of this number. EINVAL: there is none.
    pub(crate) fn worker(&self, number: u32) -> Result<&Worker> {
        self.peer.worker(number).ok_or(EINVAL)
    }

    /// Makes room for another agent: lets this one complete what it has, and cuts it off if it
    /// takes too long. Requests that come meanwhile wait for the next session.
    ///
    /// EINTR: a signal came; the agent has been told to go all the same.
    pub(crate) fn make_way(&self) -> Result {
        self.peer.retire();
        let since = Instant::<Monotonic>::now();
        while !self.has_ended() {
            if since.elapsed().as_millis() >= i64::from(TAKEOVER_MSECS) {
                self.end("another agent takes over, and it did not finish in time");
                return Ok(());
            }
            sleep::sleep_interruptible(1).inspect_err(|_| {
                self.peer.cut_off("another agent was to take over");
            })?;
        }
        Ok(())
    }

    /// The ENTER ioctl: applies completions; then waits as it was told.
    pub(crate) fn enter(&self, number: u32, how: Enter) -> Result<usize> {
        let worker = self.worker(number)?;
        let applied = self.reap(worker)?;
        worker.wait(how, || self.has_ended())?;
        if self.has_ended() {
            return Err(ESHUTDOWN);
        }
        Ok(applied)
    }

    fn reap(&self, worker: &Worker) -> Result<usize> {
        if self.has_ended() {
            return Err(ESHUTDOWN);
        }
        if worker.number() == CONTROL_WORKER {
            return self.reap_calls();
        }
        let served = self.served(worker.number()).ok_or(EINVAL)?;
        let (mut applied, mut corrupt) = (0usize, false);
        worker.memory().complete_set().ok_or(EINVAL)?.take(|device| {
            match served.channel(device).map(|channel| channel.reap(self.id())) {
                Some(Ok(count)) => applied = applied.wrapping_add(count),
                Some(Err(_)) => corrupt = true,
                None => {}
            }
        });
        if corrupt {
            log::error!("session {}: a ring is corrupt\n", self.id());
            self.end("its ring is corrupt");
            return Err(ESHUTDOWN);
        }
        Ok(applied)
    }

    fn reap_calls(&self) -> Result<usize> {
        calls::reap(self.id()).map_err(|Corrupt| {
            log::error!("session {}: the control channel is corrupt\n", self.id());
            self.end("its control channel is corrupt");
            EPROTO
        })
    }

    /// What lies at an offset of the control device, if this session may map it.
    pub(crate) fn memory_at(&self, mapping: Mapping) -> Result<Arc<Memory>> {
        match mapping {
            Mapping::Doorbell { worker } => Ok(self.worker(worker)?.memory().clone()),
            Mapping::Channel { device, queue } => registry::device_at(device)
                .and_then(|device| device.channels().get(queue as usize)?.memory_for(self.id()))
                .ok_or(ENOENT),
            Mapping::Control => calls::memory_for(self.id()).ok_or(ENOENT),
        }
    }

    /// Ends the session: takes all memory away from the agent and all requests back. Does nothing
    /// the second time.
    pub(crate) fn end(&self, reason: &'static str) {
        self.end_under(&lifecycle::lock(), reason);
    }

    fn end_under(&self, lifecycle: &LifecycleGuard, reason: &'static str) {
        if self.has_ended() {
            return;
        }
        current::set(None, lifecycle);
        // Before the rest: who stands by is on its way meanwhile.
        vacancy::announce();
        self.abandon(lifecycle);
        let (owner, id) = (self.peer.owner(), self.id());
        log::info!("agent gone: process {owner}, session {id}: {reason}\n");
        if params::agent_grace() == 0 {
            fail_waiting(lifecycle);
        }
        // A command may wait for the next agent though no device is attached.
        rounds::start();
    }

    fn abandon(&self, _: &LifecycleGuard) {
        self.peer.set_ended();
        registry::for_each_device(|device| {
            device.channels().iter().for_each(|channel| channel.unlink());
            if device.fate().is_dying() {
                device.kick();
            }
        });
        calls::disconnect();
        self.served.iter().for_each(|served| served.clear());
        self.peer.workers().for_each(Worker::revoke);
        barrier::synchronize_rcu_expedited();
        registry::for_each_device(|device| {
            device.channels().iter().for_each(|channel| channel.retire());
        });
    }
}

/// Ends the session of a peer that is cut off, if it is not over: one that is not the current one
/// any more has ended.
fn end_of(peer: &Peer) {
    let lifecycle = lifecycle::lock();
    if let Some(session) = session().filter(|session| session.id() == peer.id()) {
        session.end_under(&lifecycle, "it was cut off");
    }
}

/// No agent came in time: fails what waits for one, and everything from now on until one comes.
/// Returns how many devices were not failing before.
pub(crate) fn fail_waiting(_: &LifecycleGuard) -> usize {
    let mut count = 0;
    registry::for_each_device(|device| {
        if !device.fate().set_failing(true) {
            device.kick();
            count += 1;
        }
    });
    calls::fail_all();
    count
}

/// Tells the agent, if there is one, that parameters or URLs have changed.
pub(crate) fn announce_config() {
    if let Some(session) = session() {
        session.peer.announce_control(CONFIG_CHANGED);
    }
}
