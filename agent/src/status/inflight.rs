// SPDX-License-Identifier: GPL-2.0-only
//! `GET /inflight`: each request that the agent has, and how it fares.
//!
//! The hop before is the status socket; the hop after are the [`crate::kernel::tags`] of every
//! queue, which the workers write. Runs on the main thread.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::base::clock::Moment;
use crate::base::errors::ErrorKind;
use crate::kernel::device::Device;
use crate::kernel::tags::InFlight;
use crate::paths::Seen;
use crate::volume::Repository;
use srb_status::RequestStatus;

/// The requests that are in flight as of `now`, the oldest first.
#[must_use]
pub fn list(devices: &[Arc<Device>], repository: &Repository, now: Moment) -> Vec<RequestStatus> {
    let mut requests = Vec::new();
    for device in devices {
        for (queue, counters) in (0..).zip(&device.counters) {
            let status = |seen| status(device, queue, seen, repository, now);
            requests.extend(counters.tags.seen().map(status));
        }
    }
    requests.sort_by_key(|request| Reverse(request.age_us));
    requests
}

fn status(
    device: &Device,
    queue: u32,
    seen: InFlight,
    repository: &Repository,
    now: Moment,
) -> RequestStatus {
    let Seen { tries, version, place, last } = seen.tries;
    RequestStatus {
        device: device.name.clone(),
        queue,
        tag: seen.tag.0,
        op: seen.op.name().to_owned(),
        offset: seen.offset,
        len: seen.len,
        age_us: now.since(seen.since) / 1000,
        tries,
        url: (tries > 0).then(|| repository.paths().url_at(version, place)).flatten(),
        last: last.map(|(kind, status)| reason(kind, status)),
    }
}

/// What a try failed of, in a few words.
fn reason(kind: ErrorKind, status: Option<u16>) -> String {
    let words = match kind {
        ErrorKind::NoUrl => "no URL",
        ErrorKind::MixedNull => "null: beside other URLs",
        ErrorKind::Invalid => "invalid request",
        ErrorKind::Unfit => "server without ranges",
        ErrorKind::Shortage => "shortage on this machine",
        ErrorKind::Unresolved => "no address of the host",
        ErrorKind::Unreachable => "host unreachable",
        ErrorKind::Refused => "connection refused",
        ErrorKind::ConnectTimeout => "no connection in time",
        ErrorKind::Timeout => "no answer in time",
        ErrorKind::Broken => "connection broke",
        ErrorKind::Garbage => "answer is no HTTP",
        ErrorKind::ServerFailed => "server failed",
        ErrorKind::Protocol => "answer makes no sense",
        ErrorKind::OutOfRange => "beyond the end",
        ErrorKind::Rejected => "rejected",
        ErrorKind::Denied => "denied",
        ErrorKind::Full => "server full",
        ErrorKind::Exists => "volume exists",
        ErrorKind::NotFound => "no such volume",
        ErrorKind::Unknown => "its outcome is not known",
        ErrorKind::Cancelled => "cancelled",
    };
    match status {
        Some(status) => format!("{words} ({status})"),
        None => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn what_failed_is_told_apart_in_a_few_words() {
        let words: HashSet<String> =
            ErrorKind::ALL.iter().map(|kind| reason(*kind, None)).collect();
        assert_eq!(words.len(), ErrorKind::ALL.len());
        assert!(words.iter().all(|words| (6..=30).contains(&words.len())), "{words:?}");
        assert_eq!(reason(ErrorKind::ServerFailed, Some(503)), "server failed (503)");
    }
}
