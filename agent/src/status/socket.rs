// SPDX-License-Identifier: GPL-2.0-only
//! The status socket: HTTP and JSON on a Unix socket, for `srbctl` and for Prometheus.
//!
//! The hop before is whoever asks; the hop after is what the agent holds in memory, but for
//! `/volumes`, which asks a server. Runs on the main thread beside the control worker, and never
//! keeps a data worker waiting: counters are read where the workers write them.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::errno::Errno;
use nix::libc;
use serde::Serialize;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::view::View;
use srb_status::{
    Devices, ErrorInfo, Errors, Refused, Urls, DEVICES_PATH, ERRORS_PATH, INFLIGHT_PATH,
    STATUS_PATH, URLS_PATH, VOLUMES_PATH,
};

/// Connections that are served at a time.
const CONNECTIONS: usize = 16;
/// For a request's head to come in.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

type Answer = Response<Full<Bytes>>;

/// The socket. Removed from the file system on drop.
pub struct StatusSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!("cannot remove {}: {error}", self.path.display());
        }
    }
}

impl StatusSocket {
    /// Listens at `path`, for root alone. Makes its folder; replaces a socket that nobody listens
    /// at.
    ///
    /// # Errors
    /// EADDRINUSE if somebody listens there, and what making a socket gives.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
        }
        match StdStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path)?;
            }
            // Nothing is there; anything else will be said by bind(2).
            Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        let socket = Self { listener, path: path.into() };
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(socket)
    }

    /// Answers until the future is dropped. Must be used inside a `LocalSet`.
    pub async fn serve(&self, view: Rc<View>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let view = Rc::clone(&view);
                    tokio::task::spawn_local(async move {
                        serve_connection(stream, view).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!("the status socket cannot accept: {error}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

async fn serve_connection(stream: UnixStream, view: Rc<View>) {
    let service = service_fn(|request| {
        let view = Rc::clone(&view);
        async move { Ok::<_, Infallible>(answer(&request, &view).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!("status socket: {error}");
    }
}

async fn answer(request: &Request<Incoming>, view: &View) -> Answer {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return refused(StatusCode::METHOD_NOT_ALLOWED, libc::EINVAL, "only GET is answered");
    }
    match request.uri().path() {
        STATUS_PATH => json(StatusCode::OK, &view.status()),
        URLS_PATH => json(StatusCode::OK, &Urls { urls: view.urls() }),
        DEVICES_PATH => json(StatusCode::OK, &Devices { devices: view.devices() }),
        INFLIGHT_PATH => json(StatusCode::OK, &view.in_flight()),
        ERRORS_PATH => json(StatusCode::OK, &Errors { errors: view.office.failures.list() }),
        VOLUMES_PATH => match view.volumes().await {
            Ok(volumes) => json(StatusCode::OK, &volumes),
            Err(error) => refused(StatusCode::BAD_GATEWAY, error.errno(), &error.to_string()),
        },
        "/metrics" => text("text/plain; version=0.0.4; charset=utf-8", view.metrics()),
        "/healthz" => text("text/plain; charset=utf-8", "ok\n".into()),
        path => refused(StatusCode::NOT_FOUND, libc::ENOENT, &format!("there is no {path}")),
    }
}

fn response(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let value = hyper::header::HeaderValue::from_static(content_type);
    answer.headers_mut().insert(CONTENT_TYPE, value);
    answer
}

fn text(content_type: &'static str, body: String) -> Answer {
    response(StatusCode::OK, content_type, body.into_bytes())
}

fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    match serde_json::to_vec(body) {
        Ok(body) => response(status, "application/json", body),
        // Strings, numbers and lists alone: always writable.
        Err(_) => response(StatusCode::INTERNAL_SERVER_ERROR, "application/json", b"{}".to_vec()),
    }
}

fn refused(status: StatusCode, errno: i32, message: &str) -> Answer {
    let name = format!("{:?}", Errno::from_raw(errno));
    let error = ErrorInfo { errno, name, message: message.to_owned() };
    json(status, &Refused { error })
}
