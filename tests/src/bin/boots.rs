// SPDX-License-Identifier: GPL-2.0-only
//! `srb-boots`: machines that start and stop with srb's packages; `scripts/boots.sh` calls it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use srb_tests::boots::{self, Run};
use srb_tests::vm::Folders;

/// Starts and stops machines that have srb's packages
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// The tests with this in their name
    #[arg(default_value = "")]
    filter: String,

    /// How often each way of stopping is tried
    #[arg(long, default_value_t = 1)]
    rounds: u32,

    /// Where logs go
    #[arg(long, value_name = "FOLDER", default_value = "target/results")]
    results: PathBuf,

    #[command(flatten)]
    folders: Folders,
}

fn main() -> ExitCode {
    let Cli { filter, rounds, results, folders } = Cli::parse();
    match boots::run(&Run { folders, results, filter, rounds }) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("srb-boots: {error}");
            ExitCode::FAILURE
        }
    }
}
