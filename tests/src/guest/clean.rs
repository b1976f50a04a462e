// SPDX-License-Identifier: GPL-2.0-only
//! Whether a test left the machine as it found it; and making it so again.

use std::process::Command;
use std::time::Duration;

use super::process::{self, kill_all, stuck, tasks};
use super::wait::wait_until;
use super::{machine, sysfs, TestResult};

/// The programs that belong to a test, or that its tools start: LVM's daemon stays, locked in
/// memory and exempt from the OOM killer.
const PROGRAMS: [&str; 5] = ["srb-agent", "srb-playground", "srbctl", "fio", "dmeventd"];
/// How long rmmod may take.
const UNLOAD: Duration = Duration::from_secs(20);
/// How long a process may sleep uninterruptibly before it counts as stuck.
const STUCK: Duration = Duration::from_secs(5);
/// How long restoring may wait for one thing.
const RESTORE: Duration = Duration::from_secs(20);

/// What is not as it should be, a sentence each; unloads the module if it is loaded.
#[must_use]
pub fn check() -> Vec<String> {
    let mut found = Vec::new();
    for task in tasks() {
        if PROGRAMS.contains(&&*task.name) && task.state != 'Z' {
            found.push(format!("the process {} ({}) is left", task.name, task.pid));
        }
    }
    for device in sysfs::devices() {
        found.push(format!("the device {device} is left"));
    }
    for url in sysfs::urls() {
        found.push(format!("the URL {url} is left"));
    }
    if sysfs::module_loaded() {
        if let Err(why) = unload() {
            found.push(format!("the module does not unload: {}", machine::message(&why)));
        }
    }
    for task in stuck(STUCK) {
        found.push(format!("the task {} ({}) is stuck in D state", task.name, task.pid));
    }
    found
}

/// Unloads the module as a user does.
///
/// # Errors
/// What rmmod said, or that it took too long.
pub fn unload() -> TestResult {
    process::run(Command::new("rmmod").arg("srb"), UNLOAD)?.success().map(drop)
}

/// Removes what a test left, as far as that is possible; returns what could not be removed.
#[must_use]
pub fn restore() -> Vec<String> {
    let mut failed = Vec::new();
    let mut attempt = |what: &str, result: TestResult| {
        if let Err(why) = result {
            failed.push(format!("{what}: {}", machine::message(&why)));
        }
    };
    attempt("processes", kill_all(&PROGRAMS));
    if sysfs::module_loaded() {
        // Whoever waits for an agent, such as udev with a device open, waits no more.
        let grace = sysfs::write("/sys/module/srb/parameters/agent_grace", "0");
        attempt("ending the wait for an agent", grace.map_err(|e| e.to_string().into()));
    }
    for device in sysfs::devices() {
        // Lazily: whoever still uses the mount must not keep the next test from running.
        let line = format!("umount -l /dev/{device}* 2>/dev/null; true");
        attempt("unmounting", process::sh(&line, RESTORE).map(drop));
        // It may be on its way out already.
        let detached =
            || sysfs::command("detach", &device).is_ok() || !sysfs::devices().contains(&device);
        attempt("detaching", wait_until(&format!("{device} is detached"), RESTORE, detached));
    }
    if sysfs::module_loaded() {
        attempt("unloading", unload());
    }
    failed
}
