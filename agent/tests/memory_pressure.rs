// SPDX-License-Identifier: GPL-2.0-only
//! What the agent is protected from when the machine is short of memory. Alone in its process,
//! which it changes for good, and once for all: as root, as the agent runs.

use std::fs;

use nix::libc;
use nix::sys::resource::{getrlimit, Resource};
use srb_agent::process::memory;

/// Of `<linux/prctl.h>`; libc has it for Android alone.
const PR_GET_IO_FLUSHER: i32 = 58;

fn of_this_process(file: &str) -> String {
    fs::read_to_string(format!("/proc/self/{file}")).expect("proc is mounted")
}

/// A line of `/proc/self/status`.
fn status(name: &str) -> String {
    let status = of_this_process("status");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.expect("a line of that name").trim().to_owned()
}

fn kib(name: &str) -> u64 {
    status(name).trim_end_matches(" kB").parse().expect("a number")
}

/// Numbers of rights, as in `<linux/capability.h>`.
const IPC_LOCK: u32 = 14;
const SYS_NICE: u32 = 23;
const SYS_RESOURCE: u32 = 24;

/// Root may have less in a container.
fn may(right: u32) -> bool {
    let rights = u64::from_str_radix(&status("CapEff"), 16).expect("a bit for each");
    rights & (1 << right) != 0
}

#[test]
fn it_never_waits_for_memory_that_waits_for_it() {
    if !may(IPC_LOCK) || !may(SYS_NICE) {
        println!("SKIP: locking memory and priority: run as root");
        return;
    }
    // Not that of the agent, which would have the test itself outlive all others.
    memory::prepare(true, 700);
    assert_eq!(of_this_process("oom_score_adj").trim(), "700");
    if may(SYS_RESOURCE) {
        let none: libc::c_ulong = 0;
        // SAFETY: The request takes numbers alone.
        let flusher = unsafe { libc::prctl(PR_GET_IO_FLUSHER, none, none, none, none) };
        assert_eq!(flusher, 1, "it may start I/O, or be throttled as a writer");
        assert!(getrlimit(Resource::RLIMIT_NOFILE).expect("a limit").0 >= 65_536);
    } else {
        println!("SKIP: being an I/O flusher, and open files: CAP_SYS_RESOURCE is missing");
    }
    assert!(kib("VmLck") > 1000, "what is mapped now is not locked");
    // What comes later is locked once it is used, not before: windows are large and mostly empty.
    let before = (kib("VmLck"), kib("VmRSS"));
    let mut later = Vec::<u8>::with_capacity(64 << 20);
    let reserved = (kib("VmLck"), kib("VmRSS"));
    assert!(reserved.0 - before.0 >= 64 << 10, "what is mapped later is not locked");
    assert!(reserved.1 - before.1 < 32 << 10, "{} KiB were touched", reserved.1 - before.1);
    later.resize(1 << 20, 1);
    // Threads of it inherit all this, their priority too.
    // SAFETY: The call takes numbers alone.
    let niceness = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    assert_eq!(niceness, -10);
}
