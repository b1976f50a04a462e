// SPDX-License-Identifier: GPL-2.0-only
//! What joins a channel to an agent: rings in shared memory, for the time of a session.

use crate::{
    memory::Memory,
    peer::Peer,
    proto::{
        descriptor::{COMPLETION_WORDS, SUBMISSION_WORDS},
        ring::{Consumer, Producer},
    },
};
use kernel::sync::Arc;

/// The link of a channel; whoever has the channel's lock may use it.
pub(crate) struct Link {
    pub(crate) peer: Arc<Peer>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) submissions: Producer<SUBMISSION_WORDS>,
    pub(crate) completions: Consumer<COMPLETION_WORDS>,
}

impl Link {
    /// A new one, with empty rings.
    pub(crate) fn new(peer: Arc<Peer>, memory: Arc<Memory>) -> Self {
        Self { peer, memory, submissions: Producer::new(), completions: Consumer::new() }
    }

    /// Whether it is to the agent of this session.
    pub(crate) fn is_of(&self, session: u64) -> bool {
        self.peer.id() == session
    }
}

/// The agent broke the protocol.
pub(crate) struct Corrupt;
