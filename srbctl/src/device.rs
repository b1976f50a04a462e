// SPDX-License-Identifier: GPL-2.0-only
//! `srbctl attach`, `srbctl detach` and `srbctl device`.

use serde::Serialize;
use serde_json::json;
use srb_proto::command::Policy;

use crate::cli::DeviceCommand;
use crate::error::{Error, Failures};
use crate::explain;
use crate::host::Host;
use crate::openers::{self, Opener};
use crate::operation::Operation;
use crate::output::{self, human_size, Align, Table};
use crate::sysfs::CommandError;
use crate::terminal::shown;
use crate::volume::change;

/// Makes a block device of a volume.
pub(crate) fn attach(host: &Host, volume: &str, device: &str) -> Result<(), Failures> {
    let command = format!("{volume} {device}");
    change(host, Operation::Attach { volume, device }, "attach", &command)
}

/// Takes a block device away, if nobody has it open.
pub(crate) fn detach(host: &Host, device: &str) -> Result<(), Failures> {
    change(host, Operation::Detach { device }, "detach", device)
}

/// Takes a block device away from whoever has it open, and says who that was.
pub(crate) fn detach_by_force(host: &Host, device: &str) -> Result<(), Failures> {
    // Afterwards nothing leads from the device to them any more.
    let openers = openers::find(&host.sysfs, &host.proc_root, device);
    let operation = Operation::ForceDetach { device };
    change(host, operation, "detach", &format!("{device} force"))?;
    if host.style.json {
        let openers: Vec<_> = openers.iter().map(Lost::from).collect();
        return output::print_json(&json!({ "device": device, "openers": openers }));
    }
    let note = |opener: &Opener| format!("taken away although {opener} ({})", opener.remedy());
    output::print_notes(&openers.iter().map(note).collect::<Vec<_>>());
    Ok(())
}

/// Somebody who has a dead device now, as JSON has it.
#[derive(Debug, Serialize)]
struct Lost {
    description: String,
    remedy: String,
}

impl From<&Opener> for Lost {
    fn from(opener: &Opener) -> Self {
        Self { description: opener.to_string(), remedy: opener.remedy() }
    }
}

/// Does what the command line says.
pub(crate) fn run(host: &Host, command: &DeviceCommand) -> Result<(), Failures> {
    match command {
        DeviceCommand::List => list(host),
        DeviceCommand::Policy { device, policy: None } => show_policy(host, device),
        DeviceCommand::Policy { device, policy: Some(policy) } => set_policy(host, device, *policy),
    }
}

fn list(host: &Host) -> Result<(), Failures> {
    if !host.sysfs.is_loaded() {
        let error = CommandError::NotLoaded;
        return Err(explain::explain(host, Operation::ListDevices, &error, 0).into());
    }
    let devices = host.sysfs.devices();
    if host.style.json {
        return output::print_json(&json!({ "devices": devices }));
    }
    let mut table = Table::new([
        ("DEVICE", Align::Left),
        ("VOLUME", Align::Left),
        ("SIZE", Align::Right),
        ("POLICY", Align::Left),
    ]);
    for device in devices {
        table.row([
            device.name,
            device.volume,
            device.size_bytes.map(human_size).unwrap_or_default(),
            device.policy.unwrap_or_default(),
        ]);
    }
    output::print(|out| table.write(out, host.style.header, ""))
}

/// Refuses a device that is not attached, with the names of those that are.
fn require_attached(host: &Host, operation: Operation<'_>, device: &str) -> Result<(), Error> {
    let error = match host.sysfs.is_loaded() {
        false => CommandError::NotLoaded,
        true if host.sysfs.devices().iter().any(|it| it.name == device) => return Ok(()),
        true => CommandError::Refused(nix::errno::Errno::ENOENT),
    };
    Err(explain::explain(host, operation, &error, 0))
}

fn show_policy(host: &Host, device: &str) -> Result<(), Failures> {
    let operation = Operation::ShowPolicy { device };
    require_attached(host, operation, device)?;
    let policy =
        host.sysfs.policy(device).map_err(|error| explain::explain(host, operation, &error, 0))?;
    if host.style.json {
        return output::print_json(&json!({ "device": device, "policy": policy }));
    }
    output::print(|out| writeln!(out, "{}", shown(&policy)))
}

fn set_policy(host: &Host, device: &str, policy: Policy) -> Result<(), Failures> {
    let operation = Operation::SetPolicy { device, policy };
    require_attached(host, operation, device)?;
    let opened = host.sysfs.policy_file(device);
    let mut file = opened.map_err(|error| explain::explain(host, operation, &error, 0))?;
    Ok(explain::send(host, operation, &mut file, &policy.to_string())?)
}
