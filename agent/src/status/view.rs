// SPDX-License-Identifier: GPL-2.0-only
//! What the agent shows of itself, as the types that go over the socket.
//!
//! Before: [`super::socket`] is asked. After: what the agent holds in memory, but for the volumes,
//! for which a server is asked. Counters are read where the workers write them, so no data worker
//! waits for a view.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use srb_proto::layout::ABI_VERSION;
use srb_status::{
    AgentStatus, DeviceStatus, InFlight, Settings, Status, UrlState, UrlStatus, VolumeStatus,
    Volumes,
};

use super::inflight;
use crate::base::clock::Clock;
use crate::base::errors::RequestError;
use crate::kernel::counters::Totals;
use crate::kernel::device::Device;
use crate::kernel::office::Office;
use crate::paths;

/// What the socket shows.
pub struct View {
    /// All that operations work with.
    pub office: Rc<Office>,
    /// The one clock.
    pub clock: Clock,
    /// When the process started.
    pub started: SystemTime,
}

fn secs(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl View {
    pub(super) fn status(&self) -> Status {
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

    pub(super) fn urls(&self) -> Vec<UrlStatus> {
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

    pub(super) fn devices(&self) -> Vec<DeviceStatus> {
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

    pub(super) fn in_flight(&self) -> InFlight {
        let Office { devices, repository, .. } = &*self.office;
        InFlight { requests: inflight::list(&devices.list(), repository, self.clock.now()) }
    }

    pub(super) async fn volumes(&self) -> Result<Volumes, RequestError> {
        let names = self.office.volumes.list().await?;
        let volume = |name| VolumeStatus { name, size_bytes: None };
        Ok(Volumes { volumes: names.into_iter().map(volume).collect() })
    }
}
