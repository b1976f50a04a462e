// SPDX-License-Identifier: GPL-2.0-only
//! Outside the VM: records become figures and ratios, a table, a chart, and a comparison with what
//! was recorded before.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use super::goals::{find, ratios, Goal, GOALS};
use super::{chart, jobs, Figure, Record};

/// What a run found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Results {
    /// All figures, ratios included.
    pub figures: Vec<Figure>,
    /// What could not be measured: a name and the reason.
    pub missing: Vec<(String, String)>,
    /// Programs and their versions.
    pub versions: Vec<(String, String)>,
}

impl Results {
    /// Takes the records out of what the guest printed.
    #[must_use]
    pub fn read(output: &str) -> Self {
        let mut results = Self::default();
        let records = output.lines().filter_map(|line| serde_json::from_str(line.trim()).ok());
        for record in records {
            match record {
                Record::Figure(figure) => results.figures.push(figure),
                Record::Missing { name, reason } => results.missing.push((name, reason)),
                Record::Version { name, version } => results.versions.push((name, version)),
            }
        }
        let ratios = ratios(&results.figures);
        results.figures.splice(0..0, ratios);
        results
    }

    /// The array of figures, as JSON, one a line.
    #[must_use]
    pub fn json(&self) -> String {
        json(&self.figures)
    }

    /// The chart, as SVG.
    #[must_use]
    pub fn chart(&self) -> String {
        chart::svg(&self.figures)
    }

    /// The tables, as Markdown, below a line that says when, what and how.
    #[must_use]
    pub fn table(&self, heading: &Heading) -> String {
        let mut text = format!(
            "<!-- SPDX-License-Identifier: GPL-2.0-only -->\n<!-- Written by `{0}`. -->\n\
             # Measured on {1}\n\nBy `{0}`, of srb {2}. \
             [What the figures mean](../performance.md).\n\n![chart](chart.svg)\n\n",
            heading.command, heading.date, heading.commit
        );
        text.push_str("| program | version |\n|---|---|\n");
        for (name, version) in &self.versions {
            let _ = writeln!(text, "| {name} | {version} |");
        }
        text.push_str("\n# Goals\n\n");
        text.push_str(&self.goals());
        text.push_str("\n# Requests per second\n\n");
        text.push_str(&self.rates());
        text.push_str("\n# All figures\n\n| name | value | unit |\n|---|---|---|\n");
        for Figure { name, value, unit } in &self.figures {
            let _ = writeln!(text, "| `{name}` | {} | {unit} |", number(*value));
        }
        if !self.missing.is_empty() {
            text.push_str("\n# Missing\n\n| what | why |\n|---|---|\n");
        }
        for (name, reason) in &self.missing {
            let reason = reason.replace('\n', " ").replace('|', "\\|");
            let _ = writeln!(text, "| `{name}` | {reason} |");
        }
        text
    }

    /// Each goal, what was measured, and whether that reaches it.
    fn goals(&self) -> String {
        let mut text = "| name | goal | measured | |\n|---|---|---|---|\n".to_owned();
        for goal in &GOALS {
            let Goal { name, bound, at_most } = goal;
            let side = if *at_most { "at most" } else { "at least" };
            let (value, verdict) = match find(&self.figures, name) {
                None => ("–".to_owned(), "not measured".to_owned()),
                Some(value) if goal.reached(value) => (number(value), "reached".to_owned()),
                Some(value) => {
                    let by = goal.missed_percent(value);
                    (number(value), format!("**missed by {by:.0} %**"))
                }
            };
            let _ = writeln!(text, "| `{name}` | {side} {bound} | {value} | {verdict} |");
        }
        text
    }

    /// Jobs by contenders.
    fn rates(&self) -> String {
        const WHO: [&str; 7] = ["null_blk", "ring_null", "ublk", "nbd", "wrk", "http", "nbdkit"];
        let mut text =
            format!("| job | {} |\n|---{}|\n", WHO.join(" | "), "|---".repeat(WHO.len()));
        for shape in jobs::ALL {
            let _ = write!(text, "| {} |", shape.name);
            for who in WHO {
                let value = find(&self.figures, &format!("{who}_{}_iops", shape.name));
                let _ = write!(text, " {} |", value.map_or("–".to_owned(), number));
            }
            text.push('\n');
        }
        text
    }

