// SPDX-License-Identifier: GPL-2.0-only
//! A kernel that has no memory for the module, once at each of its allocations in turn: the caller
//! is told so, nothing is left over, nothing is lost, and the next try succeeds.
//!
//! For a kernel that can fail an allocation on demand (`make test-debug`). What a failing system
//! call may say is ENOMEM, and EFAULT when it was a copy to or from user space that failed.

mod agent;
mod commands;
mod load;

use std::time::Duration;

use nix::errno::Errno;

use crate::guest::injection::{self, Nth, Text};
use crate::guest::{Case, TestResult};

/// A case of this function, named after it, that loses no memory.
macro_rules! named {
    ($name:ident) => {
        $crate::guest::Case::new(concat!("no_memory::", stringify!($name)), || {
            $crate::guest::kmemleak::clear()?;
            $name()?;
            $crate::guest::kmemleak::expect_none()
        })
    };
}
use named;

/// How long one operation may take for all its allocations.
const BOUND: Duration = Duration::from_secs(1500);

/// Operations that allocate nothing.
const QUIET: [&str; 8] = [
    "remove_urls",
    "reading srb_name",
    "reading srb_size",
    "reading srb_debug",
    "reading srb_policy",
    "writing ",
    "the end of a session",
    "ENTER: nothing to do",
];

/// What the kernel's own functions say when they are the ones that had no memory.
const ALLOWED: [&str; 7] = [
    "(error: -12 parent: ",
    "kobject: can not set name properly!",
    "kobject_create_and_add: kobject_add error: -12",
    "kmemleak: Cannot allocate a scan area, scanning the full object",
    "debugfs: out of free dentries, can not create",
    "a rescuer for wq \"srb\"",
    "kthread for wq \"srb\": -12",
];

pub(super) fn cases() -> Vec<Case> {
    let cases = [commands::cases(), agent::cases(), load::cases()];
    let prepared = |case: Case| {
        let case = case.needs(injection::missing).bound(BOUND);
        ALLOWED.iter().fold(case, |case, line| case.allow_log(line))
    };
    cases.into_iter().flatten().map(prepared).collect()
}

/// Whether a call succeeded; an error other than for want of memory fails the test.
fn succeeded<T>(outcome: Result<T, Errno>) -> TestResult<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(Errno::ENOMEM | Errno::EFAULT) => Ok(None),
        Err(errno) => Err(format!("{errno}, not ENOMEM").into()),
    }
}

/// Fails each allocation of the loaded module in turn.
fn each_of_the_module(what: &str, attempt: impl FnMut(&mut Nth) -> TestResult) -> TestResult {
    Text::of_the_module()?.select()?;
    let count = injection::each_allocation(attempt)?;
    println!("{what}: {count} allocations");
    // Where none was failed, nothing was tested: the filter may have missed them all.
    let quiet = QUIET.iter().any(|words| what.starts_with(words));
    assert_eq!(count == 0, quiet, "{what}: {count} allocations");
    Ok(())
}
