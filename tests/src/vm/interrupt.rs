// SPDX-License-Identifier: GPL-2.0-only
//! Turns Ctrl-C and its like into a value that a run looks at, so that it cleans up after itself.

use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};

use super::Error;

static CAUGHT: AtomicI32 = AtomicI32::new(0);

/// The signals that end a run.
const SIGNALS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// The watch for the signals that end a run; it lasts as long as the process.
pub(super) struct Watch(());

extern "C" fn note(signal: i32) {
    // ORDERING: a lone value; the thread that reads it needs nothing that was written before.
    CAUGHT.store(signal, Ordering::Relaxed);
}

impl Watch {
    /// Takes the signals over.
    pub(super) fn install() -> Result<Self, Error> {
        let action =
            SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
        for signal in SIGNALS {
            // SAFETY: the handler stores to an atomic, which is safe in a signal handler.
            unsafe { sigaction(signal, &action) }.map_err(|errno| {
                Error::Host(format!("handling {signal}"), std::io::Error::from(errno))
            })?;
        }
        Ok(Self(()))
    }

    /// The signal that came, if one did.
    #[expect(clippy::unused_self, reason = "only a watch that was installed can have caught one")]
    pub(super) fn caught(&self) -> Option<i32> {
        // ORDERING: see `note`.
        match CAUGHT.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(signal),
        }
    }
}
