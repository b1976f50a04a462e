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
use std::time::{Duration, SystemTime};

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
use srb_proto::layout::ABI_VERSION;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::control_channel::Office;
use crate::counters::Totals;
use crate::errors::RequestError;
use crate::exposition::{unix_seconds, Exposition};
use crate::inflight;
use crate::paths;
use crate::queue::Device;
use srb_status::{
    AgentStatus, DeviceStatus, Devices, ErrorInfo, Errors, InFlight, Refused, Settings, Status,
    UrlState, UrlStatus, Urls, VolumeStatus, Volumes, DEVICES_PATH, ERRORS_PATH, INFLIGHT_PATH,
    STATUS_PATH, URLS_PATH, VOLUMES_PATH,
};

/// Connections that are served at a time.
const CONNECTIONS: usize = 16;
/// For a request's head to come in.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

type Answer = Response<Full<Bytes>>;

/// What the socket shows.
pub struct View {
    /// All that operations work with.
    pub office: Rc<Office>,
    /// The one clock.
    pub clock: Clock,
    /// When the process started.
    pub started: SystemTime,
}

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

fn secs(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl View {
    fn status(&self) -> Status {
        let settings = self.office.repository.settings();
        Status {
            agent: AgentStatus {
                version: env!("CARGO_PKG_VERSION").into(),
                abi: ABI_VERSION,
                pid: std::process::id(),
                uptime_secs: self.clock.uptime().as_secs(),
                session: Some(self.office.session.number()),
                queues: self.office.session.queues(),
            },
            settings: Settings {
                debug: settings.debug,
                req_timeout_secs: secs(settings.req_timeout),
                nb_req_retries: settings.nb_req_retries,
                server_conn_timeout_secs: secs(settings.server_conn_timeout),
                thread_pool_size: settings.thread_pool_size,
            },
            urls: self.urls(),
            devices: self.devices(),
        }
    }

    fn urls(&self) -> Vec<UrlStatus> {
        let state = |state| match state {
            paths::UrlState::Unknown => UrlState::Unknown,
            paths::UrlState::Up => UrlState::Up,
            paths::UrlState::Down => UrlState::Down,
        };
        let convert = |url: paths::UrlStatus| UrlStatus {
            state: state(url.state),
            reason: url.unfit.or_else(|| {
                (url.state == paths::UrlState::Down)
                    .then(|| format!("{} failures in a row", url.consecutive_failures))
            }),
            url: url.url,
            active: url.active,
            requests: url.requests,
            errors: url.errors,
            latency_us: Some(micros(url.latency)).filter(|latency| *latency > 0),
            read_latency_us: Some(micros(url.read_latency)).filter(|latency| *latency > 0),
            probes: url.probes,
            hedged: url.hedged,
            hedge_wins: url.hedge_wins,
            connections_opened: url.connections_opened,
            last_error: url.last_error,
        };
        self.office.repository.status().into_iter().map(convert).collect()
    }

    fn devices(&self) -> Vec<DeviceStatus> {
        let mut devices: Vec<_> =
            self.office.devices.list().iter().map(|device| self.device(device)).collect();
        devices.sort_by(|a, b| a.name.cmp(&b.name));
        devices
    }

    fn device(&self, device: &Device) -> DeviceStatus {
        let totals = Totals::of(&device.counters, self.clock.now());
        DeviceStatus {
            name: device.name.clone(),
            volume: device.volume.name().to_owned(),
            // With the session gone the last size known is as good as any.
            size_bytes: device.refresh_size().unwrap_or_else(|_| device.size_bytes()),
            attachment: device.attachment,
            in_flight: totals.in_flight,
            oldest_age_ms: totals.oldest_nanos.map(|nanos| nanos / 1_000_000),
            reads: totals.reads.completed,
            writes: totals.writes.completed,
            read_bytes: totals.reads.bytes,
            written_bytes: totals.writes.bytes,
            errors: totals.reads.failed.wrapping_add(totals.writes.failed),
            held: totals.reads.held.wrapping_add(totals.writes.held),
            retries: device.volume.retries(),
            read_latency: totals.reads.latency(),
            write_latency: totals.writes.latency(),
        }
    }

    fn in_flight(&self) -> InFlight {
        let Office { devices, repository, .. } = &*self.office;
        InFlight { requests: inflight::list(&devices.list(), repository, self.clock.now()) }
    }

    async fn volumes(&self) -> Result<Volumes, RequestError> {
        let names = self.office.volumes.list().await?;
        let volume = |name| VolumeStatus { name, size_bytes: None };
        Ok(Volumes { volumes: names.into_iter().map(volume).collect() })
    }

    fn metrics(&self) -> String {
        let mut page = Exposition::default();
        let build = [("version", env!("CARGO_PKG_VERSION"))];
        page.metric("srb_build_info", "gauge", "Version of the agent.").sample(&build, 1);
        page.metric("process_start_time_seconds", "gauge", "When the agent started.")
            .sample(&[], unix_seconds(self.started));
        page.metric("srb_session", "gauge", "Number of the session with the module.")
            .sample(&[], self.office.session.number());
        self.device_metrics(&mut page);
        self.url_metrics(&mut page);
        page.into_text()
    }

    fn device_metrics(&self, page: &mut Exposition) {
        let (devices, now) = (self.office.devices.list(), self.clock.now());
        let totals: Vec<_> = devices
            .iter()
            .map(|device| {
                let labels = [("device", &*device.name), ("volume", device.volume.name())];
                (labels, device, Totals::of(&device.counters, now))
            })
            .collect();
        let mut metric = page.metric("srb_device_size_bytes", "gauge", "Size of the volume.");
        for (labels, device, _) in &totals {
            metric.sample(labels, device.size_bytes());
        }
        let help = "Requests fetched from the module and not completed.";
        let mut metric = page.metric("srb_device_in_flight_requests", "gauge", help);
        for (labels, _, totals) in &totals {
            metric.sample(labels, totals.in_flight);
        }
        let by_op =
            |totals: &Totals| [("read", totals.reads.clone()), ("write", totals.writes.clone())];
        let help = "Tries beyond the first one of each request.";
        let mut metric = page.metric("srb_device_retries_total", "counter", help);
        for (labels, device, _) in &totals {
            metric.sample(labels, device.volume.retries());
        }
        let help = "Times that a request went back to the module to be held, no server answering.";
        let mut metric = page.metric("srb_requests_held_total", "counter", help);
        for (labels, _, totals) in &totals {
            for (op, totals) in by_op(totals) {
                metric.sample(&[labels.as_slice(), &[("op", op)]].concat(), totals.held);
            }
        }
        let help = "Requests completed.";
        let mut metric = page.metric("srb_device_requests_total", "counter", help);
        for (labels, _, totals) in &totals {
            for (op, totals) in by_op(totals) {
                let labels =
                    |result| [labels.as_slice(), &[("op", op), ("result", result)]].concat();
                metric.sample(&labels("success"), totals.completed);
                metric.sample(&labels("error"), totals.failed);
            }
        }
        let mut metric =
            page.metric("srb_device_bytes_total", "counter", "Bytes moved by completed requests.");
        for (labels, _, totals) in &totals {
            for (op, totals) in by_op(totals) {
                metric.sample(&[labels.as_slice(), &[("op", op)]].concat(), totals.bytes);
            }
        }
        let help = "Time from the fetching of a request to its completion.";
        let mut metric = page.metric("srb_device_request_duration_seconds", "histogram", help);
        for (labels, _, totals) in &totals {
            for (op, totals) in by_op(totals) {
                metric.histogram(&[labels.as_slice(), &[("op", op)]].concat(), &totals);
            }
        }
    }

    fn url_metrics(&self, page: &mut Exposition) {
        type Value = fn(&paths::UrlStatus) -> f64;
        let metrics: [(&str, &str, &str, Value); 13] = [
            ("srb_url_up", "gauge", "Whether the server answers (1), or is avoided (0).", |url| {
                f64::from(url.state != paths::UrlState::Down)
            }),
            ("srb_url_active", "gauge", "Whether requests go there first.", |url| {
                f64::from(url.active)
            }),
            ("srb_url_requests_total", "counter", "Tries sent to the server.", |url| {
                url.requests as f64
            }),
            ("srb_url_errors_total", "counter", "Tries that failed.", |url| url.errors as f64),
            ("srb_url_latency_seconds", "gauge", "Smoothed time to an answer.", |url| {
                url.latency.as_secs_f64()
            }),
            ("srb_url_read_bytes_total", "counter", "Data that came from the server.", |url| {
                url.bytes_read as f64
            }),
            ("srb_url_written_bytes_total", "counter", "Data that the server took.", |url| {
                url.bytes_written as f64
            }),
            ("srb_url_read_latency_seconds", "gauge", "Smoothed time to a read's answer.", |url| {
                url.read_latency.as_secs_f64()
            }),
            ("srb_url_probes_total", "counter", "Probes sent while it was down.", |url| {
                url.probes as f64
            }),
            ("srb_url_failed_probes_total", "counter", "Probes that found it down.", |url| {
                url.failed_probes as f64
            }),
            ("srb_url_hedged_total", "counter", "Reads it got as another URL was slow.", |url| {
                url.hedged as f64
            }),
            ("srb_url_hedge_wins_total", "counter", "Those that it answered first.", |url| {
                url.hedge_wins as f64
            }),
            ("srb_url_connections_total", "counter", "Connections opened.", |url| {
                url.connections_opened as f64
            }),
        ];
        let urls = self.office.repository.status();
        for (name, kind, help, value) in metrics {
            let mut metric = page.metric(name, kind, help);
            for url in &urls {
                metric.sample(&[("url", &url.url)], value(url));
            }
        }
    }
}
