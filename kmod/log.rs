// SPDX-License-Identifier: GPL-2.0-only
//! Log lines that obey a level: the module's (`/sys/module/srb/parameters/debug`) or a device's
//! (`srb_debug`).

use kernel::time::{Delta, Instant, Monotonic};

/// Logs at a level from 0 (emergency) to 7 (debug) if `$limit` lets it through.
macro_rules! log_at {
    ($limit:expr, $level:literal, $print:ident, $($arg:tt)*) => {
        if $limit >= $level {
            kernel::$print!($($arg)*);
        }
    };
}

/// An operation failed.
macro_rules! error {
    ($($arg:tt)*) => { $crate::log::log_at!($crate::params::debug(), 3, pr_err, $($arg)*) };
}

/// Something is wrong that srb works around.
macro_rules! warning {
    ($($arg:tt)*) => { $crate::log::log_at!($crate::params::debug(), 4, pr_warn, $($arg)*) };
}

/// A change that an administrator wants to find later.
macro_rules! info {
    ($($arg:tt)*) => { $crate::log::log_at!($crate::params::debug(), 6, pr_info, $($arg)*) };
}

/// As [`info`], for a device with a level of its own.
macro_rules! device_info {
    ($device:expr, $($arg:tt)*) => {
        $crate::log::log_at!($device.log_level(), 6, pr_info, $($arg)*)
    };
}

/// As [`warning`], for a device with a level of its own.
macro_rules! device_warning {
    ($device:expr, $($arg:tt)*) => {
        $crate::log::log_at!($device.log_level(), 4, pr_warn, $($arg)*)
    };
}

pub(crate) use {device_info, device_warning, error, info, log_at, warning};

/// Lets something be logged once in a while: an agent can cause any number of it.
#[derive(Default)]
pub(crate) struct Limit {
    /// What was not logged yet.
    count: u32,
    last: Option<Instant<Monotonic>>,
}

impl Limit {
    /// How often a limit lets something pass.
    const PERIOD: Delta = Delta::from_secs(1);

    /// Counts `count` more of it. Gives how many there were since the last line, if there is to be
    /// one now.
    pub(crate) fn pass(&mut self, count: u32) -> Option<u32> {
        self.count = self.count.saturating_add(count);
        if self.last.is_some_and(|last| last.elapsed() < Self::PERIOD) {
            return None;
        }
        self.last = Some(Instant::now());
        Some(core::mem::take(&mut self.count))
    }
}

/// Text from outside, printable: what is not printable ASCII becomes `?`.
pub(crate) struct Printable<'a>(pub(crate) &'a [u8]);

impl kernel::fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut kernel::fmt::Formatter<'_>) -> kernel::fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                let shown = if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
                kernel::fmt::Write::write_char(f, shown)?;
            }
            if !chunk.invalid().is_empty() {
                kernel::fmt::Write::write_char(f, '?')?;
            }
        }
        Ok(())
    }
}
