// SPDX-License-Identifier: GPL-2.0-only
//! What an errno means for the operation that met it, and what to do about it.
//!
//! The module answers with one number. What it stands for is looked up where it can be: in sysfs,
//! in /proc, and among the failures that the agent remembers.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use srb_proto::command::MAX_URLS;
use srb_proto::layout::MAX_DEVICES;

use crate::error::Error;
use crate::host::Host;
use crate::known_params;
use crate::openers;
use crate::operation::Operation;
use crate::output::human_size;
use crate::sysfs::{CommandError, CommandFile, Device};

/// How many of those who have a device open are named.
const MAX_OPENERS: usize = 8;

/// Cause and remedy.
type Explained = (String, Option<String>);

/// Gives the module one command, and explains what it has against it.
pub(crate) fn send(
    host: &Host,
    operation: Operation<'_>,
    file: &mut CommandFile,
    command: &str,
) -> Result<(), Error> {
    let since = unix_ms();
    file.send(command).map_err(|error| explain(host, operation, &error, since))
}

/// Milliseconds since the epoch.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A sentence on why `operation`, begun at `since_unix_ms`, failed.
pub(crate) fn explain(
    host: &Host,
    operation: Operation<'_>,
    error: &CommandError,
    since_unix_ms: u64,
) -> Error {
    let asked = operation.asked();
    let (errno, (cause, hint)) = match error {
        CommandError::NotLoaded => {
            let hint = "modprobe srb (or insmod srb.ko)".to_owned();
            (Some(Errno::ENOENT), (error.to_string(), Some(hint)))
        }
        CommandError::Open { error: reason, .. } => {
            let errno = reason.raw_os_error().map(Errno::from_raw);
            let denied = matches!(errno, Some(Errno::EACCES | Errno::EPERM));
            let root = "run srbctl as root (sudo srbctl …)".to_owned();
            let broken = "the module may be older than srbctl, or be going away".to_owned();
            (errno, (error.to_string(), Some(if denied { root } else { broken })))
        }
        CommandError::Short { .. } => (None, (error.to_string(), Some(LOOK_AT_THE_LOG.to_owned()))),
        CommandError::Refused(errno) => (Some(*errno), refused(host, operation, *errno)),
    };
    let agent = match (error, operation.agents_part()) {
        (CommandError::Refused(errno), Some(volume)) => {
            host.agent.failure(volume.as_deref(), *errno as i32, since_unix_ms)
        }
        _ => None,
    };
    Error {
        usage: false,
        message: format!("cannot {asked}: {cause}"),
        hint,
        errno: errno.map(|errno| errno as i32),
        agent: agent.map(|failure| match failure.url {
            Some(url) if !failure.message.contains(&url) => format!("{url}: {}", failure.message),
            _ => failure.message,
        }),
    }
}

const LOOK_AT_THE_LOG: &str = "dmesg | grep srb (the module logs each failure with its reason)";

/// The module's errno, first as this operation means it, then as any would.
pub(crate) fn refused(host: &Host, operation: Operation<'_>, errno: Errno) -> Explained {
    let special = match operation {
        Operation::AddUrl(_) | Operation::RemoveUrl(_) => url(host, operation, errno),
        Operation::Attach { volume, device } => attach(host, volume, device, errno),
        Operation::Detach { device } => detach(host, device, errno),
        Operation::ForceDetach { device } => force_detach(host, device, errno),
        Operation::ListRequests { device } if errno == Errno::ENOENT => {
            not_attached(host, device, "inflight")
        }
        Operation::ShowPolicy { device } | Operation::SetPolicy { device, .. }
            if errno == Errno::ENOENT =>
        {
            not_attached(host, device, "device policy")
        }
        Operation::SetParameter { name, value } => parameter(name, value, errno),
        Operation::Create { volume }
        | Operation::Extend { volume, .. }
        | Operation::Destroy { volume } => self::volume(host, operation, volume, errno),
        _ => None,
    };
    special.unwrap_or_else(|| common(host, errno))
}

fn explained(cause: impl Into<String>, hint: impl Into<String>) -> Option<Explained> {
    Some((cause.into(), Some(hint.into())))
}

