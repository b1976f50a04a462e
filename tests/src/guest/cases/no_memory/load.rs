// SPDX-License-Identifier: GPL-2.0-only
//! Loading the module, and unloading it.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;

use super::{each_of_the_module, named, succeeded};
use crate::guest::injection::{self, Text};
use crate::guest::wait::wait_until;
use crate::guest::{sysfs, Case, Machine, TestResult};

/// The function of the kernel below which a module's init runs.
const INIT: &str = "do_one_initcall";
/// How long udev may take to notice that the control device has gone.
const GONE: std::time::Duration = std::time::Duration::from_secs(20);

pub(super) fn cases() -> Vec<Case> {
    vec![named!(the_module_loads_or_leaves_nothing), named!(the_module_always_unloads)]
}

/// As insmod, in this thread.
fn load() -> Result<(), Errno> {
    let file = File::open("/srb/srb.ko").map_err(|_| Errno::ENOENT)?;
    // SAFETY: An open file, a terminated string, no flags.
    let status =
        unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) };
    Errno::result(status).map(drop)
}

/// As rmmod, in this thread.
fn unload() -> Result<(), Errno> {
    const NAME: &CStr = c"srb";
    // SAFETY: A terminated string.
    let status = unsafe { libc::syscall(libc::SYS_delete_module, NAME.as_ptr(), libc::O_NONBLOCK) };
    Errno::result(status).map(drop)
}

fn the_module_loads_or_leaves_nothing() -> TestResult {
    Text::of_function(INIT)?.select()?;
    let count = injection::each_allocation(|nth| {
        let outcome = nth.during(load)?;
        if succeeded(outcome)?.is_some() {
            unload()?;
        }
        assert!(!sysfs::module_loaded(), "half a module is left");
        assert!(!Path::new(sysfs::CLASS).exists(), "the class is left");
        let control = Path::new("/dev/srb-control");
        wait_until("the control device is gone", GONE, || !control.exists())
    })?;
    println!("load: {count} allocations");
    Ok(())
}

/// With URLs and a device, and no agent to tell.
fn the_module_always_unloads() -> TestResult {
    each_unload()?;
    assert!(!sysfs::module_loaded());
    Ok(())
}

fn each_unload() -> TestResult {
    let prepare = || -> TestResult {
        let mut machine = Machine::builder().start()?;
        machine.create("vol1", "1M")?;
        let device = machine.attach("vol1", "disk1")?;
        crate::guest::udev::settle()?;
        machine.stop_agent()?;
        // They are to be there when the module goes.
        std::mem::forget(device);
        std::mem::forget(machine);
        Ok(())
    };
    let mut first = true;
    let mut attempt = |nth: &mut injection::Nth| -> TestResult {
        if !first {
            crate::guest::process::kill_all(&["srb-playground"])?;
            prepare()?;
            Text::of_the_module()?.select()?;
        }
        first = false;
        nth.during(unload)??;
        Ok(())
    };
    prepare()?;
    let outcome = each_of_the_module("unload", &mut attempt);
    crate::guest::process::kill_all(&["srb-playground"])?;
    outcome
}
