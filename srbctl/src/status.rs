// SPDX-License-Identifier: GPL-2.0-only
//! `srbctl status`: module, agent, URLs and devices on one screen.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{json, Map, Value};
use srb_status::{AgentStatus, DeviceStatus, Status};

use crate::agent::AgentError;
use crate::error::Failures;
use crate::explain;
use crate::host::Host;
use crate::operation::Operation;
use crate::output::{self, human_micros, human_secs, human_size, Align, Table};
use crate::params::{self, Parameter};
use crate::sysfs::{CommandError, Device};
use crate::terminal::shown;
use crate::url::{self, Url};

/// The policy that is not worth a line.
const FAIL: &str = "fail";

/// What is shown; a `None` could not be read, and a note says why.
#[derive(Debug, Serialize)]
struct Screen {
    module: Module,
    agent: Option<AgentStatus>,
    urls: Option<Vec<Url>>,
    devices: Vec<Attached>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Module {
    version: Option<String>,
    parameters: Vec<Parameter>,
    /// Agents that stand by.
    standbys: Option<u32>,
}

/// What the module and the agent know of a device.
#[derive(Debug)]
struct Attached {
    device: Device,
    status: Option<DeviceStatus>,
    /// Requests that the kernel keeps until an agent takes them.
    waiting: Option<u64>,
}

impl Serialize for Attached {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all = Map::new();
        let agents = self.status.as_ref().map(|status| json!(status));
        // The module has the last word on what both of them know.
        for part in agents.into_iter().chain([json!(self.device)]) {
            if let Value::Object(part) = part {
                all.extend(part);
            }
        }
        all.insert("waiting".to_owned(), json!(self.waiting));
        all.serialize(serializer)
    }
}

/// Prints it.
pub(crate) fn show(host: &Host) -> Result<(), Failures> {
    if !host.sysfs.is_loaded() {
        let error = CommandError::NotLoaded;
        let mut error = explain::explain(host, Operation::ListParameters, &error, 0);
        error.message = "the srb module is not loaded".to_owned();
        return Err(error.into());
    }
    let screen = look(host);
    if host.style.json {
        return output::print_json(&screen);
    }
    output::print(|out| write(out, &screen))
}

fn look(host: &Host) -> Screen {
    let mut notes = Vec::new();
    let mut note = |message: String| notes.push(message);
    let parameters = params::all(host).unwrap_or_else(|error| {
        note(error.message);
        Vec::new()
    });
    let urls = host.sysfs.urls().map_err(|error| {
        let error = explain::explain(host, Operation::ListUrls, &error, 0);
        note(format!("{}: {}", error.message, error.hint.unwrap_or_default()));
    });
    let (agent, statuses) = match host.agent.status() {
        Ok(Status { agent, urls, devices, .. }) => (Some(agent), (urls, devices)),
        Err(error) => {
            note(match &error {
                AgentError::NotRunning(_) => {
                    format!("{error}; start it: systemctl start srb-agent")
                }
                AgentError::NotPermitted(_) => format!("{error}: run srbctl as root"),
                _ => error.to_string(),
            });
            (None, Default::default())
        }
    };
    let with_status = |device: Device| {
        let of_it = |status: &&DeviceStatus| status.name == device.name;
        let status = statuses.1.iter().find(of_it).cloned();
        let waiting = host.sysfs.pending(&device.name).map(|pending| pending.waiting);
        Attached { device, status, waiting }
    };
    Screen {
        module: Module {
            version: host.sysfs.version(),
            parameters,
            standbys: host.sysfs.standbys(),
        },
        urls: urls.ok().map(|urls| url::joined(urls, &statuses.0)),
        devices: host.sysfs.devices().into_iter().map(with_status).collect(),
        agent,
        notes,
    }
}