fn url(host: &Host, operation: Operation<'_>, errno: Errno) -> Option<Explained> {
    match (operation, errno) {
        (Operation::AddUrl(_), Errno::EEXIST) => {
            explained("it is configured already", "srbctl url list")
        }
        (Operation::AddUrl(_), Errno::ENOSPC | Errno::E2BIG) => explained(
            format!("{MAX_URLS} URLs are configured, and more are not possible"),
            "srbctl url remove URL, for one that is not needed",
        ),
        (Operation::RemoveUrl(_), Errno::ENOENT) => {
            let urls = host.sysfs.urls().unwrap_or_default();
            let cause = match urls.as_slice() {
                [] => "no URL is configured at all".to_owned(),
                urls => format!("it is not among the configured URLs: {}", urls.join(", ")),
            };
            explained(cause, "srbctl url list")
        }
        (Operation::RemoveUrl(_), Errno::EBUSY) => {
            let devices = host.sysfs.devices();
            explained(
                format!("it is the last URL, and devices need it: {}", some_names(&devices)),
                "add another URL first, or detach the devices",
            )
        }
        (Operation::AddUrl(added), Errno::EINVAL) => {
            let urls = host.sysfs.urls().unwrap_or_default();
            let is_null = |url: &str| url.starts_with("null:");
            let cause = if is_null(added) || urls.iter().any(|url| is_null(url)) {
                format!("null: stands alone, and these are configured: {}", urls.join(", "))
            } else {
                "the module takes it for malformed".to_owned()
            };
            explained(cause, "srbctl url remove URL, for what is in its way")
        }
        _ => None,
    }
}

fn some_names(devices: &[Device]) -> String {
    let mut names: Vec<_> =
        devices.iter().take(MAX_OPENERS).map(|device| device.name.as_str()).collect();
    if devices.len() > MAX_OPENERS {
        names.push("…");
    }
    names.join(", ")
}

fn attached_as(host: &Host, volume: &str) -> Option<Device> {
    host.sysfs.devices().into_iter().find(|device| device.volume == volume)
}

fn volume(host: &Host, operation: Operation<'_>, volume: &str, errno: Errno) -> Option<Explained> {
    let attached = attached_as(host, volume);
    match (operation, errno) {
        (Operation::Create { .. }, Errno::EEXIST) => explained(
            "a volume of that name exists",
            format!(
                "another name, srbctl volume extend {volume} SIZE, or srbctl attach {volume} DEVICE"
            ),
        ),
        (Operation::Create { .. }, Errno::ENOENT) => {
            explained("the server knows no such repository", "srbctl url list: is the path right?")
        }
        (_, Errno::ENOENT) => explained("there is no such volume", "srbctl volume list"),
        (Operation::Extend { .. }, Errno::EINVAL) => {
            let size = attached.and_then(|device| device.size_bytes);
            let cause = match size {
                Some(bytes) => format!(
                    "it has {} ({bytes} bytes) already, and a volume can only grow",
                    human_size(bytes)
                ),
                None => "it is as large already, and a volume can only grow".to_owned(),
            };
            explained(cause, format!("srbctl volume extend {volume} with a larger size"))
        }
        (Operation::Create { .. }, Errno::EBUSY) if attached.is_some() => {
            let name = attached.map(|device| device.name).unwrap_or_default();
            explained(
                format!("a volume of that name exists, and is attached as {name}"),
                "another name",
            )
        }
        (Operation::Destroy { .. }, Errno::EBUSY) if attached.is_some() => {
            let name = attached.map(|device| device.name).unwrap_or_default();
            explained(format!("it is attached as {name}"), format!("srbctl detach {name}"))
        }
        (_, Errno::EBUSY) => under_way(),
        _ => None,
    }
}

fn under_way() -> Option<Explained> {
    explained("another operation on it is under way", "again, when that is done")
}

fn attach(host: &Host, volume: &str, device: &str, errno: Errno) -> Option<Explained> {
    match errno {
        Errno::EEXIST => {
            if let Some(Device { name, .. }) = attached_as(host, volume) {
                return explained(
                    format!("{volume} is already attached as {name}"),
                    format!("use /dev/{name}, or srbctl detach {name} first"),
                );
            }
            let cause = format!("the name {device} is taken by {}", taken_by(host, device));
            explained(cause, "another device name")
        }
        Errno::ENOENT => explained(
            format!("there is no volume {volume}"),
            format!("srbctl volume list, or srbctl volume create {volume} SIZE"),
        ),
        Errno::EBUSY => under_way(),
        Errno::ENOSPC => explained(
            format!("{MAX_DEVICES} devices are attached, and more are not possible"),
            "srbctl detach DEVICE, for one that is not needed",
        ),
        Errno::EINVAL => explained(
            "the module takes a name for malformed, or the volume has no usable size",
            LOOK_AT_THE_LOG,
        ),
        _ => None,
    }
}

fn taken_by(host: &Host, name: &str) -> String {
    let devices = host.sysfs.devices();
    if let Some(other) = devices.iter().find(|other| other.name == name) {
        return format!("the device of volume {}", other.volume);
    }
    if host.sysfs.block(name).exists() {
        return "another block device".to_owned();
    }
    let begins_alike =
        |other: &&Device| name.starts_with(&other.name) || other.name.starts_with(name);
    match devices.iter().find(begins_alike) {
        Some(other) => format!("{}, or a partition that one of the two may have", other.name),
        None => format!("something else in /dev (ls -l /dev/{name})"),
    }
}

