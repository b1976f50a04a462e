// SPDX-License-Identifier: GPL-2.0-only
//! Whether anything that ran before has lost memory of the kernel's, or the kernel's own checks.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::io::leave;
use crate::guest::udev::settle;
use crate::guest::{clean, kmemleak, sysfs, Case, Machine, TestResult};

const LOCKDEP: &str = "/proc/lockdep_stats";

pub(super) fn cases() -> Vec<Case> {
    let memory = Case::new("lost::no_memory_of_the_kernel_was_lost_so_far", nothing_was_lost);
    let locks = Case::new("lost::the_kernel_still_watches_its_locks", locks_are_watched);
    vec![
        memory.needs(kmemleak::missing).bound(Duration::from_secs(300)),
        locks.needs(no_watch_on_locks),
    ]
}

fn no_watch_on_locks() -> Option<String> {
    let reason = "the kernel does not watch its locks (PROVE_LOCKING)";
    (!Path::new(LOCKDEP).exists()).then(|| reason.to_owned())
}

/// Its first report, or tables that are full, make it stop: what came later was not looked at.
fn locks_are_watched() -> TestResult {
    let stats = fs::read_to_string(LOCKDEP)?;
    let watched = stats.lines().find_map(|line| line.trim().strip_prefix("debug_locks:"));
    assert_eq!(watched.map(str::trim), Some("1"), "{stats}");
    Ok(())
}

/// Also by a module that has been unloaded: what its statics held is lost then.
fn nothing_was_lost() -> TestResult {
    let machine = Machine::builder().start()?;
    machine.create("vol1", "1M")?;
    let device = machine.attach("vol1", "disk1")?;
    settle()?;
    leave(device)?;
    machine.destroy("vol1")?;
    drop(machine);
    crate::guest::process::kill_all(&["srb-agent"])?;
    clean::unload()?;
    assert!(!sysfs::module_loaded());
    kmemleak::expect_none()
}
