// SPDX-License-Identifier: GPL-2.0-only
//! `srbctl inflight`: what is waited for, and what the waiting is for.

use std::time::Duration;

use nix::errno::Errno;
use serde::Serialize;
use srb_status::RequestStatus;

use crate::agent::AgentError;
use crate::error::Failures;
use crate::explain;
use crate::host::Host;
use crate::operation::Operation;
use crate::output::{self, human_micros, human_size, Align, Table};
use crate::sysfs::{CommandError, Pending};

/// What is shown, as JSON has it.
#[derive(Debug, Serialize)]
struct Screen {
    requests: Option<Vec<RequestStatus>>,
    devices: Vec<Counted>,
    notes: Vec<String>,
}

/// What the kernel counts of a device.
#[derive(Debug, Serialize)]
struct Counted {
    name: String,
    reads: u64,
    writes: u64,
    waiting: u64,
}

/// Prints the requests that are older than `older_than`, of all devices or of one.
pub(crate) fn show(
    host: &Host,
    device: Option<&str>,
    older_than: Duration,
) -> Result<(), Failures> {
    let operation =
        device.map_or(Operation::ListDevices, |device| Operation::ListRequests { device });
    let refused = |error| Err(explain::explain(host, operation, &error, 0).into());
    if !host.sysfs.is_loaded() {
        return refused(CommandError::NotLoaded);
    }
    let devices = host.sysfs.devices();
    if device.is_some_and(|name| devices.iter().all(|it| it.name != name)) {
        return refused(CommandError::Refused(Errno::ENOENT));
    }
    let asked = |name: &str| device.is_none_or(|device| device == name);
    let mut notes = Vec::new();
    let mut requests = match host.agent.in_flight() {
        Ok(in_flight) => Some(in_flight.requests),
        Err(error) => {
            notes.push(why_not(&error));
            None
        }
    };
    let oldest_us = u64::try_from(older_than.as_micros()).unwrap_or(u64::MAX);
    if let Some(requests) = &mut requests {
        requests.retain(|it| asked(&it.device) && it.age_us >= oldest_us);
    }
    let count = |name: String| {
        let Pending { reads, writes, waiting } = host.sysfs.pending(&name)?;
        Some(Counted { name, reads, writes, waiting })
    };
    let names = devices.into_iter().map(|device| device.name).filter(|name| asked(name));
    let screen = Screen { requests, devices: names.filter_map(count).collect(), notes };
    if host.style.json {
        return output::print_json(&screen);
    }
    let mut notes = screen.notes;
    let Some(requests) = screen.requests else {
        output::print_notes(&notes);
        return output::print(|out| counts(&screen.devices).write(out, host.style.header, ""));
    };
    notes.extend(screen.devices.iter().filter(|it| it.waiting > 0).map(|it| {
        format!(
            "{}: {} more, which the agent does not have, wait in the kernel",
            it.name, it.waiting
        )
    }));
    output::print_notes(&notes);
    output::print(|out| table(&requests).write(out, host.style.header, ""))
}

fn why_not(error: &AgentError) -> String {
    let remedy = match error {
        AgentError::NotRunning(_) => "; start it: systemctl start srb-agent",
        AgentError::NotPermitted(_) => ": run srbctl as root",
        _ => "",
    };
    format!("{error}{remedy}; this is what the kernel counts")
}

fn counts(devices: &[Counted]) -> Table<4> {
    let mut table = Table::new([
        ("DEVICE", Align::Left),
        ("READS", Align::Right),
        ("WRITES", Align::Right),
        ("WAITING", Align::Right),
    ]);
    for Counted { name, reads, writes, waiting } in devices {
        table.row([name.clone(), reads.to_string(), writes.to_string(), waiting.to_string()]);
    }
    table
}

fn table(requests: &[RequestStatus]) -> Table<10> {
    let mut table = Table::new([
        ("DEVICE", Align::Left),
        ("QUEUE", Align::Right),
        ("TAG", Align::Right),
        ("OP", Align::Left),
        ("OFFSET", Align::Right),
        ("LENGTH", Align::Right),
        ("AGE", Align::Right),
        ("TRIES", Align::Right),
        ("URL", Align::Left),
        ("LAST", Align::Left),
    ]);
    for it in requests {
        table.row([
            it.device.clone(),
            it.queue.to_string(),
            it.tag.to_string(),
            it.op.clone(),
            it.offset.to_string(),
            human_size(it.len.into()),
            human_micros(it.age_us),
            it.tries.to_string(),
            it.url.clone().unwrap_or_default(),
            it.last.clone().unwrap_or_default(),
        ]);
    }
    table
}
