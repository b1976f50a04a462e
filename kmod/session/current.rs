// SPDX-License-Identifier: GPL-2.0-only
//! Which session there is, if there is one.

use super::Session;
use crate::{ffi::noio::recovery_mutex, lifecycle::LifecycleGuard};
use kernel::{
    sync::Arc,
    time::{Instant, Monotonic},
};

struct Current {
    session: Option<Arc<Session>>,
    /// Since when there is no agent.
    gone_since: Option<Instant<Monotonic>>,
}

recovery_mutex! {
    current: CURRENT of Current = Current { session: None, gone_since: None },
    guard pub(super) CurrentGuard
}
pub(crate) use current::init;

/// The session, if an agent is connected.
pub(crate) fn session() -> Option<Arc<Session>> {
    current::lock().session.clone()
}

/// Notes which session there is, and since when there is none.
pub(super) fn set(session: Option<Arc<Session>>, _: &LifecycleGuard) {
    let old = {
        let mut current = current::lock();
        current.gone_since = if session.is_none() { Some(Instant::now()) } else { None };
        core::mem::replace(&mut current.session, session)
    };
    drop(old);
}

/// For how many seconds there has been no agent; `None` while there is one, or when there never
/// was.
pub(crate) fn gone_for_secs() -> Option<u64> {
    let since = current::lock().gone_since?;
    u64::try_from(since.elapsed().as_millis()).ok().map(|millis| millis / 1000)
}
