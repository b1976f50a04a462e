// SPDX-License-Identifier: GPL-2.0-only
//! Boots the VM, runs one command in it, and hands back the command's exit status.
//!
//! One thread owns the run: it starts QEMU, copies the command's output from a pipe to stdout, and
//! looks at the clock, at QEMU and at the signals it got every `POLL`. QEMU dies with it,
//! whatever happens (see `qemu.rs`).
//!
//! The guest's side is `tests/guest/init`: it writes `exit N` to the port `srb.status`, which is a
//! file here. The kernel's log goes to another file, the console, of which the end is shown when a
//! run fails.

mod accel;
mod interrupt;
mod payload;
mod qemu;
mod rundir;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use qemu::Qemu;
use rundir::RunDir;

pub use accel::Accel;
pub(crate) use qemu::die_with_us;

/// How often a run looks at the clock, at QEMU and at signals.
const POLL: Duration = Duration::from_millis(20);
/// How long QEMU may take to power off after the command's end, before it is ended.
const POWER_OFF: Duration = Duration::from_secs(5);
/// The same of a guest with systemd, whose stopping is what is looked at.
const SYSTEMD_POWER_OFF: Duration = Duration::from_secs(400);
/// A boot takes seconds; also on a host with much else to do it does not take as long as this.
const BOOT: Duration = Duration::from_secs(180);
/// How often the VM is booted at most.
const BOOTS: u32 = 3;
/// What `tests/guest/initramfs` says on the console when it hands over to the init of the run.
const INIT_RUNS: &str = "srb-vm: init runs";
/// How many lines of the console an error shows.
const TAIL_LINES: usize = 40;

/// What the VM is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Run this command as root, its output on stdout.
    Run(Vec<String>),
    /// Give the terminal a root shell.
    Shell,
}

/// The folders that a VM is made of; the scripts give them in the environment.
#[derive(Args, Debug, Clone, Default)]
pub struct Folders {
    /// The folder made by scripts/image.sh: `vmlinuz`, `initrd.img`, `root.img`, `cmdline`
    #[arg(long, env = "SRB_VM_IMAGE")]
    pub image: PathBuf,

    /// The folder that the guest sees as /srb; it holds `init`, or `session` for a machine with a
    /// root disk
    #[arg(long, env = "SRB_VM_PAYLOAD")]
    pub payload: PathBuf,

    /// The folder for each run's own files; not on a tmpfs if the scratch disk is large
    #[arg(long, env = "SRB_VM_RUNS")]
    pub runs: PathBuf,
}

/// A run of the VM.
#[derive(Debug, Clone)]
pub struct Options {
    /// What it is made of.
    pub folders: Folders,
    /// A disk that the guest starts from with its own systemd, and writes to. Else it starts from
    /// the image's with the payload's `init`, and what it writes goes with it.
    pub root_disk: Option<PathBuf>,
    /// Where the guest kernel's log goes.
    pub console: PathBuf,
    /// The guest's memory in MiB.
    pub memory_mib: u64,
    /// The guest's CPUs.
    pub cpus: u32,
    /// What executes the guest's instructions.
    pub accel: Accel,
    /// The size in bytes of a scratch disk, mounted at `/scratch`.
    pub disk_bytes: Option<u64>,
    /// How long the whole run may take, boot included.
    pub timeout: Option<Duration>,
    /// Whether there is a network: the host's loopback is 10.0.2.2 for the guest.
    pub network: bool,
    /// Where what the command prints goes besides stdout.
    pub copy_output: Option<PathBuf>,
    /// What to do.
    pub job: Job,
}

/// Why a run has no exit status.
#[derive(Debug)]
pub enum Error {
    /// Something on the host: what was tried, and what it said.
    Host(String, io::Error),
    /// A tool of the host failed or is missing; the text says which and what to do.
    Tool(String),
    /// The guest did not get to the end: what happened, and the end of its console.
    Guest(String, String),
    /// A signal ended the run.
    Interrupted(i32),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(what, error) => write!(f, "{what}: {error}"),
            Self::Tool(what) => f.write_str(what),
            Self::Guest(what, console) => {
                write!(f, "{what}; the end of the guest's console:\n{console}")
            }
            Self::Interrupted(signal) => write!(f, "ended by signal {signal}"),
        }
    }
}

