// SPDX-License-Identifier: GPL-2.0-only
//! What a fault does to a request, between `connection` and `routes`.
//!
//! A request that is held or late is a task of its own: it goes on when its connection is gone,
//! as it does in a server that was stopped after the bytes had arrived.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Body as _;
use hyper::header::{HeaderValue, CONTENT_RANGE, RANGE, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use tokio::time::sleep;
use tracing::debug;

use super::draw::Drawn;
use super::ending::{without_body, Ending, Extent};
use super::rule::{Class, Fault};
use super::Faults;
use crate::answer::{Answer, Refusal};
use crate::range::ReadRange;
use crate::routes::Routes;
use crate::upload::Upload;

/// Answers a request of an armed server, or tells how its connection ends.
pub(crate) async fn answer(
    faults: &Faults,
    routes: &Arc<Routes>,
    head: Parts,
    mut upload: Upload,
) -> Result<Answer, Ending> {
    let drawn = faults.draw(class_of(&head));
    if let Some(drawn) = drawn {
        let fault = drawn.fault;
        debug!(method = %head.method, uri = %head.uri, %fault, "meets a fault");
    }
    let held_ms = match drawn.map(|drawn| drawn.fault) {
        Some(Fault::Freeze { ms }) => Some(ms),
        _ => faults.is_frozen().then_some(0),
    };
    let Some(held_ms) = held_ms else {
        return act(faults, routes, head, upload, drawn).await;
    };
    // The client that waits for a `100 Continue` has sent nothing that could be kept.
    if !upload.is_withheld() {
        if let Err(refusal) = upload.keep(&faults.0.room).await {
            return Ok(refusal.into_answer());
        }
    }
    let held = faults.hold();
    let (faults, routes) = (faults.clone(), Arc::clone(routes));
    let task = tokio::spawn(async move {
        sleep(Duration::from_millis(held_ms)).await;
        faults.thawed().await;
        drop(held);
        act(&faults, &routes, head, upload, drawn).await
    });
    // An error is the server's end, or a panic that has been reported.
    task.await.unwrap_or_else(|_| Err(Ending::close()))
}

fn class_of(head: &Parts) -> Class {
    let has = |name| head.headers.contains_key(name);
    match head.method {
        _ if head.uri.query().is_some() => Class::Control,
        Method::GET if has(RANGE) => Class::Read,
        Method::PUT if has(RANGE) || has(CONTENT_RANGE) => Class::Write,
        _ => Class::Control,
    }
}

async fn act(
    faults: &Faults,
    routes: &Arc<Routes>,
    mut head: Parts,
    mut upload: Upload,
    drawn: Option<Drawn>,
) -> Result<Answer, Ending> {
    let Some(drawn) = drawn else {
        return Ok(routes.answer(&head, upload).await);
    };
    let to_head = head.method == Method::HEAD;
    let end = |answer: Answer, extent, reset| {
        let answer = if to_head { without_body(answer) } else { answer };
        Err(Ending::answer(answer, extent, reset))
    };
    match drawn.fault {
        Fault::Freeze { .. } => Ok(routes.answer(&head, upload).await),
        Fault::Delay { min_ms, max_ms } => {
            let answer = routes.answer(&head, upload).await;
            sleep(Duration::from_millis(drawn.between(min_ms, max_ms))).await;
            faults.thawed().await;
            Ok(answer)
        }
        Fault::Status(code) => Ok(refuse(upload, code).await),
        Fault::Full => Ok(refuse(upload, StatusCode::INSUFFICIENT_STORAGE.as_u16()).await),
        Fault::Busy { retry_after_secs } => {
            let mut answer = refuse(upload, StatusCode::TOO_MANY_REQUESTS.as_u16()).await;
            answer.headers_mut().insert(RETRY_AFTER, retry_after_secs.into());
            Ok(answer)
        }
        Fault::ResetBefore => Err(Ending::reset()),
        Fault::ResetAmid if changes(&head) => {
            upload.discard_half().await;
            Err(Ending::reset())
        }
        Fault::ResetAmid => end(routes.answer(&head, upload).await, Extent::Half, true),
        Fault::ResetAfter => end(routes.answer(&head, upload).await, Extent::Whole, true),
        Fault::ShortBody => end(routes.answer(&head, upload).await, Extent::Half, false),
        Fault::LongBody => end(routes.answer(&head, upload).await, Extent::Surplus, false),
        Fault::Garbage => {
            routes.answer(&head, upload).await;
            Err(Ending::garbage(drawn.chance))
        }
        Fault::LostReply => {
            routes.answer(&head, upload).await;
            Err(Ending::close())
        }
        Fault::Late { ms } => apply_late(faults, routes, head, upload, ms).await,
        Fault::WrongRange => Ok(wrong_range(routes, head, upload).await),
        Fault::IgnoreRange => {
            head.headers.remove(RANGE);
            head.headers.remove(CONTENT_RANGE);
            Ok(routes.answer(&head, upload).await)
        }
    }
}

/// Whether the request is one that changes something.
fn changes(head: &Parts) -> bool {
    !matches!(head.method, Method::GET | Method::HEAD)
}

async fn refuse(mut upload: Upload, code: u16) -> Answer {
    upload.drain().await;
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Refusal::new(status, "a fault of the server's plan").into_answer()
}

async fn apply_late(
    faults: &Faults,
    routes: &Arc<Routes>,
    head: Parts,
    mut upload: Upload,
    ms: u64,
) -> Result<Answer, Ending> {
    if changes(&head) {
        match upload.keep(&faults.0.room).await {
            Ok(true) => {
                let (mut late, routes) = (faults.defer(), Arc::clone(routes));
                tokio::spawn(async move {
                    late.due(Duration::from_millis(ms)).await;
                    let status = routes.answer(&head, upload).await.status().as_u16();
                    debug!(method = %head.method, uri = %head.uri, status, "done late");
                });
            }
            Ok(false) => drop(routes.answer(&head, upload).await),
            Err(refusal) => return Ok(refusal.into_answer()),
        }
    }
    Err(Ending::close())
}

/// Reads as long a part as was asked for, but beside it. Where the volume has no such part, the
/// right bytes go out as those of another place.
async fn wrong_range(routes: &Arc<Routes>, mut head: Parts, upload: Upload) -> Answer {
    let asked =
        head.headers.get(RANGE).and_then(|range| ReadRange::parse(range.to_str().ok()?).ok());
    let mut right = routes.answer(&head, upload).await;
    if right.status() != StatusCode::PARTIAL_CONTENT {
        return right;
    }
    let length = right.body().size_hint().exact();
    if let (Some(ReadRange::Between { first, .. }), Some(length @ 1..)) = (asked, length) {
        let beside = [first.checked_add(length), first.checked_sub(length)];
        for first in beside.into_iter().flatten() {
            let range = format!("bytes={first}-{}", first.saturating_add(length - 1));
            let Ok(range) = HeaderValue::try_from(range) else { continue };
            head.headers.insert(RANGE, range);
            let answer = routes.answer(&head, Upload::none()).await;
            let as_long = answer.body().size_hint().exact() == Some(length);
            if answer.status() == StatusCode::PARTIAL_CONTENT && as_long {
                return answer;
            }
        }
    }
    let last = length.unwrap_or(1).saturating_add(LIE);
    if let Ok(range) = HeaderValue::try_from(format!("bytes {}-{last}/*", LIE + 1)) {
        right.headers_mut().insert(CONTENT_RANGE, range);
    }
    right
}

/// The last byte before the range that is claimed where no other one exists.
const LIE: u64 = 1 << 60;
