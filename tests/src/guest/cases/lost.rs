// SPDX-License-Identifier: GPL-2.0-only
//! Whether anything that ran before has lost memory of the kernel's.

use std::time::Duration;

use crate::guest::{clean, kmemleak, sysfs, Case, Machine, TestResult};

pub(super) fn cases() -> Vec<Case> {
    let case = Case::new("lost::no_memory_of_the_kernel_was_lost_so_far", nothing_was_lost);
    vec![case.needs(kmemleak::missing).bound(Duration::from_secs(300))]
}

/// Also by a module that has been unloaded: what its statics held is lost then.
fn nothing_was_lost() -> TestResult {
    let machine = Machine::builder().start()?;
    machine.create("vol1", "1M")?;
    machine.attach("vol1", "disk1")?.detach()?;
    machine.destroy("vol1")?;
    drop(machine);
    crate::guest::process::kill_all(&["srb-agent"])?;
    clean::unload()?;
    assert!(!sysfs::module_loaded());
    kmemleak::expect_none()
}
