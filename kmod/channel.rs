// SPDX-License-Identifier: GPL-2.0-only
//! One queue of one device: which requests are in flight, and the rings that carry them.
//!
//! Before: the block layer brings requests ([`blk`], [`submit`]). After: the agent's worker takes
//! them from the submission ring; its ENTER ioctl calls [`Channel::reap`], which ends
//! them ([`reap`]).
//!
//! A channel lives as long as its device. Its [`Link`] lives as long as an agent's session: new
//! memory, empty rings. Requests that an agent leaves behind go back to the block layer and come
//! again through the next one.
//!
//! # Invariants
//! - A slot that is not `Idle` belongs to the request with its tag: the block layer does not use
//!   the tag again until the request has been ended or requeued, which happens after the slot
//!   became `Idle`; or to nobody: for a moment (`Trimming`), or for good in a device that is going
//!   away (`Quarantined`).
//! - `active` counts the slots that are not `Idle`.
//! - A slot's generation changes with each submission, so that a completion fits at most once.

use crate::{
    fate::Fate,
    ffi::request::{Direction, History, Request},
    link::Link,
    log,
    memory::Memory,
    peer::Peer,
    proto::{descriptor::Generation, layout::DATA},
};
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full},
        Arc, SpinLock,
    },
};

mod blk;
mod reap;
mod submit;

/// Housekeeping rounds without a request until a channel gives its windows' pages back.
const IDLE_ROUNDS: u32 = 10;

/// What became of a request that was to be submitted.
enum Verdict {
    /// It is in flight.
    Taken,
    /// There is no agent, or the machine is about to sleep; it waits on the requeue list, or is not
    /// started yet.
    Parked,
    /// The block layer keeps it and tries again soon.
    Later,
    /// The block layer ends it with this error.
    Failed(Error),
}

enum Use {
    Idle,
    /// Its data are being copied, outside the lock.
    Filling,
    InFlight(Sent),
    /// Answered; its data are being copied, outside the lock.
    Claimed,
    /// Nobody's; the pages of its window are being given back, outside the lock.
    Trimming,
    /// Ended before the agent answered, which may still use the window: not to be used again.
    Quarantined,
}

/// A request as the agent was told of it.
struct Sent {
    request: Request,
    direction: Direction,
    bytes: usize,
}

struct Slot {
    generation: Generation,
    used: Use,
}

impl Slot {
    /// Claims the request in flight that a completion of `generation` answers.
    fn claim(&mut self, generation: Generation) -> Option<Sent> {
        match core::mem::replace(&mut self.used, Use::Claimed) {
            Use::InFlight(sent) if self.generation == generation => Some(sent),
            other => {
                self.used = other;
                None
            }
        }
    }
}

/// Whether the machine is about to sleep.
static HELD_BACK: Atomic<bool> = Atomic::new(false);

/// Has new requests wait, on all channels, or go on; returns whether they waited before. Whoever
/// takes a channel's lock from now on sees it.
pub(crate) fn hold_back(holds: bool) -> bool {
    HELD_BACK.xchg(holds, Full)
}

/// Whether new requests are to wait, though there is an agent.
fn takes_nothing(link: &Link) -> bool {
    link.peer.is_retiring() || HELD_BACK.load(Acquire)
}

struct State {
    link: Option<Link>,
    /// The last link, until nobody can be using it any more.
    retired: Option<Link>,
    slots: KVec<Slot>,
    active: u32,
    /// Completions that were ignored.
    stale: log::Limit,
    /// Completions that made no sense.
    nonsense: log::Limit,
    /// Windows are being given back: no slot may be taken.
    reclaiming: bool,
    idle_rounds: u32,
}

/// See the module's documentation.
#[pin_data]
pub(crate) struct Channel {
    device: u32,
    queue: u32,
    fate: Arc<Fate>,
    #[pin]
    state: SpinLock<State>,
}

impl State {
    fn slot(&mut self, tag: usize) -> Result<&mut Slot> {
        self.slots.get_mut(tag).ok_or(EINVAL)
    }

    /// Takes the slot of a request that is to be submitted, if there is an agent.
    fn occupy(&mut self, tag: usize) -> Result<(), Verdict> {
        if self.reclaiming {
            return Err(Verdict::Later);
        }
        if self.link.as_ref().is_none_or(takes_nothing) {
            return Err(Verdict::Parked);
        }
        let slot = self.slots.get_mut(tag).ok_or(Verdict::Failed(EIO))?;
        match slot.used {
            Use::Idle => {}
            Use::Trimming => return Err(Verdict::Later),
            _ => return Err(Verdict::Failed(EIO)),
        }
        slot.used = Use::Filling;
        self.active = self.active.wrapping_add(1);
        self.idle_rounds = 0;
        Ok(())
    }

    fn release(&mut self, tag: usize) {
        if let Some(slot) = self.slots.get_mut(tag) {
            slot.used = Use::Idle;
            self.active = self.active.saturating_sub(1);
        }
    }

    /// Takes the next request in flight out, leaving `left` in its slot.
    fn take_in_flight(&mut self, left: fn() -> Use) -> Option<Request> {
        let slot = self.slots.iter_mut().find(|slot| matches!(slot.used, Use::InFlight(_)))?;
        let Use::InFlight(sent) = core::mem::replace(&mut slot.used, left()) else {
            return None;
        };
        if matches!(slot.used, Use::Idle) {
            self.active = self.active.saturating_sub(1);
        }
        Some(sent.request)
    }
}

