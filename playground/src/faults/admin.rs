// SPDX-License-Identifier: GPL-2.0-only
//! The admin API: what tests of other programs do to the faults of a running server, over HTTP on
//! a port of its own.
//!
//! `server` gives it a socket of 127.0.0.1; each request is a call of [`Faults`]. It works in a
//! frozen server, too.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{HeaderValue, ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::plan::Plan;
use super::Faults;

const CONNECTIONS: usize = 32;
const LONGEST_PLAN_BYTES: usize = 64 * 1024;
/// For a request, from its connection to the end of its answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// For late writes to reach their files, within that.
const FLUSH_PATIENCE: Duration = Duration::from_secs(20);

type Answer = Response<Full<Bytes>>;

/// Serves until the runtime ends.
pub(crate) async fn serve(listener: TcpListener, faults: Faults) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the admin socket is unusable");
            return;
        }
    };
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept an admin connection");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let faults = faults.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let faults = faults.clone();
                async move { Ok::<_, Infallible>(answer(&faults, request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            if let Ok(Err(error)) = timeout(PATIENCE, connection).await {
                tracing::debug!(%error, "admin connection ended");
            }
            drop(place);
        });
    }
}

async fn answer(faults: &Faults, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    match (head.uri.path(), &head.method) {
        ("/faults", &Method::GET) => report(faults),
        ("/faults", &Method::PUT) => match plan(body).await {
            Ok(plan) => {
                faults.set(plan);
                report(faults)
            }
            Err(reason) => refusal(StatusCode::BAD_REQUEST, &reason),
        },
        ("/faults", &Method::DELETE) => {
            faults.clear();
            report(faults)
        }
        ("/freeze", &Method::POST) => {
            faults.freeze();
            report(faults)
        }
        ("/thaw", &Method::POST) => {
            faults.thaw();
            report(faults)
        }
        ("/late/flush", &Method::POST) => flush(faults).await,
        ("/faults", _) => wrong_method("GET, PUT, DELETE"),
        ("/freeze" | "/thaw" | "/late/flush", _) => wrong_method("POST"),
        _ => refusal(StatusCode::NOT_FOUND, "paths are /faults, /freeze, /thaw and /late/flush"),
    }
}

async fn plan(body: Incoming) -> Result<Plan, String> {
    let body = Limited::new(body, LONGEST_PLAN_BYTES).collect().await;
    let bytes = body.map_err(|error| format!("the plan cannot be read: {error}"))?.to_bytes();
    let text = std::str::from_utf8(&bytes).map_err(|error| format!("the plan is no text: {error}"));
    text?.parse().map_err(|error: super::plan::PlanError| error.to_string())
}

async fn flush(faults: &Faults) -> Answer {
    let late = faults.clone();
    match spawn_blocking(move || late.flush_late(FLUSH_PATIENCE)).await {
        Ok(true) => report(faults),
        _ => refusal(StatusCode::SERVICE_UNAVAILABLE, "late writes are still being applied"),
    }
}

#[derive(Serialize)]
struct Reason<'a> {
    error: &'a str,
}

fn report(faults: &Faults) -> Answer {
    json(StatusCode::OK, &faults.report())
}

fn refusal(status: StatusCode, error: &str) -> Answer {
    json(status, &Reason { error })
}

fn wrong_method(allow: &'static str) -> Answer {
    let mut answer = refusal(StatusCode::METHOD_NOT_ALLOWED, &format!("methods here are {allow}"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    answer
}

fn json(status: StatusCode, document: &impl Serialize) -> Answer {
    let (status, text) = match serde_json::to_string(document) {
        Ok(text) => (status, text + "\n"),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
