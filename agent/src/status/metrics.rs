// SPDX-License-Identifier: GPL-2.0-only
//! The page of metrics, for Prometheus.
//!
//! Before: [`super::socket`] is asked for it. After: [`super::exposition`] writes it.

use super::exposition::{unix_seconds, Exposition};
use super::view::View;
use crate::kernel::counters::Totals;
use crate::paths;

impl View {
    pub(super) fn metrics(&self) -> String {
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