    /// Against what was recorded: name, then, now, and the difference in percent.
    #[must_use]
    pub fn compare(&self, recorded: &[Figure]) -> String {
        let mut text = format!("{:<36} {:>10} {:>10} {:>8}\n", "", "recorded", "now", "change");
        for Figure { name, value, .. } in &self.figures {
            let now = number(*value);
            let _ = match find(recorded, name) {
                Some(then) => writeln!(
                    text,
                    "{name:<36} {:>10} {now:>10} {:>+7.1}%",
                    number(then),
                    (value / then - 1.0) * 100.0
                ),
                None => writeln!(text, "{name:<36} {:>10} {now:>10}", "–"),
            };
        }
        for (name, reason) in &self.missing {
            let _ = writeln!(text, "{name}: missing: {reason}");
        }
        text
    }
}

/// When, what and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heading {
    /// The day.
    pub date: String,
    /// srb's commit.
    pub commit: String,
    /// The command that measured.
    pub command: String,
}

/// Reads figures that [`Results::json`] wrote.
///
/// # Errors
/// When there is no such file, or something else is in it.
pub fn recorded(path: &Path) -> io::Result<Vec<Figure>> {
    Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
}

/// Figures as a JSON array, one a line.
#[must_use]
pub fn json(figures: &[Figure]) -> String {
    let lines: Vec<String> = figures
        .iter()
        .map(|figure| serde_json::to_string(&rounded(figure)).unwrap_or_default())
        .collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

/// Three digits that matter, which is more than repeats.
fn rounded(figure: &Figure) -> Figure {
    let value = number(figure.value).parse().unwrap_or(figure.value);
    Figure { value, ..figure.clone() }
}

pub(super) fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 100.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = r#"ring_null ...
{"version":{"name":"kernel","version":"7.3.4"}}
{"figure":{"name":"ring_null_read_1m_qd8_iops","value":3000.4,"unit":"1/s"}}
{"figure":{"name":"ublk_read_1m_qd8_iops","value":1500.2,"unit":"1/s"}}
{"missing":{"name":"nbd","reason":"no | such\nprogram"}}
"#;

    #[test]
    fn records_become_figures_and_ratios() {
        let results = Results::read(OUTPUT);
        let names: Vec<&str> = results.figures.iter().map(|figure| figure.name.as_str()).collect();
        let ratio = "ring_null_read_1m_qd8_vs_ublk";
        assert_eq!(names, [ratio, "ring_null_read_1m_qd8_iops", "ublk_read_1m_qd8_iops"]);
        let json: Vec<Figure> = serde_json::from_str(&results.json()).unwrap();
        assert_eq!(find(&json, ratio), Some(2.0));
        assert_eq!(find(&json, "ring_null_read_1m_qd8_iops"), Some(3000.0));
    }

    #[test]
    fn the_table_says_what_is_reached_missed_and_missing() {
        let heading = Heading {
            date: "2026-01-02".to_owned(),
            commit: "abc".to_owned(),
            command: "make bench".to_owned(),
        };
        let mut results = Results::read(OUTPUT);
        results.figures.push(Figure::new("idle_device_kib", 512.0, "KiB"));
        let table = results.table(&heading);
        let ratio = "| `ring_null_read_1m_qd8_vs_ublk` | at least 1.3 | 2.00 | reached |";
        assert!(table.contains(ratio), "{table}");
        let missed = "| `idle_device_kib` | at most 256 | 512.0 | **missed by 100 %** |";
        assert!(table.contains(missed), "{table}");
        assert!(table.contains("| `agent_rss_mib` | at most 16 | – | not measured |"), "{table}");
        assert!(table.contains("| `nbd` | no \\| such program |"), "{table}");
    }

    #[test]
    fn a_change_is_shown_in_percent() {
        let recorded = [Figure::new("ring_null_read_1m_qd8_iops", 4000.0, "1/s")];
        let text = Results::read(OUTPUT).compare(&recorded);
        let line = text.lines().find(|line| line.starts_with("ring_null_read_1m_qd8_iops"));
        assert!(line.unwrap().ends_with("-25.0%"), "{text}");
    }
}
