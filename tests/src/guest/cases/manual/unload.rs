// SPDX-License-Identifier: GPL-2.0-only
//! `rmmod`: what it takes along, and what keeps it from happening.

use std::path::Path;
use std::time::Duration;

use super::{attached, detach, timed};
use crate::guest::machine::message;
use crate::guest::udev::settle;
use crate::guest::wait::{patiently, wait_for};
use crate::guest::{clean, sysfs, Case, Machine, TestResult};

const BOUND: Duration = Duration::from_secs(20);

pub(super) fn cases() -> Vec<Case> {
    named!["unload":
        unloading_detaches_idle_devices,
        a_running_agent_keeps_the_module,
        a_mounted_device_keeps_the_module,
    ]
    .into()
}

/// Unloading must be refused because of a user.
fn still_in_use() -> TestResult {
    let Err(why) = clean::unload() else { return Err("the module was unloaded".into()) };
    assert!(message(&why).contains("in use"), "{}", message(&why));
    assert!(sysfs::module_loaded());
    Ok(())
}

fn unloading_detaches_idle_devices() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let data = machine.playground(0)?.data().to_owned();
    let devices =
        [attached(&machine, "vol1", "1M", "disk1")?, attached(&machine, "vol2", "1M", "disk2")?];
    machine.sh("printf kept | dd of=/dev/disk2 conv=fsync status=none")?;
    machine.stop_agent()?;
    settle()?;
    let (unloaded, time) = timed(|| {
        wait_for("udev lets go of the devices", BOUND, || match clean::unload() {
            Err(why) if message(&why).contains("in use") => Ok(None),
            result => result.map(Some),
        })
    });
    unloaded?;
    assert!(time < patiently(BOUND), "it took {time:?}");
    assert!(!sysfs::module_loaded() && !Path::new("/sys/block/disk1").exists());
    assert!(devices.iter().all(|device| !device.path().exists()));
    assert!(std::fs::read(data.join("vol2"))?.starts_with(b"kept"));
    Ok(())
}

fn a_running_agent_keeps_the_module() -> TestResult {
    let mut machine = Machine::builder().start()?;
    still_in_use()?;
    machine.stop_agent()?;
    clean::unload()
}

fn a_mounted_device_keeps_the_module() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let device = attached(&machine, "vol1", "16M", "disk1")?;
    machine.sh("mkfs.ext4 -q -O ^has_journal /dev/disk1")?;
    let mount = device.mount()?;
    machine.stop_agent()?;
    still_in_use()?;
    assert_eq!(sysfs::devices(), ["disk1"]);
    // The mount has lost nothing.
    machine.start_agent()?;
    machine.sh("echo works > /mnt/disk1/file && sync /mnt/disk1/file")?;
    mount.unmount()?;
    detach(device)
}
