// SPDX-License-Identifier: GPL-2.0-only
//! `srbctl volume`.

use std::collections::HashMap;

use nix::errno::Errno;
use serde::Serialize;
use srb_status::ErrorInfo;

use crate::agent::AgentError;
use crate::cli::VolumeCommand;
use crate::error::{Error, Failures};
use crate::explain;
use crate::host::Host;
use crate::operation::Operation;
use crate::output::{self, Align, Table};
use crate::sysfs::{CommandError, Device};

/// One volume of the listing.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Volume {
    name: String,
    device: Option<String>,
    size_bytes: Option<u64>,
}

/// The listing, as JSON has it.
#[derive(Debug, Serialize)]
struct Listing {
    volumes: Vec<Volume>,
    notes: Vec<String>,
}

/// Does what the command line says.
pub(crate) fn run(host: &Host, command: &VolumeCommand) -> Result<(), Failures> {
    match command {
        VolumeCommand::List => list(host),
        VolumeCommand::Create { volume, size } => {
            let command = format!("{volume} {}", size.text);
            change(host, Operation::Create { volume }, "create", &command)
        }
        VolumeCommand::Extend { volume, size } => {
            let operation = Operation::Extend { volume, size_bytes: size.bytes };
            change(host, operation, "extend", &format!("{volume} {}", size.text))
        }
        VolumeCommand::Destroy { volume } => {
            change(host, Operation::Destroy { volume }, "destroy", volume)
        }
    }
}

/// Writes one command to one file of the class.
pub(crate) fn change(
    host: &Host,
    operation: Operation<'_>,
    file: &str,
    command: &str,
) -> Result<(), Failures> {
    let opened = host.sysfs.command(file);
    let mut file = opened.map_err(|error| explain::explain(host, operation, &error, 0))?;
    Ok(explain::send(host, operation, &mut file, command)?)
}

fn list(host: &Host) -> Result<(), Failures> {
    if !host.sysfs.is_loaded() {
        let error = CommandError::NotLoaded;
        return Err(explain::explain(host, Operation::ListVolumes, &error, 0).into());
    }
    let mut notes = Vec::new();
    let mut volumes = match host.agent.volumes() {
        Ok(listing) => listing.volumes.into_iter().map(|it| (it.name, it.size_bytes)).collect(),
        Err(AgentError::Refused(info)) => return Err(refused(host, info).into()),
        Err(error) => {
            let names = from_module(host, &mut notes)?;
            notes.push(format!("{error}; this is the module's own listing"));
            names
        }
    };
    volumes.sort();
    let listing = Listing { volumes: with_devices(volumes, host.sysfs.devices()), notes };
    if host.style.json {
        return output::print_json(&listing);
    }
    output::print_notes(&listing.notes);
    let mut table = Table::new([("VOLUME", Align::Left), ("DEVICE", Align::Left)]);
    for volume in listing.volumes {
        table.row([volume.name, volume.device.unwrap_or_default()]);
    }
    output::print(|out| table.write(out, host.style.header, ""))
}

fn refused(host: &Host, info: ErrorInfo) -> Error {
    let errno = Errno::from_raw(info.errno);
    let (cause, hint) = explain::refused(host, Operation::ListVolumes, errno);
    Error {
        usage: false,
        message: format!("cannot list the volumes: {cause}"),
        hint,
        errno: Some(info.errno),
        agent: Some(info.message),
    }
}

/// The module's listing is at most a page; a line that is no name, having a space, says that it was
/// cut.
fn from_module(
    host: &Host,
    notes: &mut Vec<String>,
) -> Result<Vec<(String, Option<u64>)>, Failures> {
    let since = explain::unix_ms();
    let text = host
        .sysfs
        .volumes()
        .map_err(|error| explain::explain(host, Operation::ListVolumes, &error, since))?;
    let (remarks, names): (Vec<_>, Vec<_>) =
        text.lines().filter(|line| !line.is_empty()).partition(|line| line.contains(' '));
    notes.extend(remarks.into_iter().map(str::to_owned));
    Ok(names.into_iter().map(|name| (name.to_owned(), None)).collect())
}

fn with_devices(volumes: Vec<(String, Option<u64>)>, devices: Vec<Device>) -> Vec<Volume> {
    let mut attached: HashMap<_, _> =
        devices.into_iter().map(|device| (device.volume.clone(), device)).collect();
    volumes
        .into_iter()
        .map(|(name, size_bytes)| {
            let device = attached.remove(&name);
            let known = device.as_ref().and_then(|device| device.size_bytes);
            let size_bytes = known.or(size_bytes);
            Volume { name, device: device.map(|device| device.name), size_bytes }
        })
        .collect()
}