impl Channel {
    pub(crate) fn new(device: u32, queue: u32, fate: Arc<Fate>) -> Result<Arc<Self>> {
        let mut slots = KVec::with_capacity(DATA.depth as usize, GFP_KERNEL)?;
        for _ in 0..DATA.depth {
            slots.push(Slot { generation: Generation::default(), used: Use::Idle }, GFP_KERNEL)?;
        }
        let state = State {
            link: None,
            retired: None,
            slots,
            active: 0,
            stale: log::Limit::default(),
            nonsense: log::Limit::default(),
            reclaiming: false,
            idle_rounds: 0,
        };
        Arc::pin_init(
            pin_init!(Self { device, queue, fate, state <- new_spinlock!(state, "srb::channel") }),
            GFP_KERNEL,
        )
    }

    /// Which queue of its device this is, hence which worker's.
    pub(crate) fn queue(&self) -> u32 {
        self.queue
    }

    /// Joins the channel to a new session. Everything in flight has been taken back before.
    pub(crate) fn link(&self, peer: Arc<Peer>, memory: Arc<Memory>) {
        let old = self.state.lock().link.replace(Link::new(peer, memory));
        drop(old);
    }

    /// Parts the channel from its session: takes the memory away from the agent, requeues what was
    /// in flight.
    ///
    /// `queue_rq` may hold references to the memory and the peer in its RCU read section, where
    /// the last one must not go. So they stay here until the caller has waited for a grace period
    /// and calls [`Self::retire`].
    pub(crate) fn unlink(&self) {
        let memory = {
            let mut state = self.state.lock();
            let Some(link) = state.link.take() else { return };
            let memory = link.memory.clone();
            state.retired = Some(link);
            memory
        };
        memory.revoke();
        while let Some(request) = self.take_in_flight(|| Use::Idle) {
            // What it had waited for before does not count any more: an agent is to come first.
            request.remember(History { repeated: true, ..History::default() });
            request.requeue();
        }
    }

    /// Drops what [`Self::unlink`] left, after a grace period.
    pub(crate) fn retire(&self) {
        let retired = self.state.lock().retired.take();
        drop(retired);
    }

    fn take_in_flight(&self, left: fn() -> Use) -> Option<Request> {
        self.state.lock().take_in_flight(left)
    }

    /// Ends all that is in flight with EIO. Only for a device that is going away: the slots are
    /// lost.
    pub(crate) fn fail_in_flight(&self) {
        while let Some(request) = self.take_in_flight(|| Use::Quarantined) {
            request.end(Err(EIO));
        }
    }

    /// A request has passed its deadline: if the agent has it, the agent is stuck and loses its
    /// session.
    fn expire(&self, request: usize, tag: usize) {
        let mut state = self.state.lock();
        let held = state.slot(tag).is_ok_and(|slot| match &slot.used {
            Use::InFlight(sent) => sent.request.address() == request,
            _ => false,
        });
        if let (true, Some(link)) = (held, &state.link) {
            link.peer.cut_off("a request has passed its deadline");
        }
    }

    /// The memory that `session` may map.
    pub(crate) fn memory_for(&self, session: u64) -> Option<Arc<Memory>> {
        let state = self.state.lock();
        state.link.as_ref().filter(|link| link.is_of(session)).map(|link| link.memory.clone())
    }

    /// Whether this session's agent serves it.
    fn is_linked_to(&self, session: u64) -> bool {
        self.state.lock().is_linked_to(session)
    }

    /// Whether an agent serves it, and takes requests.
    fn is_served(&self) -> bool {
        self.state.lock().link.as_ref().is_some_and(|link| !takes_nothing(link))
    }

    /// Slots that are in use.
    pub(crate) fn active(&self) -> u32 {
        self.state.lock().active
    }

    /// Gives pages of windows that are not in use back, about `most` of them; with `quiet`, only if
    /// there was no request lately. Returns how many.
    pub(crate) fn trim(&self, quiet: bool, most: usize) -> usize {
        let mut freed = 0usize;
        for tag in 0..DATA.depth as usize {
            if freed >= most {
                break;
            }
            let memory = {
                let mut state = self.state.lock();
                let State { link: Some(link), slots, active, idle_rounds, .. } = &mut *state else {
                    break;
                };
                if quiet && *idle_rounds == 0 {
                    break;
                }
                let Some(slot) = slots.get_mut(tag) else { break };
                if !matches!(slot.used, Use::Idle) || !link.memory.is_window_backed(tag) {
                    continue;
                }
                slot.used = Use::Trimming;
                *active = active.wrapping_add(1);
                link.memory.clone()
            };
            freed = freed.wrapping_add(memory.release_window(tag));
            self.state.lock().release(tag);
        }
        freed
    }

    /// Gives the windows' pages back if the channel has been idle for some rounds. Returns whether
    /// it did; then requests may have been turned away meanwhile, and the queue must be run.
    pub(crate) fn reclaim_if_idle(&self) -> bool {
        let memory = {
            let mut state = self.state.lock();
            state.idle_rounds = state.idle_rounds.saturating_add(1);
            let State { link: Some(link), active: 0, idle_rounds, .. } = &*state else {
                return false;
            };
            if *idle_rounds < IDLE_ROUNDS || !link.memory.is_backed() {
                return false;
            }
            let memory = link.memory.clone();
            state.reclaiming = true;
            memory
        };
        memory.release_windows();
        self.state.lock().reclaiming = false;
        true
    }
}

impl State {
    fn is_linked_to(&self, session: u64) -> bool {
        self.link.as_ref().is_some_and(|link| link.is_of(session))
    }
}
