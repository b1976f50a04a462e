// SPDX-License-Identifier: GPL-2.0-only
//! A later kernel is installed: DKMS builds the module for it, inside the machine, as on a user's.

use std::time::{Duration, Instant};

use super::{expect, look_at_mounts, run, started, FIGURE};
use crate::guest::process::sh;
use crate::guest::TestResult;

/// A compiler that TCG runs takes its time.
const BUILD: Duration = Duration::from_secs(3000);
/// Some of the packages must be configured before others are unpacked, which dpkg leaves to apt.
const INSTALL: &str =
    "DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends";

/// Installs the kernel of this name, whose packages the image has.
pub(super) fn install(release: &str) -> TestResult {
    expect("the machine", &started()?, "running")?;
    let began = Instant::now();
    sh(&format!("{INSTALL} /later-kernel/*.deb 2>&1"), BUILD)?.success()?;
    println!("{FIGURE}installed in {} s", began.elapsed().as_secs());
    let module = run(&format!("modinfo -k {release} -F filename srb"))?;
    assert!(module.contains("/updates/dkms/srb.ko"), "{module}");
    look_at_mounts()
}

/// The machine has started with that kernel, and everything came back by itself.
pub(super) fn look(release: &str) -> TestResult {
    expect("the machine", &started()?, "running")?;
    expect("the kernel", &run("uname -r")?, release)?;
    println!("{FIGURE}started in {} s", run("cut -d' ' -f1 /proc/uptime")?.trim());
    look_at_mounts()
}
