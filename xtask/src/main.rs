// SPDX-License-Identifier: GPL-2.0-only
//! `cargo xtask`: what is done with the project's sources, beside building them.

mod imports;
mod layers;
mod slice;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about = "What is done with srb's sources, beside building them")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Checks that modules import from the layers below them alone, and never in a circle
    Layers,
    /// Takes the slice of the `kernel` crate out of a kernel's source that the module is built with
    /// where the kernel has none
    Slice {
        /// The archive, as Debian's linux-source has it, or a folder
        source: PathBuf,
        /// The folder to be made
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let done = match Cli::parse().command {
        Command::Layers => layers::check_all(&root).map_err(Into::into),
        Command::Slice { source, out } => {
            slice::take(&source, &root.join("kmod/crate"), &out).map(|()| Vec::new())
        }
    };
    match done {
        Ok(findings) if findings.is_empty() => ExitCode::SUCCESS,
        Ok(findings) => {
            findings.iter().for_each(|finding| eprintln!("{finding}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
