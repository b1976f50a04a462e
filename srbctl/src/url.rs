// SPDX-License-Identifier: GPL-2.0-only
//! `srbctl url`.

use serde::Serialize;
use serde_json::json;
use srb_proto::command::parse_urls;
use srb_status::{UrlState, UrlStatus};

use crate::cli::UrlCommand;
use crate::error::{Error, Failures};
use crate::explain;
use crate::host::Host;
use crate::operation::Operation;
use crate::output::{self, human_micros, Align, Table};

/// A configured URL, and what the agent thinks of it.
#[derive(Debug)]
pub(crate) struct Url {
    url: String,
    status: Option<UrlStatus>,
}

impl Serialize for Url {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.status {
            Some(status) => status.serialize(serializer),
            None => json!({ "url": self.url }).serialize(serializer),
        }
    }
}

/// The module's list, with the agent's findings.
pub(crate) fn joined(urls: Vec<String>, statuses: &[UrlStatus]) -> Vec<Url> {
    let with_status = |url: String| {
        let status = statuses.iter().find(|status| status.url == url).cloned();
        Url { url, status }
    };
    urls.into_iter().map(with_status).collect()
}

/// As people see them.
pub(crate) fn table(urls: &[Url]) -> Table<7> {
    let mut table = Table::new([
        ("URL", Align::Left),
        ("STATE", Align::Left),
        ("IN-USE", Align::Left),
        ("REQUESTS", Align::Right),
        ("ERRORS", Align::Right),
        ("LATENCY", Align::Right),
        ("REASON", Align::Left),
    ]);
    for Url { url, status } in urls {
        let known = |cell: fn(&UrlStatus) -> String| status.as_ref().map(cell).unwrap_or_default();
        table.row([
            url.clone(),
            state(status.as_ref().map_or(UrlState::Unknown, |status| status.state)),
            known(|status| if status.active { "yes" } else { "no" }.to_owned()),
            known(|status| status.requests.to_string()),
            known(|status| status.errors.to_string()),
            known(|status| status.latency_us.map(human_micros).unwrap_or_default()),
            known(|status| {
                status.reason.clone().or_else(|| status.last_error.clone()).unwrap_or_default()
            }),
        ]);
    }
    table
}

fn state(state: UrlState) -> String {
    let word = match state {
        UrlState::Up => "up",
        UrlState::Down => "down",
        UrlState::Unknown => "unknown",
    };
    word.to_owned()
}

/// Does what the command line says.
pub(crate) fn run(host: &Host, command: UrlCommand) -> Result<(), Failures> {
    match command {
        UrlCommand::List => list(host),
        UrlCommand::Add { urls } => change(host, &urls, "add_urls", |url| Operation::AddUrl(url)),
        UrlCommand::Remove { urls } => {
            change(host, &urls, "remove_urls", |url| Operation::RemoveUrl(url))
        }
    }
}

fn list(host: &Host) -> Result<(), Failures> {
    let urls = host
        .sysfs
        .urls()
        .map_err(|error| explain::explain(host, Operation::ListUrls, &error, 0))?;
    let mut notes = Vec::new();
    let statuses = match host.agent.status() {
        Ok(status) => status.urls,
        Err(error) => {
            notes.push(error.to_string());
            Vec::new()
        }
    };
    let urls = joined(urls, &statuses);
    if host.style.json {
        return output::print_json(&json!({ "urls": urls, "notes": notes }));
    }
    output::print_notes(&notes);
    output::print(|out| table(&urls).write(out, host.style.header, ""))
}

/// One write for each URL, so that each refusal is told from the others; a bad one does not keep
/// the good ones out.
fn change(
    host: &Host,
    lists: &[String],
    file: &str,
    operation: for<'a> fn(&'a str) -> Operation<'a>,
) -> Result<(), Failures> {
    let mut failures = Vec::new();
    let mut valid = Vec::new();
    for (text, parsed) in lists.iter().flat_map(|list| parse_urls(list.as_bytes())) {
        let text = String::from_utf8_lossy(text);
        match parsed {
            Ok(url) => valid.push(url),
            Err(error) => failures.push(Error::usage(format!("{text}: {}", error.reason()))),
        }
    }
    if valid.is_empty() && failures.is_empty() {
        failures.push(Error::usage("no URL is given"));
    }
    if let Some(first) = valid.first() {
        let opened = host.sysfs.command(file);
        let mut file =
            opened.map_err(|error| explain::explain(host, operation(first.as_str()), &error, 0))?;
        for url in &valid {
            let result = explain::send(host, operation(url.as_str()), &mut file, url.as_str());
            failures.extend(result.err());
        }
        // Something was tried, whatever else was wrong with the command line.
        failures.iter_mut().for_each(|error| error.usage = false);
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Failures(failures))
    }
}
