// SPDX-License-Identifier: GPL-2.0-only
//! A call that is queued or with the agent, and what becomes of one that nobody waits for.

use super::{Call, Reply};
use crate::{
    log::{self, Printable},
    proto::{
        descriptor::Op,
        status::{Errno, Status},
    },
    registry::Operating,
};
use kernel::{
    prelude::*,
    sync::Arc,
    time::{Instant, Monotonic},
};

pub(super) struct Pending {
    pub(super) call: Arc<Call>,
    /// For a change: reserves the volume until it is known what became of it.
    pub(super) operation: Option<Operating>,
    /// The call's own, unless it became an `Undo`.
    pub(super) op: Op,
    pub(super) arg: u64,
    pub(super) repeated: bool,
    /// Since when nobody waits for it.
    pub(super) abandoned: Option<Instant<Monotonic>>,
    /// Whether the agent is to be told so.
    pub(super) cancel: bool,
    /// Whether the waiter that left stays for the answer to that.
    pub(super) heard: bool,
}

impl Pending {
    pub(super) fn new(call: Arc<Call>, repeated: bool, operation: Option<Operating>) -> Self {
        let (op, arg) = (call.op, call.arg);
        Self { call, operation, op, arg, repeated, abandoned: None, cancel: false, heard: false }
    }

    /// Answers it. The volume is let go first, so that the waiter is the last one to hold it.
    pub(super) fn finish(mut self, outcome: Result<Reply>) {
        drop(self.operation.take());
        self.call.finish(outcome);
    }

    /// Nobody waits for it, and no agent has it any more. False: it is to be dropped.
    pub(super) fn survives(&mut self) -> bool {
        self.cancel = false;
        match self.op {
            Op::Create | Op::Undo if self.repeated => {
                self.undo(0);
                true
            }
            Op::Destroy | Op::Extend if self.repeated => {
                log::warning!(
                    "{:?} of volume {} was interrupted, and its agent has gone: it may have \
                     happened\n",
                    self.op,
                    Printable(&self.call.payload)
                );
                false
            }
            _ => false,
        }
    }

    /// An agent will undo what an abandoned create has made.
    pub(super) fn undo(&mut self, made_bytes: u64) {
        (self.op, self.arg, self.repeated) = (Op::Undo, made_bytes, true);
        (self.cancel, self.heard) = (false, false);
    }

    /// The agent has answered, and nobody waits for that. False: it is over.
    pub(super) fn continues_after(&mut self, status: Status, words: &[u8]) -> bool {
        let volume = Printable(&self.call.payload);
        let words = Printable(words.get(..words.len().min(700)).unwrap_or_default());
        match (self.op, status) {
            (Op::Create, Status::Done) => {
                // A repeated one may have found what somebody else had made.
                let made = if self.repeated { 0 } else { self.arg };
                self.undo(made);
                return true;
            }
            (Op::Destroy | Op::Extend, Status::Done) => {
                log::warning!(
                    "{:?} of volume {volume} had happened before it was interrupted\n",
                    self.op
                );
            }
            (Op::Undo, Status::Failed(_)) => {
                log::warning!(
                    "an interrupted create of volume {volume} may have left it: {words}\n"
                );
            }
            (Op::Create | Op::Destroy | Op::Extend, Status::Failed(errno))
                if errno != Errno::Interrupted =>
            {
                log::warning!("{:?} of volume {volume}, which was interrupted: {words}\n", self.op);
            }
            _ => {}
        }
        false
    }
}
