// SPDX-License-Identifier: GPL-2.0-only
//! What the units call.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;

use super::conf::{self, Conf, Setting};
use super::table::{self, Entry};
use super::{Finding, Parsed};
use crate::cli::BootCommand;
use crate::error::{Error, Failures};
use crate::explain;
use crate::host::Host;
use crate::openers;
use crate::operation::Operation;
use crate::sysfs::{CommandError, RawParameter};

/// How long a device that is in use is waited for, when it is to be detached.
const BUSY_WAIT: Duration = Duration::from_secs(10);
const BUSY_STEP: Duration = Duration::from_millis(200);
/// Between two tries to attach, and two looks at the machine that is stopping.
const PAUSE: Duration = Duration::from_secs(1);

/// Does what the command line says.
pub(crate) fn run(host: Host, etc: &Path, command: BootCommand) -> Result<(), Failures> {
    match command {
        BootCommand::Check => check(etc),
        BootCommand::Load => load(&host, etc),
        BootCommand::Attach { device } => attach(host, &entry(etc, &device)?),
        BootCommand::Detach { device } => detach(&host, &device),
        BootCommand::Shutdown => shutdown(&host, etc),
    }
}

/// Fails with all that is wrong, if anything is.
fn all_right(failures: Vec<Error>) -> Result<(), Failures> {
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Failures(failures))
    }
}

fn told(findings: &[Finding]) -> impl Iterator<Item = Error> + '_ {
    findings.iter().map(|finding| Error::failed(finding.to_string()))
}

fn check(etc: &Path) -> Result<(), Failures> {
    let (conf, table) = (conf::read(etc), table::read(etc));
    all_right(told(&conf.findings).chain(told(&table.findings)).collect())
}

/// Loads the module unless it is there, sets its parameters, and adds the URLs. Does all that it
/// can, and fails if anything was wrong.
fn load(host: &Host, etc: &Path) -> Result<(), Failures> {
    let Parsed { value: conf, findings } = conf::read(etc);
    let mut failures: Vec<_> = told(&findings).collect();
    if !host.sysfs.is_loaded() {
        modprobe(&conf, &mut failures)?;
    }
    let present = host
        .sysfs
        .parameters()
        .map_err(|error| explain::explain(host, Operation::ListParameters, &error, 0))?;
    for setting in &conf.parameters {
        failures.extend(set(host, &present, setting).err());
    }
    if !conf.urls.is_empty() {
        failures.extend(add_urls(host, &conf)?);
    }
    all_right(failures)
}

/// With the parameters, some of which can be set at no other time; without them, if the module does
/// not take them.
fn modprobe(conf: &Conf, failures: &mut Vec<Error>) -> Result<(), Error> {
    let words = conf.parameters.iter().map(|it| format!("{}={}", it.name, it.value));
    let words: Vec<String> = words.collect();
    let Err(first) = try_modprobe(&words) else { return Ok(()) };
    if words.is_empty() {
        return Err(not_loaded(&first));
    }
    try_modprobe(&[]).map_err(|error| not_loaded(&error))?;
    let words = words.join(" ");
    failures.push(Error::failed(format!("the module does not take all of {words}: {first}")));
    Ok(())
}

fn not_loaded(error: &str) -> Error {
    Error::failed(format!("cannot load the module: {error}"))
        .hint("is it built for this kernel (uname -r)? dkms status, journalctl -k")
}

