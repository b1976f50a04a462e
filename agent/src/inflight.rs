// SPDX-License-Identifier: GPL-2.0-only
//! `GET /inflight`: each request that the agent has, and how it fares.
//!
//! The hop before is the status socket; the hop after are the [`crate::tags`] of every queue, which
//! the workers write. Runs on the main thread.

use std::cmp::Reverse;
use std::sync::Arc;

use srb_proto::descriptor::Op;

use crate::metrics::Moment;
use crate::queue::Device;
use crate::status::RequestStatus;
use crate::tags::InFlight;

/// The requests that are in flight as of `now`, the oldest first.
#[must_use]
pub fn list(devices: &[Arc<Device>], now: Moment) -> Vec<RequestStatus> {
    let mut requests = Vec::new();
    for device in devices {
        for (queue, counters) in (0..).zip(&device.counters) {
            requests.extend(counters.tags.seen().map(|seen| status(device, queue, seen, now)));
        }
    }
    requests.sort_by_key(|request| Reverse(request.age_us));
    requests
}

fn status(device: &Device, queue: u32, seen: InFlight, now: Moment) -> RequestStatus {
    RequestStatus {
        device: device.name.clone(),
        queue,
        tag: seen.tag.0,
        op: if seen.op == Op::Write { "write" } else { "read" }.to_owned(),
        offset: seen.offset,
        len: seen.len,
        age_us: now.since(seen.since) / 1000,
        tries: 0,
        url: None,
        last: None,
    }
}