impl std::error::Error for Error {}

/// Adds to an I/O error what was tried.
pub(crate) fn host(what: impl fmt::Display) -> impl FnOnce(io::Error) -> Error {
    let what = what.to_string();
    move |error| Error::Host(what, error)
}

/// Boots the VM, does the job, and returns the command's exit status.
///
/// # Errors
/// When the guest did not report a status: it panicked, hung until the timeout, or QEMU died.
pub fn run(options: &Options) -> Result<i32, Error> {
    let status = run_until(options, &|| false)?;
    status.ok_or_else(|| guest(options, "the VM was cut off"))
}

/// As [`run`]; but when `cut` becomes true the machine is gone at once, as if its power had been
/// cut, and there is no status.
///
/// # Errors
/// As [`run`].
pub fn run_until(options: &Options, cut: &dyn Fn() -> bool) -> Result<Option<i32>, Error> {
    Ok(run_to_the_end(options, cut)?.map(|stopped| stopped.status))
}

/// How a machine stopped.
#[derive(Debug, Clone, Copy)]
pub struct Stopped {
    /// The command's exit status.
    pub status: i32,
    /// How long it took from the command's end until the power was off; none if it was ended.
    pub power_off: Option<Duration>,
}

/// As [`run_until`]; says as well how the machine stopped.
///
/// # Errors
/// As [`run`].
pub fn run_to_the_end(options: &Options, cut: &dyn Fn() -> bool) -> Result<Option<Stopped>, Error> {
    let signals = interrupt::Watch::install()?;
    let dir = RunDir::new(&options.folders.runs)?;
    payload::build(&options.folders.payload, &options.job, &dir.path("payload.img"), &dir)?;
    let accel = options.accel.resolve(options, &dir)?;
    let mut boots = 1;
    loop {
        let mut qemu = Qemu::start(options, accel, &dir)?;
        let result = watch(options, &mut qemu, &dir, &signals, cut);
        qemu.stop();
        match result? {
            End::Stopped(stopped) => return Ok(Some(stopped)),
            End::Cut => return Ok(None),
            End::NeverBegan(what) if boots < BOOTS => {
                eprintln!("srb-vm: {what} before anything of srb ran; booting again");
            }
            End::NeverBegan(what) => return Err(guest(options, what)),
        }
        boots += 1;
    }
}

