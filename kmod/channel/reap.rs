// SPDX-License-Identifier: GPL-2.0-only
//! The way back: completions, claimed, applied and ended together.
//!
//! Before: the agent's ENTER ioctl, in process context. After: the block layer, or the requeue list
//! for what the device's policy holds.
//!
//! Entries are taken under the channel's lock, some at a time; the data are copied outside of it.
//! A slot is `Idle` again before its request ends, hence before the block layer uses its tag again.

use super::{Channel, Sent, State, Use};
use crate::{
    ffi::request::{Batch, Direction, Held, History, Request},
    link::Corrupt,
    log,
    memory::Memory,
    peer,
    proto::{descriptor::Completion, layout::DATA, status::Status},
};
use kernel::{prelude::*, sync::Arc, time::Instant};

/// Completions that are applied together; they lie on the stack meanwhile.
const REAP_BATCH: usize = 16;

/// A completion that fits, and the request that it answers.
struct Answer {
    tag: usize,
    sent: Sent,
    completion: Completion,
    outcome: Outcome,
}

/// What becomes of a request that was answered.
enum Outcome {
    Done,
    Failed(Error),
    /// No server has answered.
    MayPass(Error),
}

/// Completions that are applied together. Too large to be moved about.
struct Answers {
    memory: Option<Arc<Memory>>,
    list: [Option<Answer>; REAP_BATCH],
    /// How many of them there are.
    count: usize,
    /// Entries that fitted nothing.
    stale: u32,
}

impl Answers {
    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Answer> {
        self.list.iter_mut().take(self.count).flatten()
    }
}

impl Channel {
    /// Applies what the agent has completed, a bounded number of entries. Returns how many fitted.
    pub(crate) fn reap(&self, session: u64) -> Result<usize, Corrupt> {
        let (mut applied, mut stale, mut more) = (0usize, 0u32, Ok(true));
        let list = [const { None }; REAP_BATCH];
        let mut answers = Answers { memory: None, list, count: 0, stale: 0 };
        for _ in 0..(DATA.depth as usize).wrapping_mul(2) / REAP_BATCH {
            more = self.take_answers(session, &mut answers);
            stale = stale.wrapping_add(answers.stale);
            applied = applied.wrapping_add(answers.count);
            // Also those before an entry that makes no sense: they are claimed.
            self.apply(session, &mut answers);
            if !matches!(more, Ok(true)) {
                break;
            }
        }
        let told = if stale > 0 { self.state.lock().stale.pass(stale) } else { None };
        if let Some(count) = told {
            log::warning!(
                "device {} queue {}: {} late or repeated completions ignored\n",
                self.device,
                self.queue,
                count
            );
        }
        more.map(|_| applied)
    }

    /// Takes entries from the completion ring and claims the requests that they answer. Returns
    /// whether there may be more.
    fn take_answers(&self, session: u64, answers: &mut Answers) -> Result<bool, Corrupt> {
        (answers.count, answers.stale) = (0, 0);
        let mut state = self.state.lock();
        let State { link: Some(link), slots, active, .. } = &mut *state else {
            return Ok(false);
        };
        if !link.is_of(session) {
            return Ok(false);
        }
        let ring = link.memory.completions().ok_or(Corrupt)?;
        for _ in 0..REAP_BATCH {
            let Some(place) = answers.list.get_mut(answers.count) else { break };
            let Some(words) = link.completions.pop(&ring).map_err(|_| Corrupt)? else {
                return Ok(false);
            };
            let completion = Completion::from_words(words);
            let tag = completion.tag.index();
            let slot = slots.get_mut(tag).ok_or(Corrupt)?;
            let Some(sent) = slot.claim(completion.generation) else {
                answers.stale = answers.stale.wrapping_add(1);
                continue;
            };
            if sent.direction == Direction::Write {
                // Nothing is left to copy, so the slot is free before its request's end frees the
                // tag.
                slot.used = Use::Idle;
                *active = active.saturating_sub(1);
            }
            if answers.memory.is_none() {
                answers.memory = Some(link.memory.clone());
            }
            *place = Some(Answer { tag, sent, completion, outcome: Outcome::Done });
            answers.count = answers.count.wrapping_add(1);
        }
        Ok(true)
    }

    /// Copies what was read, frees the slots, ends the requests.
    fn apply(&self, session: u64, answers: &mut Answers) {
        let Some(memory) = answers.memory.take() else { return };
        let mut has_reads = false;
        for answer in answers.iter_mut() {
            answer.outcome = self.judge(&answer.sent, &answer.completion);
            if answer.sent.direction == Direction::Write {
                continue;
            }
            has_reads = true;
            if matches!(answer.outcome, Outcome::Done) {
                if let Err(error) = memory.drain_into(answer.tag, &answer.sent.request) {
                    answer.outcome = Outcome::Failed(error);
                }
            }
        }
        if has_reads {
            let mut state = self.state.lock();
            for answer in answers.iter_mut().filter(|a| a.sent.direction == Direction::Read) {
                state.release(answer.tag);
            }
        }
        let mut batch = Batch::new();
        for place in answers.list.iter_mut().take(answers.count) {
            let Some(Answer { sent: Sent { request, .. }, outcome, .. }) = place.take() else {
                continue;
            };
            if !matches!(outcome, Outcome::MayPass(_)) {
                self.fate.answered();
            }
            match outcome {
                Outcome::Done => batch.end(request),
                Outcome::Failed(error) => request.end(Err(error)),
                Outcome::MayPass(error) => self.hold_or_end(session, request, error),
            }
        }
    }

    /// What a completion says of its request.
    fn judge(&self, sent: &Sent, completion: &Completion) -> Outcome {
        match completion.status() {
            Some(Status::Done) if completion.len as usize == sent.bytes => return Outcome::Done,
            Some(Status::Failed(errno)) => {
                let error = Error::from_errno(Status::Failed(errno).to_number());
                return match completion.transient {
                    true => Outcome::MayPass(error),
                    false => Outcome::Failed(error),
                };
            }
            Some(Status::Done) | None => {}
        }
        // An answer that makes no sense is no word of a server's, whatever else it says.
        peer::count_bad_answer();
        let nonsense = self.state.lock().nonsense.pass(1);
        if let Some(count) = nonsense {
            log::error!(
                "device {} queue {}: {} bad answers, as status {} with {} of {} bytes\n",
                self.device,
                self.queue,
                count,
                completion.status,
                completion.len,
                sent.bytes
            );
        }
        Outcome::Failed(EIO)
    }

    /// No server has answered a request: the device's policy decides.
    fn hold_or_end(&self, session: u64, request: Request, error: Error) {
        let before = request.history().held.filter(|held| held.session == session);
        let since = before.map_or_else(Instant::now, |held| held.since);
        if !self.fate.holds(since.elapsed()) {
            return request.end(Err(error));
        }
        // Counted before it is on the list, so that whoever looks for held requests does so again.
        self.fate.hold();
        let held = Some(Held { since, error, session });
        request.remember(History { repeated: true, held, waiting: true });
        request.requeue();
    }
}
