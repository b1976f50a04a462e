// SPDX-License-Identifier: GPL-2.0-only
//! Tables for people, JSON for programs.

use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal, Write};

use serde::Serialize;

use crate::error::{Error, Failures};
use crate::terminal::shown;

/// How stdout is to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// JSON instead of text.
    pub(crate) json: bool,
    /// Lists begin with the names of their columns.
    pub(crate) header: bool,
}

impl Style {
    /// As the command line and the kind of stdout want it.
    pub(crate) fn of_stdout(json: bool) -> Self {
        Self { json, header: io::stdout().is_terminal() }
    }
}

/// Writes to stdout. A reader that has gone away has read enough.
pub(crate) fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failures> {
    let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let errno = error.raw_os_error();
            Err(Error { errno, ..Error::failed(format!("cannot write the output: {error}")) }
                .into())
        }
        _ => {
            // What is still in the buffer has no reader either.
            let _ = out.into_parts();
            Ok(())
        }
    }
}

/// Prints one JSON document on one line.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failures> {
    print(|out| {
        serde_json::to_writer(&mut *out, value)?;
        out.write_all(b"\n")
    })
}

/// Remarks for people; a program finds them in the JSON.
pub(crate) fn print_notes(notes: &[String]) {
    let mut stderr = io::stderr().lock();
    for note in notes {
        let _ = writeln!(stderr, "srbctl: {}", shown(note));
    }
}

/// On which side of its column a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows under a header, each column as wide as its widest cell.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    columns: [(&'static str, Align); N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// Without a row.
    pub(crate) fn new(columns: [(&'static str, Align); N]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row. An empty cell becomes a dash, so that each row has all of its words.
    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows
            .push(cells.map(|cell| if cell.is_empty() { "-".to_owned() } else { shown(&cell) }));
    }

    /// Writes it, each line after `indent`.
    pub(crate) fn write(&self, out: &mut dyn Write, header: bool, indent: &str) -> io::Result<()> {
        let names = self.columns.map(|(name, _)| name.to_owned());
        let head = header.then_some(&names);
        let mut widths = [0; N];
        for row in head.into_iter().chain(&self.rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut line = String::new();
        for row in head.into_iter().chain(&self.rows) {
            line.clear();
            for ((cell, width), (_, align)) in row.iter().zip(widths).zip(self.columns) {
                let gap = if line.is_empty() { "" } else { "  " };
                let _ = match align {
                    Align::Left => write!(line, "{gap}{cell:<width$}"),
                    Align::Right => write!(line, "{gap}{cell:>width$}"),
                };
            }
            writeln!(out, "{indent}{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A size as lsblk writes it: at most one decimal, powers of 1024.
pub(crate) fn human_size(bytes: u64) -> String {
    let Some(shift) = (1..=6).rev().map(|power| power * 10).find(|shift| bytes >> shift != 0)
    else {
        return format!("{bytes}B");
    };
    let letter = char::from(b"KMGTPE"[shift / 10 - 1]);
    let tenths = (u128::from(bytes) * 10 + (1 << (shift - 1))) >> shift;
    match (tenths / 10, tenths % 10) {
        (1024, 0) if letter != 'E' => human_size(1 << (shift + 10)),
        (whole, 0) => format!("{whole}{letter}"),
        (whole, tenth) => format!("{whole}.{tenth}{letter}"),
    }
}

/// A short time.
pub(crate) fn human_micros(micros: u64) -> String {
    match micros {
        0..=999 => format!("{micros}us"),
        1000..=999_999 => format!("{}.{}ms", micros / 1000, micros % 1000 / 100),
        _ => format!("{}.{}s", micros / 1_000_000, micros % 1_000_000 / 100_000),
    }
}

/// A long time, by its two largest units.
pub(crate) fn human_secs(secs: u64) -> String {
    let (minutes, hours, days) = (secs / 60, secs / 3600, secs / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs}s"),
        (0, 0, _) => format!("{minutes}m {}s", secs % 60),
        (0, _, _) => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_lsblk_writes_them() {
        for (bytes, text) in [
            (0, "0B"),
            (512, "512B"),
            (1024, "1K"),
            (1536, "1.5K"),
            (10 << 30, "10G"),
            (1_000_204_886_016, "931.5G"),
            ((1 << 30) - 1, "1G"),
            ((1 << 40) - 1, "1T"),
            (i64::MAX as u64, "8E"),
            (u64::MAX, "16E"),
        ] {
            assert_eq!(human_size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(human_micros(850), "850us");
        assert_eq!(human_micros(1250), "1.2ms");
        assert_eq!(human_micros(30_000_000), "30.0s");
        assert_eq!(human_secs(59), "59s");
        assert_eq!(human_secs(61), "1m 1s");
        assert_eq!(human_secs(3 * 3600 + 12 * 60 + 5), "3h 12m");
        assert_eq!(human_secs(90_000), "1d 1h");
    }

    #[test]
    fn columns_line_up_and_no_cell_is_empty() {
        let mut table =
            Table::new([("NAME", Align::Left), ("SIZE", Align::Right), ("X", Align::Left)]);
        table.row(["a".into(), "10G".into(), String::new()]);
        table.row(["longer\x1b".into(), "1.5G".into(), "y".into()]);
        let text = |header| {
            let mut out = Vec::new();
            table.write(&mut out, header, " ").expect("in memory");
            String::from_utf8(out).expect("text")
        };
        assert_eq!(
            text(true),
            " NAME          SIZE  X\n a              10G  -\n longer\\u{1b}  1.5G  y\n"
        );
        assert_eq!(text(false), " a              10G  -\n longer\\u{1b}  1.5G  y\n");
    }
}
