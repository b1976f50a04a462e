// SPDX-License-Identifier: GPL-2.0-only
//! The control channel: which calls are queued, which are with the agent, and the rings that carry
//! them.

use super::{Pending, Reply};
use crate::{
    ffi::{
        errors::{ENOTCONN, EPROTO},
        noio::recovery_mutex,
    },
    link::{Corrupt, Link},
    log::{self, Printable},
    memory::Memory,
    peer::{self, Peer},
    proto::{
        descriptor::{Completion, Generation, Op, Submission, Tag},
        layout::{Mapping, CONTROL, CONTROL_READY},
        status::{Errno, Status},
    },
};
use kernel::{prelude::*, sync::Arc};

/// Who uses a tag.
enum Holder {
    Nobody,
    /// A Cancel, of which nobody wants to know the answer.
    Cancel,
    Call(Pending),
}

/// A tag of the control channel.
pub(super) struct CallSlot {
    generation: Generation,
    holder: Holder,
}

impl CallSlot {
    const EMPTY: Self = Self { generation: Generation(0), holder: Holder::Nobody };

    pub(super) fn pending(&mut self) -> Option<&mut Pending> {
        match &mut self.holder {
            Holder::Call(pending) => Some(pending),
            Holder::Nobody | Holder::Cancel => None,
        }
    }

    fn is_free(&self) -> bool {
        matches!(self.holder, Holder::Nobody)
    }
}

/// The first tag of calls. Those before it are for Cancels, so that these go out even when all
/// others wait for an agent.
const FIRST_TAG: usize = 1;

/// See the module's documentation.
pub(super) struct ControlChannel {
    pub(super) link: Option<Link>,
    pub(super) slots: [CallSlot; CONTROL.depth as usize],
    /// Without a tag yet, or without an agent.
    pub(super) queued: KVec<Pending>,
    pub(super) exiting: bool,
    /// Statuses that are none.
    nonsense: Option<log::Limit>,
}

recovery_mutex! {
    state: CALLS of ControlChannel = ControlChannel {
        link: None,
        slots: [const { CallSlot::EMPTY }; CONTROL.depth as usize],
        queued: KVec::new(),
        exiting: false,
        nonsense: None,
    }, guard pub(in crate::calls) CallsGuard
}
pub(crate) use state::init;
pub(super) use state::lock;

impl ControlChannel {
    /// Submits what is queued, as far as tags go.
    pub(super) fn pump(&mut self) {
        let cancelled = self.pump_cancels();
        let submitted = self.pump_calls();
        if let (true, Some(link)) = (cancelled || submitted, &self.link) {
            link.peer.announce_control(CONTROL_READY);
        }
    }

    /// Tells the agent what nobody waits for any more. Returns whether it was told anything.
    fn pump_cancels(&mut self) -> bool {
        let mut sent = false;
        loop {
            let wanted = self.slots.iter_mut().enumerate().find_map(|(tag, slot)| {
                let generation = slot.generation;
                slot.pending().is_some_and(|pending| pending.cancel).then_some((tag, generation))
            });
            let (Some((tag, generation)), Some(free)) =
                (wanted, self.slots.iter().position(CallSlot::is_free))
            else {
                return sent;
            };
            let arg = Submission::cancel_arg(Tag(tag as u16), generation);
            if !self.submit(free, Op::Cancel, arg, false, 0) {
                return sent;
            }
            if let Some(slot) = self.slots.get_mut(free) {
                slot.holder = Holder::Cancel;
            }
            if let Some(pending) = self.slots.get_mut(tag).and_then(CallSlot::pending) {
                pending.cancel = false;
            }
            sent = true;
        }
    }

    fn pump_calls(&mut self) -> bool {
        let mut sent = false;
        while !self.queued.is_empty() {
            let Some(link) = &self.link else { break };
            if link.peer.is_retiring() {
                // It takes nothing new; the next agent gets it for the first time.
                break;
            }
            let free = self.slots.iter().skip(FIRST_TAG).position(CallSlot::is_free);
            let Some(tag) = free.map(|at| at.wrapping_add(FIRST_TAG)) else { break };
            let Ok(pending) = self.queued.remove(0) else { break };
            // The agent may use the whole window for its reply.
            let backed = link
                .memory
                .back(tag, CONTROL.window_bytes as usize)
                .and_then(|()| link.memory.write_window(tag, &pending.call.payload));
            if let Err(error) = backed {
                pending.finish(Err(error));
                continue;
            }
            let len = pending.call.payload.len() as u32;
            let submitted = self.submit(tag, pending.op, pending.arg, pending.repeated, len);
            if let Some(slot) = self.slots.get_mut(tag) {
                slot.holder = Holder::Call(pending);
            }
            sent |= submitted;
        }
        sent
    }

    /// Puts one entry into the ring; false if there is none.
    fn submit(&mut self, tag: usize, op: Op, arg: u64, repeated: bool, len: u32) -> bool {
        let (Some(link), Some(slot)) = (&mut self.link, self.slots.get_mut(tag)) else {
            return false;
        };
        let Some(ring) = link.memory.submissions() else { return false };
        slot.generation = slot.generation.next();
        let (tag, generation) = (Tag(tag as u16), slot.generation);
        let submission = Submission { tag, op, repeated, generation, arg, len };
        link.submissions.push(&ring, &submission.to_words());
        link.submissions.publish(&ring);
        true
    }

