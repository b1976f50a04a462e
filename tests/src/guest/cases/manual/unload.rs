// SPDX-License-Identifier: GPL-2.0-only
//! `rmmod`: what it takes along, and what keeps it from happening.

use std::path::Path;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};

use super::{attached, detach, timed};
use crate::guest::machine::message;
use crate::guest::udev::settle;
use crate::guest::wait::{patiently, wait_for};
use crate::guest::{clean, sysfs, Case, Machine, TestResult};

const BOUND: Duration = Duration::from_secs(20);

pub(super) fn cases() -> Vec<Case> {
    named!["unload":
        unloading_detaches_idle_devices,
        signals_do_not_keep_the_module,
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

extern "C" fn take_note(_: libc::c_int) {}

/// Calls `f` in a thread that is sent signals, one after the other, until it has returned; returns
/// how many there were.
fn under_signals<T: Send>(f: impl FnOnce() -> T + Send) -> TestResult<(T, u64)> {
    let action =
        SigAction::new(SigHandler::Handler(take_note), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: The handler does nothing.
    unsafe { sigaction(Signal::SIGUSR1, &action) }?;
    thread::scope(|scope| {
        let (tell, told) = channel();
        let target = scope.spawn(move || {
            // SAFETY: Has no preconditions.
            let own = unsafe { libc::pthread_self() };
            tell.send(own).map(|()| f())
        });
        let (thread, mut sent) = (told.recv()?, 0);
        while !target.is_finished() {
            // SAFETY: The thread has not been joined.
            unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
            sent += 1;
            thread::sleep(Duration::from_micros(200));
        }
        let result = target.join().map_err(|_| "the thread panicked")?;
        Ok((result?, sent))
    })
}

/// As rmmod, in this thread.
fn delete_module() -> Result<(), Errno> {
    // SAFETY: A terminated string.
    let status =
        unsafe { libc::syscall(libc::SYS_delete_module, c"srb".as_ptr(), libc::O_NONBLOCK) };
    Errno::result(status).map(drop)
}

fn signals_do_not_keep_the_module() -> TestResult {
    for _ in 0..3 {
        let mut machine = Machine::builder().start()?;
        let devices: Vec<_> = (0..4)
            .map(|nth| attached(&machine, &format!("vol{nth}"), "1M", &format!("disk{nth}")))
            .collect::<TestResult<_>>()?;
        machine.stop_agent()?;
        settle()?;
        let signals = wait_for("the module is unloaded", BOUND, || {
            let ((outcome, signals), took) = {
                let (under, took) = timed(|| under_signals(delete_module));
                (under?, took)
            };
            assert!(took < patiently(BOUND), "it took {took:?}");
            match outcome {
                // udev looks at a device.
                Err(Errno::EAGAIN | Errno::EBUSY) => Ok(None),
                outcome => Ok(outcome.map(|()| Some(signals))?),
            }
        })?;
        println!("unloaded under {signals} signals");
        assert!(signals > 0 && !sysfs::module_loaded());
        assert!(devices.iter().all(|device| !device.path().exists()));
    }
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
