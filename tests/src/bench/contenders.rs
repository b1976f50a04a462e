// SPDX-License-Identifier: GPL-2.0-only
//! The devices that are measured: how each is made, and how it goes.
//!
//! Every one has the settings that it has when nobody sets any, but for one queue of 128 where that
//! is a choice.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::server::URL;
use crate::guest::process::{self, Daemon};
use crate::guest::wait::wait_until;
use crate::guest::{sysfs, udev, Device, Machine, TestResult};

/// For a command that makes or removes a device.
const BOUND: Duration = Duration::from_secs(60);

/// A device to be measured; it is gone when dropped.
pub(super) struct Target {
    path: PathBuf,
    undo: &'static str,
    _daemon: Option<Daemon>,
}

impl Target {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Err(why) = sh(self.undo) {
            println!("{} stays: {}", self.path.display(), why.message().unwrap_or_default());
        }
    }
}

/// A peer that needs no server: its name in figures, and how it is made.
pub(super) type Peer = (&'static str, fn() -> TestResult<Target>);

/// All of them.
pub(super) const PEERS: [Peer; 3] = [("null_blk", null_blk), ("ublk", ublk), ("nbd", nbd_null)];

fn sh(line: &str) -> TestResult<String> {
    process::sh(line, BOUND)?.success()
}

fn target(path: &str, undo: &'static str, daemon: Option<Daemon>) -> TestResult<Target> {
    // Made first, so that it goes whatever happens next.
    let target = Target { path: PathBuf::from(path), undo, _daemon: daemon };
    wait_until(&format!("{path} has a size"), BOUND, || has_size(&target.path))?;
    udev::settle()?;
    Ok(target)
}

fn has_size(device: &Path) -> bool {
    let name = device.file_name().unwrap_or_default();
    let size = sysfs::read(Path::new("/sys/block").join(name).join("size"));
    device.exists() && size.is_ok_and(|sectors| sectors.trim() != "0")
}

/// The floor: a device whose driver does nothing.
fn null_blk() -> TestResult<Target> {
    sh("modprobe null_blk nr_devices=1 submit_queues=1 hw_queue_depth=128 gb=1")?;
    target("/dev/nullb0", "rmmod null_blk", None)
}

fn ublk() -> TestResult<Target> {
    sh("modprobe ublk_drv && rublk add null --queue 1 --depth 128")?;
    target("/dev/ublkb0", "rublk del --all; rmmod ublk_drv", None)
}

fn nbd_null() -> TestResult<Target> {
    nbd(&["null", "1G"])
}

/// The peer on HTTP: on the volume of [`super::server`].
pub(super) fn nbdkit_curl() -> TestResult<Target> {
    nbd(&["curl", URL])
}

fn nbd(plugin: &[&str]) -> TestResult<Target> {
    const SOCKET: &str = "/run/nbdkit.sock";
    let mut command = Command::new("nbdkit");
    command.args(["--foreground", "--unix", SOCKET]).args(plugin);
    let daemon = Daemon::start("nbdkit", &mut command)?;
    wait_until("nbdkit listens", BOUND, || Path::new(SOCKET).exists())
        .map_err(|why| format!("{}: {}", why.message().unwrap_or_default(), daemon.log()))?;
    sh(&format!("modprobe nbd nbds_max=1 && nbd-client -unix {SOCKET} /dev/nbd0"))?;
    // Busy for as long as the driver parts from the server, or udev looks at what has become of it;
    // a device that is left over would be busy for the next server, too.
    let undo =
        "nbd-client -d /dev/nbd0; rm -f /run/nbdkit.sock; until rmmod nbd; do sleep 0.1; done";
    target("/dev/nbd0", undo, Some(daemon))
}

/// srb without a server.
pub(super) fn ring_null() -> TestResult<(Machine, Device)> {
    let machine = Machine::builder().playgrounds(0).start()?;
    sysfs::command("add_urls", "null:1G").map_err(|errno| format!("add_urls: {errno}"))?;
    let device = machine.attach("bench", "bench")?;
    udev::settle()?;
    Ok((machine, device))
}
