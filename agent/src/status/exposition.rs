// SPDX-License-Identifier: GPL-2.0-only
//! A page of metrics, as Prometheus reads it.
//!
//! Before: the status socket has what is to be shown. After: the text of its answer.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::kernel::counters::OpTotals;

/// A page in Prometheus' text format, version 0.0.4.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// Begins a metric: every sample until the next one belongs to it.
    pub fn metric(&mut self, name: &'static str, kind: &str, help: &str) -> Metric<'_> {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Metric { text: &mut self.text, name }
    }

    /// The page.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }
}

/// A metric whose samples are being written.
#[derive(Debug)]
pub struct Metric<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Metric<'_> {
    /// Writes one sample.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.suffixed("", labels, value);
    }

    fn suffixed(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let _ = write!(self.text, "{}{suffix}", self.name);
        for (at, (label, value)) in labels.iter().enumerate() {
            let separator = if at == 0 { '{' } else { ',' };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{separator}{label}=\"{value}\"");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{end} {value}");
    }

    /// Writes the buckets, the sum and the count of a latency histogram, in seconds.
    pub fn histogram(&mut self, labels: &[(&str, &str)], totals: &OpTotals) {
        for (end, below) in totals.below() {
            let bound = end.as_secs_f64().to_string();
            self.suffixed("_bucket", &[labels, &[("le", &*bound)]].concat(), below);
        }
        self.suffixed("_bucket", &[labels, &[("le", "+Inf")]].concat(), totals.count());
        self.suffixed("_sum", labels, totals.whole().as_secs_f64());
        self.suffixed("_count", labels, totals.count());
    }
}

/// Seconds since the epoch, as Prometheus wants its times.
#[must_use]
pub fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Clock;
    use crate::kernel::counters::{Counters, Totals};
    use crossbeam_utils::CachePadded;
    use srb_proto::descriptor::DataOp;

    #[test]
    fn prometheus_text() {
        let mut page = Exposition::default();
        let mut metric = page.metric("srb_x_seconds", "histogram", "Of x.");
        let counters = CachePadded::new(Counters::new(1));
        counters.completed(DataOp::Read, 2, 0, 3_000);
        metric.histogram(
            &[("device", "a\"b\\")],
            &Totals::of([&counters], Clock::start().now()).reads,
        );
        let text = page.into_text();
        assert!(text.starts_with("# HELP srb_x_seconds Of x.\n# TYPE srb_x_seconds histogram\n"));
        let device = r#"device="a\"b\\""#;
        assert!(text.contains(&format!("srb_x_seconds_bucket{{{device},le=\"0.000004\"}} 2\n")));
        assert!(text.contains(&format!("srb_x_seconds_bucket{{{device},le=\"+Inf\"}} 2\n")));
        assert!(text.contains(&format!("srb_x_seconds_sum{{{device}}} 0.000006\n")));
        assert!(text.ends_with(&format!("srb_x_seconds_count{{{device}}} 2\n")));
    }
}
