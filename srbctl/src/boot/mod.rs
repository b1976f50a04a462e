// SPDX-License-Identifier: GPL-2.0-only
//! `srbctl boot`, and `srb-generator`: what systemd calls, so that volumes are attached when the
//! machine has started, and in nobody's way when it stops.
//!
//! [`conf`] reads srb.conf: URLs and parameters. [`table`] reads srbtab: a volume, a device and
//! options a line. [`units`] makes a unit of each line; this is the generator. [`commands`] is what
//! the units call: `load`, `attach`, `detach`, `shutdown`. A line that makes no sense is named with
//! its file and number, and left out: it never keeps the others, or the boot, from going on.

pub(crate) mod commands;
mod conf;
mod table;
pub(crate) mod units;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the files are, below /etc.
const TABLE: &str = "srb/srbtab";
const CONF: &str = "srb/srb.conf";
/// Where the original driver had its own.
const OLD_CONF: &str = "srb.conf";

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    path: PathBuf,
    /// From 1; 0 for the file as a whole.
    line: usize,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path.display(), self.what),
            line => write!(f, "{}:{line}: {}", self.path.display(), self.what),
        }
    }
}

/// What a file says, and what is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Parsed<T> {
    pub(crate) value: T,
    pub(crate) findings: Vec<Finding>,
}

/// Gives `parse` each line that is neither empty nor a comment, with its number.
fn each_line(
    path: &Path,
    findings: &mut Vec<Finding>,
    mut parse: impl FnMut(usize, &str) -> Result<(), String>,
) {
    let mut wrong = |line, what: String| {
        findings.push(Finding { path: path.to_owned(), line, what });
    };
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        // Nothing is configured.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return wrong(0, error.to_string()),
    };
    for (at, bytes) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let number = at.saturating_add(1);
        let Ok(line) = std::str::from_utf8(bytes) else {
            wrong(number, "the line is not UTF-8".to_owned());
            continue;
        };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Err(what) = parse(number, line) {
            wrong(number, what);
        }
    }
}
