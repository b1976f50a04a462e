// SPDX-License-Identifier: GPL-2.0-only
//! What is compared with what, and what srb wants to reach.

use super::Figure;

/// The contender whose figures a name of a ratio calls otherwise, and the jobs compared.
type Comparison = (&'static str, &'static str, &'static [&'static str]);

const COMPARISONS: [Comparison; 5] = [
    ("ring_null", "null_blk", &RING),
    ("ring_null", "ublk", &RING),
    ("ring_null", "nbd", &RING),
    ("http", "nbdkit", &RING),
    ("http", "wrk", &["randread_4k_qd1", "randread_4k_qd32", "read_1m_qd8"]),
];

const RING: [&str; 6] = [
    "randread_4k_qd1",
    "randwrite_4k_qd1",
    "randread_4k_qd32",
    "randwrite_4k_qd32",
    "read_1m_qd8",
    "write_1m_qd8",
];

/// A bound for a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Goal {
    /// The figure.
    pub name: &'static str,
    /// The bound.
    pub bound: f64,
    /// Whether the bound is the most that is wanted; else it is the least.
    pub at_most: bool,
}

const fn least(name: &'static str, bound: f64) -> Goal {
    Goal { name, bound, at_most: false }
}

const fn most(name: &'static str, bound: f64) -> Goal {
    Goal { name, bound, at_most: true }
}

/// All of them, in the order of the table.
pub const GOALS: [Goal; 20] = [
    least("ring_null_randread_4k_qd1_vs_ublk", 1.3),
    least("ring_null_randread_4k_qd32_vs_ublk", 2.0),
    least("ring_null_randwrite_4k_qd32_vs_ublk", 2.0),
    least("ring_null_read_1m_qd8_vs_ublk", 1.3),
    least("ring_null_write_1m_qd8_vs_ublk", 1.3),
    least("ring_null_randread_4k_qd32_vs_nbd", 3.3),
    least("http_randread_4k_qd1_vs_nbdkit", 1.5),
    least("http_randwrite_4k_qd1_vs_nbdkit", 1.5),
    least("http_randread_4k_qd32_vs_nbdkit", 2.2),
    least("http_randwrite_4k_qd32_vs_nbdkit", 2.2),
    least("http_read_1m_qd8_vs_nbdkit", 1.8),
    least("http_write_1m_qd8_vs_nbdkit", 1.8),
    least("http_randread_4k_qd32_vs_wrk", 0.75),
    least("http_read_1m_qd8_vs_wrk", 0.80),
    least("seq_buffered_write_avg_request_kib", 512.0),
    least("seq_buffered_read_avg_request_kib", 512.0),
    most("attach_ratio_1000_vs_1_devices", 1.5),
    most("idle_device_kib", 256.0),
    most("agent_rss_mib", 16.0),
    most("resume_with_standby_ms", 20.0),
];

impl Goal {
    /// Whether this value reaches it.
    #[must_use]
    pub fn reached(&self, value: f64) -> bool {
        if self.at_most {
            value <= self.bound
        } else {
            value >= self.bound
        }
    }

    /// By how much a value misses it, in percent of the bound; 0 if it does not.
    #[must_use]
    pub fn missed_percent(&self, value: f64) -> f64 {
        if self.reached(value) {
            0.0
        } else {
            (value / self.bound - 1.0).abs() * 100.0
        }
    }
}

/// The figure of this name.
#[must_use]
pub fn find(figures: &[Figure], name: &str) -> Option<f64> {
    figures.iter().find(|figure| figure.name == name).map(|figure| figure.value)
}

/// The ratios that these figures allow.
#[must_use]
pub fn ratios(figures: &[Figure]) -> Vec<Figure> {
    let mut ratios = Vec::new();
    let mut add = |name: String, ours: &str, theirs: &str| {
        if let (Some(ours), Some(theirs)) = (find(figures, ours), find(figures, theirs)) {
            ratios.push(Figure::new(name, ours / theirs, "ratio"));
        }
    };
    for (ours, theirs, jobs) in COMPARISONS {
        for job in jobs {
            let name = format!("{ours}_{job}_vs_{theirs}");
            add(name, &format!("{ours}_{job}_iops"), &format!("{theirs}_{job}_iops"));
        }
    }
    let attach = "attach_ratio_1000_vs_1_devices".to_owned();
    add(attach, "attach_ms_at_1000_devices", "attach_ms_at_1_device");
    ratios
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_needs_both_of_its_figures() {
        let figures = [
            Figure::new("ring_null_randread_4k_qd1_iops", 300.0, "1/s"),
            Figure::new("ublk_randread_4k_qd1_iops", 200.0, "1/s"),
            Figure::new("http_read_1m_qd8_iops", 5.0, "1/s"),
        ];
        let expected = [Figure::new("ring_null_randread_4k_qd1_vs_ublk", 1.5, "ratio")];
        assert_eq!(ratios(&figures), expected);
    }

    #[test]
    fn goals_bound_from_their_side() {
        assert!(least("x", 2.0).reached(2.0) && !least("x", 2.0).reached(1.9));
        assert!(most("x", 2.0).reached(2.0) && !most("x", 2.0).reached(2.1));
        assert!((least("x", 2.0).missed_percent(1.5) - 25.0).abs() < 1e-9);
        assert!((most("x", 2.0).missed_percent(3.0) - 50.0).abs() < 1e-9);
        assert!(most("x", 2.0).missed_percent(1.0).abs() < 1e-9);
    }

    #[test]
    fn every_goal_for_a_ratio_is_a_ratio_that_is_made() {
        let contenders = ["null_blk", "ublk", "nbd", "ring_null", "http", "nbdkit", "wrk"];
        let mut all: Vec<Figure> = contenders
            .iter()
            .flat_map(|who| RING.iter().map(move |job| format!("{who}_{job}_iops")))
            .map(|name| Figure::new(name, 1.0, "1/s"))
            .collect();
        all.push(Figure::new("attach_ms_at_1_device", 1.0, "ms"));
        all.push(Figure::new("attach_ms_at_1000_devices", 1.0, "ms"));
        let made = ratios(&all);
        for goal in GOALS.iter().filter(|goal| goal.name.contains("_vs_")) {
            assert!(find(&made, goal.name).is_some(), "{}", goal.name);
        }
    }
}
