// SPDX-License-Identifier: GPL-2.0-only
//! Fault campaigns as they are run from outside: each in a VM of its own, and the figures of all of
//! them in one file.
//!
//! What happens inside is `guest::cases::faults`; [`power_cuts`] needs a hand outside and has it
//! here. A run of all campaigns leaves `faults.json` in the folder of results; a run of one leaves
//! `faults-NAME.json`. Beside them lie what each campaign printed and its kernel's log.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use crate::guest::cases::faults::{self, About};
use crate::guest::random::{Random, SEED};
use crate::processor::{Around, Beside};
use crate::vm::{self, host, Accel, Error, Folders, Job, Options};

pub mod power_cuts;
pub(crate) mod server;

/// What a VM may take besides its campaign.
const BOOT: Duration = Duration::from_secs(180);
/// The guest's disk for the volumes.
const DISK_BYTES: u64 = 8 << 30;

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Run {
    /// As in [`Options`].
    pub folders: Folders,
    /// Where the results go.
    pub results: PathBuf,
    /// The seed of every campaign.
    pub seed: u64,
    /// The size of every campaign, instead of its own.
    pub rounds: Option<u64>,
    /// One campaign alone.
    pub only: Option<String>,
    /// The forms that fit into the suite.
    pub short: bool,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            folders: Folders::default(),
            results: PathBuf::from("target/results"),
            seed: Random::fresh_seed(),
            rounds: None,
            only: None,
            short: false,
        }
    }
}

/// What a campaign came to.
#[derive(Debug, Default)]
struct Outcome {
    passed: bool,
    figures: Map<String, Value>,
}

/// Names of all campaigns.
#[must_use]
pub fn names() -> Vec<&'static str> {
    faults::about().map(|about| about.name).chain([power_cuts::NAME]).collect()
}

/// Runs the campaigns; returns whether all passed.
///
/// # Errors
/// When a VM cannot be started or did not get to its end, or the results cannot be written.
pub fn run(run: &Run) -> Result<bool, Error> {
    fs::create_dir_all(&run.results).map_err(host("making the folder of results"))?;
    println!("faults: seed {}", run.seed);
    let mut report = Map::new();
    report.insert("seed".to_owned(), run.seed.into());
    let selected = |name: &str| run.only.as_deref().is_none_or(|only| only == name);
    let mut all_passed = true;
    let mut add = |name: &str, outcome: Outcome| {
        println!("faults: {name}: {}", if outcome.passed { "passed" } else { "FAILED" });
        all_passed &= outcome.passed;
        let mut figures = outcome.figures;
        figures.insert("passed".to_owned(), outcome.passed.into());
        report.insert(name.to_owned(), figures.into());
    };
    for about in faults::about().filter(|about| selected(about.name)) {
        add(about.name, inside(run, &about)?);
    }
    if selected(power_cuts::NAME) {
        let result = power_cuts::run(run)?;
        add(power_cuts::NAME, Outcome { passed: result.passed, figures: result.figures });
    }
    let file = match &run.only {
        Some(name) => format!("faults-{name}.json"),
        None => "faults.json".to_owned(),
    };
    let path = run.results.join(file);
    let text = format!("{:#}\n", Value::Object(report));
    fs::write(&path, text).map_err(host(format!("writing {}", path.display())))?;
    println!("faults: figures in {}", path.display());
    Ok(all_passed)
}

impl Run {
    /// A VM for this campaign that runs this command.
    fn options(&self, name: &str, command: &[&str]) -> Options {
        Options {
            folders: self.folders.clone(),
            root_disk: None,
            console: self.results.join(format!("{name}.console")),
            memory_mib: 2048,
            cpus: 2,
            accel: Accel::Auto,
            disk_bytes: Some(DISK_BYTES),
            timeout: Some(BOOT),
            network: false,
            copy_output: Some(self.results.join(format!("{name}.log"))),
            job: Job::Run(command.iter().map(ToString::to_string).collect()),
        }
    }
}

/// Runs a campaign inside a VM.
fn inside(run: &Run, about: &About) -> Result<Outcome, Error> {
    let form = format!("{}={}", faults::FORM, if run.short { "short" } else { "full" });
    let seed = format!("{}={}", SEED, run.seed);
    let rounds = run.rounds.map(|rounds| rounds.to_string()).unwrap_or_default();
    let rounds = format!("{}={rounds}", faults::ROUNDS);
    let case = format!("faults::{}", about.name);
    let command = ["env", &form, &seed, &rounds, "srb-guest-tests", &case, "--exact"];
    let mut options = run.options(about.name, &command);
    options.memory_mib = about.memory_mib;
    options.timeout = Some(about.bound.saturating_add(BOOT));
    let around = Around::begin().map_err(host("looking at the processors"))?;
    let status = match vm::run(&options) {
        Ok(status) => status,
        // The others are still worth running.
        Err(why @ Error::Guest(..)) => {
            println!("{}: {why}", about.name);
            1
        }
        Err(why) => return Err(why),
    };
    let beside = around.end().map_err(host("looking at the processors"))?;
    let mut figures = options.copy_output.as_deref().and_then(figures_in).unwrap_or_default();
    let passed = status == 0 && !figures.is_empty();
    let Beside { others, stolen } = beside;
    println!("faults: {}: others had {others} % of the host, {stolen} % was stolen", about.name);
    figures.insert("host_others_percent".to_owned(), others.into());
    figures.insert("host_stolen_percent".to_owned(), stolen.into());
    Ok(Outcome { passed, figures })
}

/// The figures in what a campaign printed.
fn figures_in(log: &Path) -> Option<Map<String, Value>> {
    let bytes = fs::read(log).ok()?;
    parse_figures(&String::from_utf8_lossy(&bytes))
}

fn parse_figures(text: &str) -> Option<Map<String, Value>> {
    let line = text.lines().rev().find_map(|line| line.strip_prefix(faults::RESULT))?;
    let Value::Object(mut figures) = serde_json::from_str(line).ok()? else { return None };
    figures.remove("campaign");
    Some(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_among_what_else_is_printed() {
        let text = "running 1 test\nRESULT {\"campaign\":\"x\",\"count\":3}\nok\n";
        let figures = parse_figures(text).unwrap();
        assert_eq!(Value::Object(figures), serde_json::json!({"count": 3}));
        assert!(parse_figures("nothing").is_none());
        assert!(parse_figures("RESULT 7").is_none());
    }

    #[test]
    fn names_differ() {
        let mut all = names();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), names().len());
    }
}
