// SPDX-License-Identifier: GPL-2.0-only
//! The kernel's log since a test's start, and what in it is a finding.
//!
//! Records come from `/dev/kmsg` (Documentation/ABI/testing/dev-kmsg):
//! `PRIORITY,SEQUENCE,TIME,FLAGS;TEXT`, then lines that start with a space and are of no interest
//! here.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;

/// Longer than any record.
const RECORD_BYTES: usize = 16 * 1024;
/// Priorities up to this one are warnings and worse.
const WARNING: u32 = 4;
/// The kernel's own facility, and that of a process that names none.
const FACILITIES: [u32; 2] = [0, 1];

/// Signs of trouble whatever their priority.
const SIGNS: [&str; 22] = [
    "WARNING:",
    "BUG:",
    "BUG at",
    "Oops",
    "kernel BUG",
    "Call Trace",
    "possible ",
    "blocked for more than",
    "hung task",
    "hung_task",
    "unreferenced object",
    "suspected memory leaks",
    "memory leak detector disabled",
    "ODEBUG",
    "lockdep",
    "INFO: rcu",
    "soft lockup",
    "general protection",
    "KASAN",
    "KCSAN",
    "UBSAN",
    "refcount_t",
];

/// What a slow or busy host alone brings about: timing that no test is about.
const HOST_SPEED: [&str; 8] = [
    "Marking TSC unstable",
    "TSC found unstable",
    "sched_clock: Marking unstable",
    "clocksource:",
    "hrtimer: interrupt took",
    "perf: interrupt took too long",
    "hogged CPU for",
    "systemd-udevd",
];

/// What is said of others than srb: how the kernel was built, when device-mapper is loaded; and
/// what a processor that is taken away leaves of the network's softirq (8, NET_RX, alone).
const OTHERS: [&str; 2] = [
    "device-mapper: core: CONFIG_IMA_DISABLE_HTABLE is disabled",
    "NOHZ tick-stop error: local softirq work is pending, handler #08!!!",
];

/// A record of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// 0 (emergency) to 7 (debug).
    pub level: u32,
    /// Who wrote it: 0 is the kernel.
    pub facility: u32,
    /// Its first line.
    pub text: String,
}

impl Record {
    fn parse(raw: &str) -> Option<Self> {
        let (head, text) = raw.split_once(';')?;
        let priority: u32 = head.split(',').next()?.parse().ok()?;
        let text = text.lines().next().unwrap_or_default().to_owned();
        Some(Self { level: priority & 7, facility: priority >> 3, text })
    }

    /// Whether a test that did not ask for it fails by this record. What the module itself says is
    /// never a finding.
    #[must_use]
    pub fn is_finding(&self) -> bool {
        let text = &self.text;
        if !FACILITIES.contains(&self.facility) || text.starts_with("srb:") {
            return false;
        }
        if HOST_SPEED.iter().any(|sign| text.contains(sign))
            || OTHERS.iter().any(|start| text.starts_with(start))
        {
            return false;
        }
        self.level <= WARNING || SIGNS.iter().any(|sign| text.contains(sign))
    }
}

/// The log from the moment that this was opened.
#[derive(Debug)]
pub struct KernelLog(File);

impl KernelLog {
    /// Starts listening: what is logged from now on.
    ///
    /// # Errors
    /// When `/dev/kmsg` cannot be read.
    pub fn from_now() -> io::Result<Self> {
        let mut file =
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg")?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self(file))
    }

    /// The records since the last call.
    ///
    /// # Errors
    /// When `/dev/kmsg` cannot be read.
    pub fn records(&mut self) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        let mut buffer = vec![0; RECORD_BYTES];
        loop {
            match self.0.read(&mut buffer) {
                Ok(0) => return Ok(records),
                Ok(bytes) => {
                    let raw = buffer.get(..bytes).unwrap_or_default();
                    records.extend(Record::parse(&String::from_utf8_lossy(raw)));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(records),
                // The reader was too slow and records were dropped: a finding of its own.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {
                    let text = "WARNING: the kernel's log overran its reader".to_owned();
                    records.push(Record { level: WARNING, facility: 0, text });
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(raw: &str) -> bool {
        Record::parse(raw).unwrap().is_finding()
    }

    #[test]
    fn a_record_is_its_first_line() {
        let record = Record::parse("12,34,5678,-;hello, world; x\n SUBSYSTEM=block\n").unwrap();
        assert_eq!(record, Record { level: 4, facility: 1, text: "hello, world; x".to_owned() });
        assert_eq!(Record::parse("nonsense"), None);
    }

    #[test]
    fn warnings_and_signs_of_trouble_are_findings() {
        assert!(finding("4,1,1,-;Buffer I/O error on dev disk1"));
        assert!(finding("6,1,1,-;WARNING: possible circular locking dependency detected"));
        assert!(finding("6,1,1,-;INFO: rcu_preempt detected stalls"));
        assert!(finding("12,1,1,-;written by a process"));
        assert!(finding("6,1,1,-;kmemleak: 1 new suspected memory leaks (see /sys/kernel/debug)"));
        assert!(finding("6,1,1,-;kmemleak: Kernel memory leak detector disabled"));
    }

    #[test]
    fn the_module_and_the_daemons_may_say_what_they_like() {
        assert!(!finding("3,1,1,-;srb: create vol1 failed"));
        assert!(!finding("4,1,1,-;srb: loading out-of-tree module taints kernel."));
        assert!(!finding("28,1,1,-;udevd says something"));
        assert!(!finding("6,1,1,-;EXT4-fs (disk1): mounted filesystem"));
        assert!(!finding("4,1,1,-;hrtimer: interrupt took 4000000 ns"));
        assert!(!finding("4,1,1,-;device-mapper: core: CONFIG_IMA_DISABLE_HTABLE is disabled."));
        let softirq = "4,1,1,-;NOHZ tick-stop error: local softirq work is pending, handler #";
        assert!(!finding(&format!("{softirq}08!!!")));
        assert!(finding(&format!("{softirq}10!!!")));
        assert!(finding("4,1,1,-;device-mapper: table: 253:0: adding target device failed"));
    }
}
