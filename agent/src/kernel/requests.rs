// SPDX-License-Identifier: GPL-2.0-only
//! The requests that a data worker has under way.
//!
//! Before: the worker has fetched a submission that needs waiting. After:
//! [`crate::volume::pipeline`], whose future is polled here; the worker completes what has
//! finished. Belongs to the worker's thread.
//!
//! Reads and writes are apart, so that a turn looks at reads first: to send a megabyte takes as
//! long as a hundred small answers.

use std::future::{poll_fn, Future};
use std::pin::{pin, Pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::StreamExt;
use srb_proto::descriptor::DataOp;
use tokio::task::unconstrained;

use super::queue::Queue;
use super::transfer::Transfer;
use crate::base::errors::RequestError;
use crate::volume::Pipeline;

/// The requests.
#[derive(Default)]
pub(crate) struct Requests {
    reads: FuturesUnordered<Request>,
    writes: FuturesUnordered<Request>,
}

impl Requests {
    pub(crate) fn is_empty(&self) -> bool {
        self.reads.is_empty() && self.writes.is_empty()
    }

    /// Sends a request on its way; it begins when it is polled.
    pub(crate) fn push(&self, queue: &Queue, transfer: Transfer, pipeline: &Rc<Pipeline>) {
        let request = Request::new(queue, transfer, pipeline);
        match transfer.op {
            DataOp::Read => self.reads.push(request),
            DataOp::Write => self.writes.push(request),
        }
    }

    /// One that has finished; reads first.
    pub(crate) fn poll_finished(&mut self, cx: &mut Context<'_>) -> Option<Finished> {
        let Self { reads, writes } = self;
        let next = poll_fn(|cx| {
            for requests in [&mut *reads, &mut *writes] {
                if let Poll::Ready(Some(finished)) = requests.poll_next_unpin(cx) {
                    return Poll::Ready(Some(finished));
                }
            }
            Poll::Ready(None)
        });
        // The runtime would have each task end its turn after a hundred steps, which is after some
        // ten requests, and let the others begin in vain.
        match pin!(unconstrained(next)).poll(cx) {
            Poll::Ready(finished) => finished,
            Poll::Pending => None,
        }
    }

    /// Drops a device's requests, with the connections that they use.
    pub(crate) fn forget(&mut self, device: u32) {
        for requests in [&mut self.reads, &mut self.writes] {
            let all = std::mem::take(requests);
            *requests = all.into_iter().filter(|request| request.device != device).collect();
        }
    }
}

/// A request on its way, and the device whose window it uses.
struct Request {
    device: u32,
    transfer: Transfer,
    way: LocalBoxFuture<'static, Result<(), RequestError>>,
}

/// What became of a request.
pub(crate) struct Finished {
    pub(crate) device: u32,
    pub(crate) transfer: Transfer,
    pub(crate) result: Result<(), RequestError>,
}

impl Future for Request {
    type Output = Finished;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Finished> {
        let Self { device, transfer, .. } = *self;
        self.way.as_mut().poll(cx).map(|result| Finished { device, transfer, result })
    }
}

impl Request {
    fn new(queue: &Queue, transfer: Transfer, pipeline: &Rc<Pipeline>) -> Self {
        let (pipeline, windows) = (Rc::clone(pipeline), Rc::clone(queue.windows()));
        let (device, number) = (Arc::clone(queue.device()), queue.number());
        let way = Box::pin(async move {
            let Transfer { tag, op, repeated, offset, len, .. } = transfer;
            let len = len as usize;
            // INVARIANT: `Queue::fetch` has seen that the tag has a window.
            let Some(window) = windows.get(tag.index()) else { return Ok(()) };
            let counters = device.counters.get(number);
            let progress = counters.and_then(|counters| counters.tags.progress(tag));
            let volume = &device.volume;
            match op {
                DataOp::Read => pipeline.read_observed(volume, offset, window, len, progress).await,
                DataOp::Write => {
                    pipeline.write_observed(volume, offset, window, len, repeated, progress).await
                }
            }
        });
        Self { device: queue.device().index, transfer, way }
    }
}
