// SPDX-License-Identifier: GPL-2.0-only
//! What executes the guest's instructions.
//!
//! `/dev/kvm` exists on some machines that cannot run an unmodified kernel: QEMU then hangs in the
//! boot loader. So KVM is used only after the same kernel has booted with it once; the answer is
//! kept for as long as the host is up.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::rundir::RunDir;
use super::{host, qemu, Error, Options, POLL};

/// How long a trial boot may take; a KVM that works needs about two seconds.
const TRIAL: Duration = Duration::from_secs(20);

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// KVM if a trial boot succeeds, else [`Accel::Tcg`].
    Auto,
    /// The host's CPU.
    Kvm,
    /// Translation, a host thread for each CPU.
    Tcg,
    /// Translation in which the guest's clock counts instructions (one is a nanosecond): figures
    /// repeat, whatever else the host does.
    Icount,
}

impl FromStr for Accel {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self::Auto),
            "kvm" => Ok(Self::Kvm),
            "tcg" => Ok(Self::Tcg),
            "icount" => Ok(Self::Icount),
            _ => Err("auto, kvm, tcg or icount".to_owned()),
        }
    }
}

impl Accel {
    /// QEMU's options for it.
    pub(super) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["-accel", "kvm", "-cpu", "host"],
            // The string instructions' fast forms are emulated byte by byte, and counted as one
            // instruction whatever their length: without them the kernel copies by words.
            Self::Auto | Self::Tcg => &["-accel", "tcg,thread=multi", "-cpu", "max,-erms,-fsrm"],
            Self::Icount => {
                &["-accel", "tcg", "-icount", "shift=0,sleep=off", "-cpu", "max,-erms,-fsrm"]
            }
        }
    }

    /// Decides what [`Accel::Auto`] is on this host.
    pub(super) fn resolve(self, options: &Options, dir: &RunDir) -> Result<Self, Error> {
        if self != Self::Auto {
            return Ok(self);
        }
        if !Path::new("/dev/kvm").exists() {
            return Ok(Self::Tcg);
        }
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_err(host("reading the host's boot id"))?;
        let note = options.folders.runs.join(format!("kvm-{}", boot.trim()));
        let works = match fs::read_to_string(&note) {
            Ok(text) => text == "works\n",
            Err(_) => {
                let works = trial(options, dir)?;
                let text = if works { "works\n" } else { "does not boot\n" };
                fs::write(&note, text).map_err(host(format!("writing {}", note.display())))?;
                works
            }
        };
        Ok(if works { Self::Kvm } else { Self::Tcg })
    }
}

/// Whether the kernel gets to user space with KVM.
fn trial(options: &Options, dir: &RunDir) -> Result<bool, Error> {
    let console = dir.path("trial");
    let mut command = Command::new(qemu::PROGRAM);
    command
        .args(["-machine", "q35", "-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-no-reboot", "-m", "512", "-smp", "2"])
        .args(Accel::Kvm.arguments())
        .arg("-kernel")
        .arg(options.folders.image.join("vmlinuz"))
        .arg("-initrd")
        .arg(options.folders.image.join("initrd.img"))
        .args(["-append", "console=ttyS0 panic=-1 quiet srb.mode=trial", "-serial"])
        .arg(format!("file:{}", console.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    qemu::die_with_us(&mut command);
    let mut child = command.spawn().map_err(qemu::missing)?;
    let began = Instant::now();
    let booted = loop {
        let text = fs::read(&console).unwrap_or_default();
        if String::from_utf8_lossy(&text).contains("srb: trial boot succeeded") {
            break true;
        }
        let ended = child.try_wait().map_err(host("waiting for QEMU"))?.is_some();
        if ended || began.elapsed() > TRIAL {
            break false;
        }
        std::thread::sleep(POLL);
    };
    // It may have ended by itself, and then there is nothing left to end.
    let _ = child.kill();
    let _ = child.wait();
    Ok(booted)
}
