// SPDX-License-Identifier: GPL-2.0-only
//! The list of repository URLs, the one in use, and the number that tells one state of it from
//! another.
//!
//! Nothing is taken and nobody waited for while `URLS` is held, so that files of disks may take it.

use crate::ffi::errors::ESTALE;
use crate::ffi::noio::recovery_mutex;
use crate::proto::command::{Kind, RepositoryUrl, MAX_URLS};
use kernel::prelude::*;

struct Known {
    url: RepositoryUrl,
    /// An agent has seen that it honours ranges.
    fit: bool,
}

struct Urls {
    list: KVec<Known>,
    active: usize,
    /// Counts the changes of the list and of the parameters.
    version: u64,
}

recovery_mutex! {
    known: URLS of Urls = Urls { list: KVec::new(), active: 0, version: 1 },
    guard pub(super) UrlsGuard
}

/// # Safety
/// Called once, before anything else here.
pub(crate) unsafe fn init() {
    // SAFETY: The contract.
    unsafe { known::init() };
}

/// Adds a URL.
///
/// EEXIST: it is there. ENOSPC: the list is full. EINVAL: `null:` stands alone.
pub(crate) fn add(url: RepositoryUrl) -> Result {
    let mut urls = known::lock();
    if urls.list.iter().any(|known| known.url == url) {
        return Err(EEXIST);
    }
    if urls.list.len() >= MAX_URLS {
        return Err(ENOSPC);
    }
    let is_null = |url: &RepositoryUrl| matches!(url.kind(), Kind::Null { .. });
    if urls.list.iter().any(|known| is_null(&known.url) || is_null(&url)) {
        return Err(EINVAL);
    }
    urls.list.push(Known { url, fit: false }, GFP_KERNEL)?;
    urls.version = urls.version.wrapping_add(1);
    Ok(())
}

/// Removes a URL.
///
/// ENOENT: it is not there. EBUSY: it is the last one, and `needed`.
pub(crate) fn remove(url: &RepositoryUrl, needed: bool) -> Result {
    let mut urls = known::lock();
    let at = urls.list.iter().position(|known| known.url == *url).ok_or(ENOENT)?;
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

/// What stands between a URL and the name of a volume in it.
pub(crate) fn separator(url: &RepositoryUrl) -> &'static str {
    match url.kind() {
        Kind::Null { .. } => "#",
        _ => "/",
    }
}

/// Whether none is configured.
pub(crate) fn is_empty() -> bool {
    known::lock().list.is_empty()
}

/// Forgets all, at the module's end.
pub(crate) fn clear() {
    let mut urls = known::lock();
    urls.list = KVec::new();
}

/// Notes a change of parameters, so that the agent's next look finds another version.
pub(crate) fn touch() {
    let mut urls = known::lock();
    urls.version = urls.version.wrapping_add(1);
}

/// Notes which URL requests go to, and which ones honour ranges, a bit for each.
///
/// ESTALE: the list is another one by now. EINVAL: it has no such place.
pub(crate) fn set_active(version: u64, index: usize, fit: u32) -> Result {
    let mut urls = known::lock();
    if urls.version != version {
        return Err(ESTALE);
    }
    if index >= urls.list.len() {
        return Err(EINVAL);
    }
    urls.active = index;
    for (place, known) in urls.list.iter_mut().enumerate() {
        known.fit |= bit(place) & fit != 0;
    }
    Ok(())
}

fn bit(place: usize) -> u32 {
    1u32.checked_shl(place as u32).unwrap_or(0)
}

/// Visits the URLs, in the order in which they were added, until `visit` says false. Returns the
/// version, and which of them honour ranges, a bit for each.
pub(crate) fn for_each(mut visit: impl FnMut(&RepositoryUrl) -> bool) -> (u64, u32) {
    let urls = known::lock();
    let mut fit = 0;
    for (place, known) in urls.list.iter().enumerate() {
        if !visit(&known.url) {
            break;
        }
        if known.fit {
            fit |= bit(place);
        }
    }
    (urls.version, fit)
}

/// Visits the URLs, the one in use first.
pub(crate) fn for_each_active_first(mut visit: impl FnMut(&RepositoryUrl) -> bool) {
    let urls = known::lock();
    let others = urls.list.iter().enumerate().filter(|(at, _)| *at != urls.active);
    let first = urls.list.get(urls.active).into_iter();
    for known in Iterator::chain(first, others.map(|(_, known)| known)) {
        if !visit(&known.url) {
            break;
        }
    }
}