fn write(out: &mut dyn Write, screen: &Screen) -> io::Result<()> {
    let version = screen.module.version.as_deref().unwrap_or("of unknown version");
    writeln!(out, "module   {}", shown(version))?;
    let mut parameters = screen.module.parameters.iter().peekable();
    while parameters.peek().is_some() {
        let line: Vec<_> = parameters
            .by_ref()
            .take(4)
            .map(|it| shown(&format!("{}={}", it.name, params::text(&it.value))))
            .collect();
        writeln!(out, "         {}", line.join(" "))?;
    }
    writeln!(out, "agent    {}", agent_line(screen.agent.as_ref()))?;
    match screen.module.standbys {
        None | Some(0) => {}
        Some(1) => writeln!(out, "standby  1 agent takes its place when it is gone")?,
        Some(count) => writeln!(out, "standby  {count} agents take its place when it is gone")?,
    }
    match &screen.urls {
        None => writeln!(out, "urls     unknown")?,
        Some(urls) if urls.is_empty() => {
            writeln!(out, "urls     none (srbctl url add http://HOST[:PORT]/PATH)")?;
        }
        Some(urls) => {
            writeln!(out, "urls     {}", urls.len())?;
            url::table(urls).write(out, true, "  ")?;
        }
    }
    if screen.devices.is_empty() {
        writeln!(out, "devices  none (srbctl attach VOLUME DEVICE)")?;
    } else {
        writeln!(out, "devices  {}", screen.devices.len())?;
        device_table(&screen.devices).write(out, true, "  ")?;
        for line in screen.devices.iter().filter_map(policy_line) {
            writeln!(out, "policy   {}", shown(&line))?;
        }
        for line in screen.devices.iter().filter_map(wait_line) {
            writeln!(out, "waits    {}", shown(&line))?;
        }
    }
    for note in &screen.notes {
        writeln!(out, "note     {}", shown(note))?;
    }
    Ok(())
}

fn agent_line(agent: Option<&AgentStatus>) -> String {
    let Some(agent) = agent else { return "not running, or not to be reached".to_owned() };
    let session = match agent.session {
        Some(session) => format!("session {session}, {} queues", agent.queues),
        None => "not connected to the module".to_owned(),
    };
    let up = human_secs(agent.uptime_secs);
    shown(&format!("{}, pid {}, up {up}, {session}", agent.version, agent.pid))
}

/// What is held, and why, where that is not the plain policy of failing.
fn policy_line(attached: &Attached) -> Option<String> {
    let Attached { device, status, .. } = attached;
    let policy = device.policy.as_deref().unwrap_or(FAIL);
    let held = status.as_ref().map_or(0, |status| status.held);
    let times = match held {
        0 if policy == FAIL => return None,
        0 => String::new(),
        1 => "; a request was held once".to_owned(),
        times => format!("; requests were held {times} times"),
    };
    Some(format!("{} {policy}{times}", device.name))
}

/// For how long a device still waits for an agent, and what waits, where there is no agent.
fn wait_line(attached: &Attached) -> Option<String> {
    let Attached { device, waiting, .. } = attached;
    let name = &device.name;
    let what = match waiting.unwrap_or(0) {
        0 => String::new(),
        1 => "; 1 request waits".to_owned(),
        count => format!("; {count} requests wait"),
    };
    Some(match device.agent_wait.as_deref()? {
        "connected" => return None,
        "forever" => format!("{name} for an agent, for ever{what}"),
        "failing" => format!("{name} no more: no agent came in time, its requests fail"),
        secs => {
            let secs = secs.parse().map_or_else(|_| secs.to_owned(), human_secs);
            format!("{name} for an agent, {secs} more, then its requests fail{what}")
        }
    })
}

fn device_table(devices: &[Attached]) -> Table<11> {
    let mut table = Table::new([
        ("DEVICE", Align::Left),
        ("VOLUME", Align::Left),
        ("SIZE", Align::Right),
        ("IN-FLIGHT", Align::Right),
        ("OLDEST", Align::Right),
        ("READ", Align::Right),
        ("P99", Align::Right),
        ("WRITTEN", Align::Right),
        ("P99", Align::Right),
        ("RETRIES", Align::Right),
        ("ERRORS", Align::Right),
    ]);
    for Attached { device, status, .. } in devices {
        let known =
            |cell: fn(&DeviceStatus) -> String| status.as_ref().map(cell).unwrap_or_default();
        table.row([
            device.name.clone(),
            device.volume.clone(),
            device.size_bytes.map(human_size).unwrap_or_default(),
            known(|it| it.in_flight.to_string()),
            known(|it| it.oldest_age_ms.map(|ms| human_micros(ms * 1000)).unwrap_or_default()),
            known(|it| human_size(it.read_bytes)),
            known(|it| human_micros(it.read_latency.p99_us)),
            known(|it| human_size(it.written_bytes)),
            known(|it| human_micros(it.write_latency.p99_us)),
            known(|it| it.retries.to_string()),
            known(|it| it.errors.to_string()),
        ]);
    }
    table
}
