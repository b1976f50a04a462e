// SPDX-License-Identifier: GPL-2.0-only
//! The chart: one panel a job, one bar a contender, as an SVG that needs neither script nor font.

use std::fmt::Write;

use super::goals::find;
use super::{jobs, Figure};

const WIDTH: u32 = 860;
const PANEL_WIDTH: u32 = 400;
const BAR: u32 = 16;
const GAP: u32 = 6;
const TITLE: u32 = 26;
/// Room for the names of the contenders.
const NAMES: u32 = 130;
/// Room for the numbers beside the bars.
const NUMBERS: u32 = 70;

/// A contender: as in figures, as people call it, and its colour.
type Bar = (&'static str, &'static str, &'static str);

const OURS: &str = "#2f6fb0";
const THEIRS: &str = "#9aa5b1";
const LIMIT: &str = "#d5dae0";

/// Without a server, and with one.
const GROUPS: [(&str, [Option<Bar>; 4]); 2] = [
    (
        "No server: requests per second",
        [
            Some(("null_blk", "null_blk (no driver)", LIMIT)),
            Some(("ring_null", "srb, null:", OURS)),
            Some(("ublk", "ublk, rublk null", THEIRS)),
            Some(("nbd", "nbd, nbdkit null", THEIRS)),
        ],
    ),
    (
        "The same HTTP server: requests per second",
        [
            Some(("wrk", "wrk (no device)", LIMIT)),
            Some(("http", "srb", OURS)),
            Some(("nbdkit", "nbd, nbdkit curl", THEIRS)),
            None,
        ],
    ),
];

/// Draws it.
pub(super) fn svg(figures: &[Figure]) -> String {
    let mut body = String::new();
    let mut y = 10;
    for (title, bars) in &GROUPS {
        let bars: Vec<Bar> = bars.iter().flatten().copied().collect();
        text(&mut body, 10, y + 16, "bold", title);
        y += TITLE;
        for (index, pair) in jobs::ALL.chunks(2).enumerate() {
            for (column, shape) in (0_u32..).zip(pair) {
                panel(&mut body, figures, shape.name, &bars, (10 + column * (PANEL_WIDTH + 20), y));
            }
            y += panel_height(&bars) + if index == 2 { 10 } else { 0 };
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" \
         viewBox=\"0 0 {WIDTH} {y}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{y}\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

fn panel_height(bars: &[Bar]) -> u32 {
    TITLE + (0_u32..).zip(bars).map(|_| BAR + GAP).sum::<u32>() + GAP
}

fn panel(body: &mut String, figures: &[Figure], job: &str, bars: &[Bar], (x, top): (u32, u32)) {
    text(body, x, top + 16, "normal", job);
    let value = |bar: &Bar| find(figures, &format!("{}_{job}_iops", bar.0));
    let longest = bars.iter().filter_map(value).fold(0.0, f64::max);
    for (row, bar) in (0_u32..).zip(bars) {
        let y = top + TITLE + row * (BAR + GAP);
        text(body, x + 8, y + 12, "normal", bar.1);
        let Some(value) = value(bar) else {
            text(body, x + NAMES + 4, y + 12, "normal", "not measured");
            continue;
        };
        let width = f64::from(PANEL_WIDTH - NAMES - NUMBERS) * value / longest;
        let _ = writeln!(
            body,
            "<rect x=\"{}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{}\"/>",
            x + NAMES,
            bar.2
        );
        let end = f64::from(x + NAMES) + width + 4.0;
        let _ = writeln!(body, "<text x=\"{end:.1}\" y=\"{}\">{value:.0}</text>", y + 12);
    }
}

fn text(body: &mut String, x: u32, y: u32, weight: &str, words: &str) {
    let _ = writeln!(body, "<text x=\"{x}\" y=\"{y}\" font-weight=\"{weight}\">{words}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_figures() {
        let figures = [
            Figure::new("ring_null_read_1m_qd8_iops", 50.0, "1/s"),
            Figure::new("null_blk_read_1m_qd8_iops", 100.0, "1/s"),
        ];
        let svg = svg(&figures);
        let full = f64::from(PANEL_WIDTH - NAMES - NUMBERS);
        assert!(svg.contains(&format!("width=\"{full:.1}\"")), "{svg}");
        assert!(svg.contains(&format!("width=\"{:.1}\"", full / 2.0)), "{svg}");
        assert!(svg.contains("not measured"));
    }
}
