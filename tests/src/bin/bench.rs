// SPDX-License-Identifier: GPL-2.0-only
//! `srb-bench`: the benchmark's half inside the VM, and the one that reports; `scripts/bench.sh`
//! calls both.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand, ValueEnum};
use srb_tests::bench::guest::{self, Scope};
use srb_tests::bench::report::{self, recorded, Heading, Results};
use srb_tests::bench::{jobs, native};

/// Measures srb and its peers
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// In the VM: measure everything, or srb's own rates alone
    Guest {
        #[arg(long)]
        quick: bool,
        /// Parts of the full run instead of all of it
        #[arg(value_parser = PossibleValuesParser::new(guest::PARTS), conflicts_with = "quick")]
        only: Vec<String>,
    },
    /// In the VM: show where the instructions of a job go
    Profile {
        /// With or without a server
        #[arg(value_enum)]
        path: DataPath,
        /// The job
        #[arg(value_parser = PossibleValuesParser::new(jobs::ALL.map(|shape| shape.name)))]
        job: String,
    },
    /// Measure what needs no kernel, on this machine
    Native {
        /// Where bench-native.json and criterion's own figures go
        #[arg(long, default_value = "target/results")]
        results: PathBuf,
        /// The folder of srb-playground
        #[arg(long, default_value = "target/release")]
        programs: PathBuf,
    },
    /// Write the figures of a full run, its tables and its chart
    Report {
        /// What the guest printed
        records: PathBuf,
        /// Where bench.json goes
        #[arg(long, default_value = "target/results")]
        results: PathBuf,
        /// Where the tables, the chart and a copy of bench.json go
        #[arg(long, default_value = "docs/benchmarks")]
        docs: PathBuf,
        #[arg(long)]
        date: String,
        #[arg(long)]
        commit: String,
        #[arg(long, default_value = "make bench")]
        command: String,
    },
    /// Show a run beside the figures that were recorded
    Compare {
        /// What the guest printed
        records: PathBuf,
        /// The figures
        #[arg(long, default_value = "docs/benchmarks/bench.json")]
        with: PathBuf,
    },
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum DataPath {
    /// srb on `null:`
    Null,
    /// srb on a playground
    Http,
}

fn main() -> ExitCode {
    match run(Cli::parse().action) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("srb-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(action: Action) -> Result<bool, Box<dyn Error>> {
    match action {
        Action::Guest { quick, only } => {
            in_vm()?;
            let only = (!only.is_empty()).then_some(only);
            Ok(guest::run(if quick { Scope::Quick } else { Scope::Full }, only))
        }
        Action::Profile { path, job } => {
            in_vm()?;
            let shape = jobs::named(&job).ok_or("no such job")?;
            let profile = guest::profile(shape, path == DataPath::Http);
            let text = profile.map_err(|why| why.message().unwrap_or("failed").to_owned())?;
            println!("{text}");
            Ok(true)
        }
        Action::Native { results: folder, programs } => {
            fs::create_dir_all(&folder)?;
            let figures = native::run(&folder, &programs);
            let figures = figures.map_err(|why| why.message().unwrap_or("failed").to_owned())?;
            write(&folder, "bench-native.json", &report::json(&figures))?;
            Ok(true)
        }
        Action::Report { records, results: folder, docs, date, commit, command } => {
            let results = Results::read(&fs::read_to_string(records)?);
            let table = results.table(&Heading { date, commit, command });
            write(&folder, "bench.json", &results.json())?;
            write(&docs, "bench.json", &results.json())?;
            write(&docs, "README.md", &table)?;
            write(&docs, "chart.svg", &results.chart())?;
            println!("{table}");
            Ok(results.missing.is_empty())
        }
        Action::Compare { records, with } => {
            let results = Results::read(&fs::read_to_string(records)?);
            print!("{}", results.compare(&recorded(&with)?));
            Ok(results.missing.is_empty())
        }
    }
}

fn write(folder: &Path, name: &str, text: &str) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join(name), text)
}

fn in_vm() -> Result<(), &'static str> {
    if Path::new("/srb/srb.ko").exists() {
        Ok(())
    } else {
        Err("this loads modules: run it in the VM (scripts/bench.sh)")
    }
}