    /// Takes one completion; `None` when there is no more.
    fn reap_one(&mut self) -> Result<Option<()>> {
        let Some(link) = &mut self.link else { return Ok(None) };
        let ring = link.memory.completions().ok_or(EPROTO)?;
        let Some(words) = link.completions.pop(&ring).map_err(|_| EPROTO)? else {
            return Ok(None);
        };
        let completion = Completion::from_words(words);
        let tag = completion.tag.index();
        let slot = self.slots.get_mut(tag).ok_or(EPROTO)?;
        if slot.generation != completion.generation {
            return Ok(Some(()));
        }
        let mut pending = match core::mem::replace(&mut slot.holder, Holder::Nobody) {
            Holder::Call(pending) => pending,
            Holder::Nobody | Holder::Cancel => return Ok(Some(())),
        };
        if completion.len > CONTROL.window_bytes {
            pending.finish(Err(EPROTO));
            return Err(EPROTO);
        }
        let status = completion.status().unwrap_or_else(|| {
            peer::count_bad_answer();
            if let Some(count) = self.nonsense.get_or_insert_default().pass(1) {
                log::error!(
                    "bad answers of the agent: {}, the last one of {:?} with status {}\n",
                    count,
                    pending.op,
                    completion.status
                );
            }
            Status::Failed(Errno::Failed)
        });
        let reply = KVec::from_elem(0u8, completion.len as usize, GFP_KERNEL)
            .map_err(Error::from)
            .and_then(|mut payload| {
                link.memory.read_window(tag, &mut payload)?;
                Ok(Reply { status, payload })
            });
        if pending.abandoned.is_some() {
            let words = reply.as_ref().map_or(&[][..], |reply| reply.payload.as_slice());
            if !pending.heard && pending.continues_after(status, words) {
                if self.queued.push(pending, GFP_KERNEL).is_err() {
                    log::error!("no memory to undo what an interrupted create has made\n");
                }
                return Ok(Some(()));
            }
        }
        pending.finish(reply);
        Ok(Some(()))
    }
}

/// Makes a new session's control channel and submits what waits for an agent.
pub(crate) fn connect(peer: Arc<Peer>) -> Result {
    let memory = Memory::channel(Mapping::Control, CONTROL, 0, peer.space())?;
    let mut channel = lock();
    if channel.exiting {
        return Err(ENODEV);
    }
    channel.link = Some(Link::new(peer, memory));
    channel.pump();
    Ok(())
}

/// Takes the control channel away from the session that has it; what was in flight waits for the
/// next one.
pub(crate) fn disconnect() {
    let link = {
        let mut channel = lock();
        let ControlChannel { link, slots, queued, .. } = &mut *channel;
        for slot in slots {
            let Holder::Call(mut pending) = core::mem::replace(&mut slot.holder, Holder::Nobody)
            else {
                continue;
            };
            pending.repeated = true;
            if pending.abandoned.is_some() && !pending.survives() {
                continue;
            }
            let call = pending.call.clone();
            if queued.push(pending, GFP_KERNEL).is_err() {
                call.finish(Err(ENOMEM));
            }
        }
        // What is about one agent's own state is nothing to the next one.
        queued.retain(|pending| match pending.op {
            Op::Open | Op::Close => {
                pending.call.finish(Err(ENOTCONN));
                false
            }
            _ => true,
        });
        link.take()
    };
    if let Some(link) = link {
        link.memory.revoke();
    }
}

/// No agent came in time: everybody who waits for one is told so.
pub(crate) fn fail_all() {
    let mut channel = lock();
    if channel.link.is_none() {
        while let Some(pending) = channel.queued.pop() {
            if pending.op == Op::Undo {
                log::warning!(
                    "no agent came to undo an interrupted create of volume {}: it may be there\n",
                    Printable(&pending.call.payload)
                );
            }
            pending.finish(Err(ENOTCONN));
        }
    }
}

/// The module goes: everybody who waits is sent away, and nobody comes in any more.
pub(crate) fn shut_down() {
    let mut channel = lock();
    channel.exiting = true;
    while let Some(pending) = channel.queued.pop() {
        pending.call.finish(Err(ENODEV));
    }
    for slot in &mut channel.slots {
        if let Holder::Call(pending) = core::mem::replace(&mut slot.holder, Holder::Nobody) {
            pending.finish(Err(ENODEV));
        }
    }
    // Nobody comes in any more, and nothing frees a static.
    channel.queued = KVec::new();
}

/// Applies what the agent of a session has completed, a bounded number of entries.
pub(crate) fn reap(session: u64) -> Result<usize, Corrupt> {
    let mut channel = lock();
    if !channel.link.as_ref().is_some_and(|link| link.is_of(session)) {
        return Ok(0);
    }
    let mut applied = 0usize;
    let mut outcome = Ok(());
    for _ in 0..CONTROL.depth.wrapping_mul(2) {
        match channel.reap_one() {
            Ok(Some(())) => applied = applied.wrapping_add(1),
            Ok(None) => break,
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    channel.pump();
    outcome.map(|()| applied).map_err(|_| Corrupt)
}

/// The memory that the agent of a session may map.
pub(crate) fn memory_for(session: u64) -> Option<Arc<Memory>> {
    let channel = lock();
    channel.link.as_ref().filter(|link| link.is_of(session)).map(|link| link.memory.clone())
}
