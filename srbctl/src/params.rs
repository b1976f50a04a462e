// SPDX-License-Identifier: GPL-2.0-only
//! `srbctl params`: the module's parameters.

use serde::Serialize;
use serde_json::json;
use srb_proto::command::Policy;

use crate::error::{Error, Failures};
use crate::explain;
use crate::host::Host;
use crate::known_params::{range, KNOWN, POLICY};
use crate::operation::Operation;
use crate::output::{self, Align, Table};

/// A parameter, as JSON has it.
#[derive(Debug, Serialize)]
pub(crate) struct Parameter {
    /// Name of the file.
    pub(crate) name: String,
    /// A number where it is one.
    pub(crate) value: serde_json::Value,
    /// Whether it can be set now.
    writable: bool,
    /// None for one that this program does not know.
    description: Option<&'static str>,
}

/// All that the module has: first those of the manual, in its order.
pub(crate) fn all(host: &Host) -> Result<Vec<Parameter>, Error> {
    let raw = host
        .sysfs
        .parameters()
        .map_err(|error| explain::explain(host, Operation::ListParameters, &error, 0))?;
    let rank = |name: &str| KNOWN.iter().position(|known| known.name == name);
    let mut found: Vec<_> = raw
        .into_iter()
        .map(|raw| Parameter {
            value: match raw.value.parse::<i64>() {
                Ok(number) => number.into(),
                Err(_) => raw.value.into(),
            },
            writable: raw.writable,
            description: rank(&raw.name).map(|at| KNOWN[at].description),
            name: raw.name,
        })
        .collect();
    found.sort_by_key(|parameter| rank(&parameter.name).unwrap_or(KNOWN.len()));
    Ok(found)
}

/// The value without quotes.
pub(crate) fn text(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Shows or sets what the words say; all of them are checked before the first one is set.
pub(crate) fn run(host: &Host, words: &[String]) -> Result<(), Failures> {
    let present = all(host)?;
    let mut wrong = Vec::new();
    let (mut shown, mut set) = (Vec::new(), Vec::new());
    for word in words {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word.as_str(), None),
        };
        match (present.iter().find(|it| it.name == name), value) {
            (None, _) => wrong.push(unknown(name, &present)),
            (Some(_), None) => shown.push(name),
            (Some(it), Some(value)) => match check(it, value) {
                Ok(()) => set.push((name, value)),
                Err(error) => wrong.push(error),
            },
        }
    }
    if !wrong.is_empty() {
        return Err(Failures(wrong));
    }
    for (name, value) in &set {
        let operation = Operation::SetParameter { name, value };
        let opened = host.sysfs.parameter(name);
        let mut file = opened.map_err(|error| explain::explain(host, operation, &error, 0))?;
        explain::send(host, operation, &mut file, value)?;
    }
    if words.is_empty() {
        show(host, present)
    } else if shown.is_empty() {
        Ok(())
    } else {
        let asked = all(host)?.into_iter().filter(|it| shown.contains(&it.name.as_str()));
        show(host, asked.collect())
    }
}

fn unknown(name: &str, present: &[Parameter]) -> Error {
    let names: Vec<_> = present.iter().map(|it| it.name.as_str()).collect();
    Error::usage(format!("there is no parameter {name:?}")).hint(names.join(", "))
}

fn check(parameter: &Parameter, value: &str) -> Result<(), Error> {
    let name = &parameter.name;
    if !parameter.writable {
        return Err(Error::usage(format!("{name} can be set only when the module is loaded"))
            .hint(format!("rmmod srb, then modprobe srb {name}={value} (or insmod srb.ko …)")));
    }
    if name == POLICY {
        let parsed = Policy::parse(value.as_bytes());
        return parsed
            .map(drop)
            .map_err(|error| Error::usage(format!("{name}: {}", error.reason())));
    }
    match range(name) {
        Some(range) if value.parse::<i64>().is_err() => {
            Err(Error::usage(format!("{name} is a whole number, {range}; {value:?} is none")))
        }
        _ => Ok(()),
    }
}

fn show(host: &Host, parameters: Vec<Parameter>) -> Result<(), Failures> {
    if host.style.json {
        return output::print_json(&json!({ "parameters": parameters }));
    }
    let mut table = Table::new([
        ("NAME", Align::Left),
        ("VALUE", Align::Right),
        ("SET", Align::Left),
        ("MEANING", Align::Left),
    ]);
    for it in parameters {
        table.row([
            it.name,
            text(&it.value),
            if it.writable { "any time" } else { "at load" }.to_owned(),
            it.description.unwrap_or_default().to_owned(),
        ]);
    }
    output::print(|out| table.write(out, host.style.header, ""))
}
