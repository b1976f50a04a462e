// SPDX-License-Identifier: GPL-2.0-only
//! `srb-faults`: fault campaigns, each in a VM of its own; `scripts/vm.sh faults` calls it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::Parser;
use srb_tests::faults::{self, Run};
use srb_tests::guest::random::Random;
use srb_tests::vm::{Error, Folders};

/// Runs fault campaigns, and writes their figures to one file
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// One campaign alone
    #[arg(value_parser = PossibleValuesParser::new(faults::names()))]
    campaign: Option<String>,

    /// The seed of an earlier run, to run it again
    #[arg(long)]
    seed: Option<u64>,

    /// The campaign's size, instead of its own
    #[arg(long, requires = "campaign")]
    rounds: Option<u64>,

    /// The short forms
    #[arg(long)]
    short: bool,

    /// Where the figures and logs go
    #[arg(long, value_name = "FOLDER", default_value = "target/results")]
    results: PathBuf,

    #[command(flatten)]
    folders: Folders,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let run = Run {
        folders: cli.folders,
        results: cli.results,
        seed: cli.seed.unwrap_or_else(Random::fresh_seed),
        rounds: cli.rounds,
        only: cli.campaign,
        short: cli.short,
    };
    match faults::run(&run) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Error::Interrupted(signal)) => {
            eprintln!("srb-faults: ended by signal {signal}");
            u8::try_from(signal.saturating_add(128)).map_or(ExitCode::FAILURE, ExitCode::from)
        }
        Err(error) => {
            eprintln!("srb-faults: {error}");
            ExitCode::FAILURE
        }
    }
}