fn not_attached(host: &Host, device: &str, command: &str) -> Option<Explained> {
    let devices = host.sysfs.devices();
    if let Some(other) = devices.iter().find(|other| other.volume == device) {
        return explained(
            format!("{device} is a volume; it is attached as {}", other.name),
            format!("srbctl {command} {}", other.name),
        );
    }
    let cause = match devices.as_slice() {
        _ if host.sysfs.disk(device).exists() => "it is not a device of srb".to_owned(),
        [] => "no device is attached".to_owned(),
        devices => format!("it is not attached; these are: {}", some_names(devices)),
    };
    explained(cause, "srbctl status")
}

fn detach(host: &Host, device: &str, errno: Errno) -> Option<Explained> {
    match errno {
        Errno::ENOENT => not_attached(host, device, "detach"),
        Errno::EBUSY => {
            let found = openers::find(&host.sysfs, &host.proc_root, device);
            if found.is_empty() {
                return explained(
                    "somebody has it open, or another operation on it is under way",
                    format!(
                        "fuser -v /dev/{device}* (also in containers), then again{}",
                        by_force(device)
                    ),
                );
            }
            let few = &found[..found.len().min(MAX_OPENERS)];
            let mut causes: Vec<_> = few.iter().map(ToString::to_string).collect();
            if found.len() > few.len() {
                causes.push(format!("and {} more", found.len() - few.len()));
            }
            let remedies: Vec<_> = few.iter().map(openers::Opener::remedy).collect();
            explained(causes.join("; "), format!("{}{}", remedies.join("; "), by_force(device)))
        }
        _ => None,
    }
}

/// The way out that costs data.
fn by_force(device: &str) -> String {
    format!("; if that cannot be, srbctl detach --force {device}, and lose what is not written yet")
}

fn force_detach(host: &Host, device: &str, errno: Errno) -> Option<Explained> {
    match errno {
        Errno::ENOENT => not_attached(host, device, "detach --force"),
        Errno::EBUSY => explained(
            "another operation on it is under way, and did not let itself be interrupted",
            LOOK_AT_THE_LOG,
        ),
        _ => None,
    }
}

fn parameter(name: &str, value: &str, errno: Errno) -> Option<Explained> {
    match errno {
        Errno::EINVAL | Errno::ERANGE => {
            let hint = match known_params::range(name) {
                Some(range) => format!("{name} is {range}"),
                None => LOOK_AT_THE_LOG.to_owned(),
            };
            explained(format!("the module does not take {value}"), hint)
        }
        _ => None,
    }
}

/// What an errno means whatever was asked for.
fn common(host: &Host, errno: Errno) -> Explained {
    let (cause, hint) = match errno {
        Errno::ENOTCONN => match host.agent.status() {
            Ok(status) => (
                format!("srb-agent runs (pid {}) but is not connected", status.agent.pid),
                "journalctl -u srb-agent (it may be of another version than the module)",
            ),
            Err(_) => {
                ("no agent is connected".to_owned(), "start srb-agent (systemctl start srb-agent)")
            }
        },
        _ => plain(errno),
    };
    (cause, Some(hint.to_owned()))
}

fn plain(errno: Errno) -> (String, &'static str) {
    let (cause, hint) = match errno {
        Errno::EDESTADDRREQ => ("no URL is configured", "srbctl url add http://HOST[:PORT]/PATH"),
        Errno::ETIMEDOUT => (
            "no server answered in time",
            "srbctl url list, then the servers (srbctl params shows how long is waited)",
        ),
        Errno::ECONNREFUSED => (
            "every server refused the connection",
            "srbctl url list: do the servers run, are the ports right?",
        ),
        Errno::EHOSTUNREACH | Errno::ENETUNREACH => (
            "no server can be reached",
            "srbctl url list: are the network, the routes and the host names right?",
        ),
        Errno::EACCES => (
            "the server refused it",
            "the credentials in /etc/srb/agent.toml, and the rights on the server",
        ),
        Errno::ENOSPC => ("the server is full", "free or add space on the server"),
        Errno::EPROTO => (
            "the server's answer made no sense",
            "srbctl url list: is it a repository, and not something else?",
        ),
        Errno::EIO => ("it failed at the server", LOOK_AT_THE_LOG),
        Errno::ENOENT => ("the server knows no such repository", "srbctl url list"),
        Errno::EBUSY => ("another operation is under way", "again, when that is done"),
        Errno::EINTR => (
            "it was interrupted, and may have happened or not",
            "srbctl status and srbctl volume list",
        ),
        Errno::EDEADLK => ("the agent cannot ask itself", "another process"),
        Errno::ENODEV | Errno::ESHUTDOWN => ("the module is going away", "modprobe srb"),
        Errno::ENOMEM => ("the kernel has no memory for it", "free some memory"),
        Errno::EINVAL => ("the module takes it for malformed", LOOK_AT_THE_LOG),
        other => return (format!("{} ({other:?})", other.desc()), LOOK_AT_THE_LOG),
    };
    (cause.to_owned(), hint)
}