fn try_modprobe(words: &[String]) -> Result<(), String> {
    let output = Command::new("modprobe").arg("srb").args(words).output();
    let output = output.map_err(|error| format!("modprobe: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

fn set(host: &Host, present: &[RawParameter], setting: &Setting) -> Result<(), Error> {
    let Setting { name, value, .. } = setting;
    let is_so = present.iter().any(|it| it.name == *name && it.value == *value);
    let is_fixed = present.iter().any(|it| it.name == *name && !it.writable);
    let result = if is_so {
        return Ok(());
    } else if is_fixed {
        let hint = "unload it (rmmod srb), or start the machine again";
        Err(Error::failed(format!("{name} can be set only when the module is loaded")).hint(hint))
    } else {
        let operation = Operation::SetParameter { name, value };
        let opened = host.sysfs.parameter(name);
        opened
            .map_err(|error| explain::explain(host, operation, &error, 0))
            .and_then(|mut file| explain::send(host, operation, &mut file, value))
    };
    result.map_err(|error| {
        let message = setting.finding(error.message.clone()).to_string();
        Error { message, ..error }
    })
}

/// Those that are there already are no failure.
fn add_urls(host: &Host, conf: &Conf) -> Result<Vec<Error>, Error> {
    let first = conf.urls.first().map_or("", |url| url.as_str());
    let mut file = host
        .sysfs
        .command("add_urls")
        .map_err(|error| explain::explain(host, Operation::AddUrl(first), &error, 0))?;
    let mut failures = Vec::new();
    for url in &conf.urls {
        match file.send(url.as_str()) {
            Ok(()) | Err(CommandError::Refused(Errno::EEXIST)) => {}
            Err(error) => {
                let operation = Operation::AddUrl(url.as_str());
                failures.push(explain::explain(host, operation, &error, 0));
            }
        }
    }
    Ok(failures)
}

/// The line of a device.
fn entry(etc: &Path, device: &str) -> Result<Entry, Failures> {
    let Parsed { value, findings } = table::read(etc);
    if let Some(entry) = value.into_iter().find(|entry| entry.device == device) {
        return Ok(entry);
    }
    let mut failures = vec![Error::usage(format!("srbtab has no line for {device}"))];
    failures.extend(told(&findings).map(|error| Error { usage: true, ..error }));
    Err(Failures(failures))
}

/// Attaches a volume, trying again as long as its line says; then sets what the line says.
///
/// The module waits for a server as long as its parameters say, so the tries run beside the clock,
/// and end with the process.
fn attach(host: Host, entry: &Entry) -> Result<(), Failures> {
    let (done, tries) = mpsc::channel();
    let (mine, limit) = (entry.clone(), Duration::from_secs(entry.options.timeout_secs.into()));
    thread::spawn(move || try_to_attach(&host, &mine, &done));
    let end = Instant::now().checked_add(limit);
    let mut last = None;
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        match tries.recv_timeout(left.unwrap_or(limit)) {
            Ok(Try::Done(result)) => return result,
            Ok(Try::Again(error)) => last = Some(error),
            Err(_) => break,
        }
    }
    let secs = entry.options.timeout_secs;
    let (volume, device) = (&entry.volume, &entry.device);
    let error = last.unwrap_or_else(|| {
        Error::failed(format!("cannot attach {volume} as {device}: no answer"))
            .hint("srbctl status (is the server up? does an agent run?)")
    });
    let message = format!("{} (tried for {secs} s, the timeout of its line)", error.message);
    Err(Error { message, ..error }.into())
}

/// How a try went.
enum Try {
    Done(Result<(), Failures>),
    /// Failed for a reason that may pass.
    Again(Error),
}

fn try_to_attach(host: &Host, entry: &Entry, done: &mpsc::Sender<Try>) {
    let (volume, device) = (entry.volume.as_str(), entry.device.as_str());
    let operation = Operation::Attach { volume, device };
    loop {
        let result = match attached_already(host, entry) {
            Some(result) => result.map_err(|error| (error, false)),
            None => try_once(host, operation, &format!("{volume} {device}")),
        };
        let tried = match result {
            Ok(()) => Try::Done(finish(host, entry).map_err(Failures::from)),
            Err((error, true)) => Try::Again(error),
            Err((error, false)) => Try::Done(Err(error.into())),
        };
        let ends = matches!(tried, Try::Done(_));
        // Nobody listens any more when the time is up.
        if done.send(tried).is_err() || ends {
            return;
        }
        thread::sleep(PAUSE);
    }
}

/// Whether the device is there; an error if it is another volume's.
fn attached_already(host: &Host, entry: &Entry) -> Option<Result<(), Error>> {
    let Entry { device, volume, .. } = entry;
    let there = host.sysfs.devices().into_iter().find(|it| it.name == *device)?;
    Some(match there.volume == *volume {
        true => Ok(()),
        false => Err(Error::failed(format!(
            "cannot attach {volume} as {device}: the volume {} is attached as that",
            there.volume
        ))),
    })
}

/// With an error, whether it may pass.
fn try_once(host: &Host, operation: Operation<'_>, words: &str) -> Result<(), (Error, bool)> {
    let since = explain::unix_ms();
    let result = host.sysfs.command("attach").and_then(|mut file| file.send(words));
    result.map_err(|error| {
        let passes = match &error {
            CommandError::Refused(errno) => may_pass(*errno),
            // The module may be on its way.
            CommandError::NotLoaded => true,
            _ => false,
        };
        (explain::explain(host, operation, &error, since), passes)
    })
}

/// Whether a later try may do better: there is no agent yet, or no server.
fn may_pass(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ENOTCONN
            | Errno::EDESTADDRREQ
            | Errno::ETIMEDOUT
            | Errno::ECONNREFUSED
            | Errno::ECONNRESET
            | Errno::EHOSTUNREACH
            | Errno::ENETUNREACH
            | Errno::EBUSY
            | Errno::EIO
            | Errno::ENOMEM
    )
}

nix::ioctl_write_ptr_bad!(
    /// `BLKROSET` of `<linux/fs.h>`.
    set_read_only,
    nix::request_code_none!(0x12, 93),
    libc::c_int
);

/// Sets what the line says of an attached device.
fn finish(host: &Host, entry: &Entry) -> Result<(), Error> {
    let device = entry.device.as_str();
    if let Some(policy) = entry.options.policy {
        let operation = Operation::SetPolicy { device, policy };
        let opened = host.sysfs.policy_file(device);
        let mut file = opened.map_err(|error| explain::explain(host, operation, &error, 0))?;
        explain::send(host, operation, &mut file, &policy.to_string())?;
    }
    if entry.options.read_only {
        let path = format!("/dev/{device}");
        let failed =
            |error: String| Error::failed(format!("cannot make {path} read-only: {error}"));
        let node = File::open(&path).map_err(|error| failed(error.to_string()))?;
        // SAFETY: It reads an integer, which lives until it returns.
        unsafe { set_read_only(node.as_raw_fd(), &1) }
            .map_err(|errno| failed(errno.to_string()))?;
    }
    Ok(())
}

/// Detaches a device; one that is not there is detached. Whoever is just letting go of it gets a
/// while for that.
fn detach(host: &Host, device: &str) -> Result<(), Failures> {
    let began = Instant::now();
    loop {
        if !host.sysfs.devices().iter().any(|it| it.name == device) {
            return Ok(());
        }
        let result = host.sysfs.command("detach").and_then(|mut file| file.send(device));
        match result {
            Ok(()) => return Ok(()),
            Err(CommandError::Refused(Errno::ENOENT)) => return Ok(()),
            Err(CommandError::Refused(Errno::EBUSY)) if began.elapsed() < BUSY_WAIT => {}
            Err(error) => {
                return Err(explain::explain(host, Operation::Detach { device }, &error, 0).into());
            }
        }
        thread::sleep(BUSY_STEP);
    }
}

/// Gives those who use a device the time of `shutdown_secs` to let go of it; then takes it away, so
/// that nothing of srb holds up a machine that stops. Does nothing to one that does not.
fn shutdown(host: &Host, etc: &Path) -> Result<(), Failures> {
    if !is_stopping() {
        return Ok(());
    }
    let Parsed { value: conf, findings: _ } = conf::read(etc);
    let limit = Duration::from_secs(conf.shutdown_secs.into());
    let began = Instant::now();
    let in_use = || {
        let devices = host.sysfs.devices().into_iter().map(|device| device.name);
        devices.filter(|it| {
            // A file system that is being unmounted is in no table any more, but its writes are
            // waited for. What cannot be read may be so.
            !openers::find(&host.sysfs, &host.proc_root, it).is_empty()
                || host.sysfs.pending(it).is_none_or(|it| it.is_any())
        })
    };
    while began.elapsed() < limit {
        if in_use().next().is_none() {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
    let mut failures = Vec::new();
    for device in in_use() {
        let secs = conf.shutdown_secs;
        eprintln!(
            "srbctl: {device} is in use {secs} s after the machine began to stop: pulled out"
        );
        let forced = host.sysfs.command("detach");
        let forced = forced.and_then(|mut file| file.send(&format!("{device} force")));
        failures.extend(forced.err().map(|error| {
            explain::explain(host, Operation::ForceDetach { device: &device }, &error, 0)
        }));
    }
    all_right(failures)
}

fn is_stopping() -> bool {
    let output = Command::new("systemctl").arg("is-system-running").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"stopping")
}
