// SPDX-License-Identifier: GPL-2.0-only
//! The list of repository URLs, the one in use, and the number that tells one state of it from
//! another.
//!
//! # Lock order
//! `URLS` is a leaf: nothing is taken and nobody waited for while it is held, so that disk
//! attributes may take it.

use crate::proto::command::{Kind, RepositoryUrl, MAX_URLS};
use kernel::{prelude::*, sync::global_lock};

struct Urls {
    list: KVec<RepositoryUrl>,
    active: usize,
    /// Counts the changes of the list and of the parameters.
    version: u64,
}

global_lock! {
    // SAFETY: `init` runs before anything else of the module.
    unsafe(uninit) static URLS: Mutex<Urls> = Urls { list: KVec::new(), active: 0, version: 1 };
}

/// # Safety
/// Called once, before anything else here.
pub(crate) unsafe fn init() {
    // SAFETY: The contract.
    unsafe { URLS.init() };
}

/// Adds a URL.
///
/// EEXIST: it is there. ENOSPC: the list is full. EINVAL: `null:` stands alone.
pub(crate) fn add(url: RepositoryUrl) -> Result {
    let mut urls = URLS.lock();
    if urls.list.iter().any(|known| *known == url) {
        return Err(EEXIST);
    }
    if urls.list.len() >= MAX_URLS {
        return Err(ENOSPC);
    }
    let is_null = |url: &RepositoryUrl| matches!(url.kind(), Kind::Null { .. });
    if urls.list.iter().any(|known| is_null(known) || is_null(&url)) {
        return Err(EINVAL);
    }
    urls.list.push(url, GFP_KERNEL)?;
    urls.version = urls.version.wrapping_add(1);
    Ok(())
}

/// Removes a URL.
///
/// ENOENT: it is not there. EBUSY: it is the last one, and `needed`.
pub(crate) fn remove(url: &RepositoryUrl, needed: bool) -> Result {
    let mut urls = URLS.lock();
    let at = urls.list.iter().position(|known| known == url).ok_or(ENOENT)?;
    if urls.list.len() == 1 && needed {
        return Err(EBUSY);
    }
    urls.list.remove(at).map_err(|_| ENOENT)?;
    urls.active = match urls.active {
        active if active > at => active.wrapping_sub(1),
        active if active == at => 0,
        active => active,
    };
    urls.version = urls.version.wrapping_add(1);
    Ok(())
}

/// Whether none is configured.
pub(crate) fn is_empty() -> bool {
    URLS.lock().list.is_empty()
}

/// Forgets all, at the module's end.
pub(crate) fn clear() {
    let mut urls = URLS.lock();
    urls.list = KVec::new();
}

/// Notes a change of parameters, so that the agent's next look finds another version.
pub(crate) fn touch() {
    let mut urls = URLS.lock();
    urls.version = urls.version.wrapping_add(1);
}

/// Notes which URL requests go to.
///
/// ESTALE: the list is another one by now. EINVAL: it has no such place.
pub(crate) fn set_active(version: u64, index: usize) -> Result {
    let mut urls = URLS.lock();
    if urls.version != version {
        return Err(ESTALE);
    }
    if index >= urls.list.len() {
        return Err(EINVAL);
    }
    urls.active = index;
    Ok(())
}

/// Visits the URLs, in the order in which they were added, until `visit` says false. Returns the
/// version.
pub(crate) fn for_each(mut visit: impl FnMut(&RepositoryUrl) -> bool) -> u64 {
    let urls = URLS.lock();
    for url in &urls.list {
        if !visit(url) {
            break;
        }
    }
    urls.version
}

/// Visits the URLs, the one in use first.
pub(crate) fn for_each_active_first(mut visit: impl FnMut(&RepositoryUrl) -> bool) {
    let urls = URLS.lock();
    let others = urls.list.iter().enumerate().filter(|(at, _)| *at != urls.active);
    let first = urls.list.get(urls.active).into_iter();
    for url in Iterator::chain(first, others.map(|(_, url)| url)) {
        if !visit(url) {
            break;
        }
    }
}