/// How a boot ended.
enum End {
    /// With the command's status.
    Stopped(Stopped),
    /// As it was wished.
    Cut,
    /// The kernel did this before anything of srb ran. Under TCG it does so once in a while: it
    /// patches its own code while another CPU runs it, or loses a timer. No test has begun then.
    NeverBegan(&'static str),
}

/// Whether the guest's console has this text.
fn says(console: &Path, text: &str) -> bool {
    let bytes = std::fs::read(console).unwrap_or_default();
    String::from_utf8_lossy(&bytes).contains(text)
}

/// Whether the kernel panicked before the run's init; with a disk of its own, where systemd starts
/// long before anything of srb does, whether it says that it did so without the module.
fn panicked_before_srb(console: &Path, own_disk: bool) -> bool {
    // An out-of-tree module is listed with its taint.
    let without_srb = || says(console, "Modules linked in:") && !says(console, " srb(");
    says(console, "Kernel panic") && (!says(console, INIT_RUNS) || own_disk && without_srb())
}

/// Waits for the guest's status, and for whatever else may end the run.
fn watch(
    options: &Options,
    qemu: &mut Qemu,
    dir: &RunDir,
    signals: &interrupt::Watch,
    cut: &dyn Fn() -> bool,
) -> Result<End, Error> {
    let (began, mut boots, console) = (Instant::now(), true, &options.console);
    let mut reported: Option<(i32, Instant)> = None;
    let limit = if options.root_disk.is_some() { SYSTEMD_POWER_OFF } else { POWER_OFF };
    loop {
        if let Some(signal) = signals.caught() {
            return Err(Error::Interrupted(signal));
        }
        if cut() {
            return Ok(End::Cut);
        }
        let alive = qemu.is_alive()?;
        if reported.is_none() {
            reported = status(&dir.path("status")).map(|status| (status, Instant::now()));
        }
        match reported {
            Some((status, at)) if !alive || at.elapsed() > limit => {
                let power_off = (!alive).then(|| at.elapsed());
                return Ok(End::Stopped(Stopped { status, power_off }));
            }
            None if !alive && panicked_before_srb(console, options.root_disk.is_some()) => {
                return Ok(End::NeverBegan("the guest's kernel panicked"));
            }
            None if !alive => return Err(guest(options, "the VM ended without a status")),
            _ => {}
        }
        if boots && began.elapsed() > BOOT {
            boots = false;
            if !says(console, INIT_RUNS) {
                return Ok(End::NeverBegan("the guest's kernel hung"));
            }
        }
        if options.timeout.is_some_and(|limit| began.elapsed() > limit) {
            let secs = began.elapsed().as_secs();
            return Err(guest(options, &format!("no end after {secs} s (--timeout)")));
        }
        std::thread::sleep(POLL);
    }
}

/// The status that the guest reported, once its line is whole.
fn status(path: &Path) -> Option<i32> {
    let text = std::fs::read_to_string(path).ok()?;
    parse_status(&text)
}

fn parse_status(text: &str) -> Option<i32> {
    text.strip_suffix('\n')?.strip_prefix("exit ")?.parse().ok()
}

fn guest(options: &Options, what: &str) -> Error {
    let bytes = std::fs::read(&options.console).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let what = format!("{what} (console: {})", options.console.display());
    Error::Guest(what, tail(&text, TAIL_LINES))
}

/// The last `lines` lines of `text`.
fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().map(str::trim_end).collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_counts_only_when_its_line_is_whole() {
        assert_eq!(parse_status("exit 3\n"), Some(3));
        assert_eq!(parse_status("exit 3"), None);
        assert_eq!(parse_status(""), None);
        assert_eq!(parse_status("exit \n"), None);
    }

    #[test]
    fn a_boot_has_begun_when_its_init_says_so() {
        assert!(include_str!("../../guest/initramfs").contains(INIT_RUNS));
        let console = std::env::temp_dir().join(format!("srb-console-{}", std::process::id()));
        assert!(!says(&console, INIT_RUNS));
        std::fs::write(&console, "Kernel panic - not syncing: Fatal exception").unwrap();
        assert!(!says(&console, INIT_RUNS));
        std::fs::write(&console, b"\xff\nsrb-vm: init runs\r\nKernel panic").unwrap();
        assert!(says(&console, INIT_RUNS));
        std::fs::remove_file(&console).unwrap();
    }

    #[test]
    fn a_panic_before_srb_is_told_from_one_with_it() {
        let console = std::env::temp_dir().join(format!("srb-panic-{}", std::process::id()));
        for (text, in_a_vm, on_a_disk) in [
            ("Kernel panic", true, true),
            ("srb-vm: init runs\nKernel panic", false, false),
            ("srb-vm: init runs\nModules linked in: ext4\nKernel panic", false, true),
            ("srb-vm: init runs\nModules linked in: srb(OE) ext4\nKernel panic", false, false),
            ("srb-vm: init runs\nModules linked in: ext4", false, false),
        ] {
            std::fs::write(&console, text).unwrap();
            assert_eq!(panicked_before_srb(&console, false), in_a_vm, "{text}");
            assert_eq!(panicked_before_srb(&console, true), on_a_disk, "{text}");
        }
        std::fs::remove_file(&console).unwrap();
    }

    #[test]
    fn the_tail_is_the_end() {
        assert_eq!(tail("a\nb\r\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 2), "a");
        assert_eq!(tail("", 2), "");
    }
}
