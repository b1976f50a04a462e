// SPDX-License-Identifier: GPL-2.0-only
//! `srbctl`: what `echo` and `cat` do with srb's sysfs files, with checked words and errors that
//! say what to do.
//!
//! Every change is one write(2) to a file of the module, which decides; nothing here keeps state.
//! What sysfs does not know (health, latencies, all the names of a long listing) comes from the
//! agent's socket, and is left out when no agent answers. One thread; no signal is caught, so
//! Ctrl-C ends a wait at once.
//!
//! - [`cli`]: the words of the command line.
//! - [`status`], [`url`], [`volume`], [`device`], [`inflight`], [`params`]: one file per noun.
//! - [`boot`]: what systemd calls at boot and at shutdown.
//! - [`host`]: where the facts come from: [`sysfs`], [`agent`], [`openers`].
//! - [`operation`], [`known_params`], [`explain`]: what an errno means for an operation, and what
//!   to do about it.
//! - [`output`], [`terminal`], [`error`]: tables, JSON, exit codes.

mod agent;
mod boot;
mod cli;
mod device;
mod error;
mod explain;
mod host;
mod inflight;
mod known_params;
mod openers;
mod operation;
mod output;
mod params;
mod status;
mod sysfs;
mod terminal;
mod url;
mod volume;

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};

use crate::agent::Agent;
use crate::cli::{Cli, Command};
use crate::error::{Error, Failures};
use crate::host::Host;
use crate::output::Style;
use crate::sysfs::Sysfs;

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    if Path::new(&name).file_name() == Some(OsStr::new(boot::units::NAME)) {
        boot::units::run(words);
        return ExitCode::SUCCESS;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let json = cli.options.json;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failures) => failures.report(json),
    }
}

/// Help and version go to stdout; a command line that makes no sense is a failure like any other.
fn misused(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().any(|word| word == "--json");
    if json && error.use_stderr() {
        let text = error.to_string();
        return Failures::from(Error::usage(text.trim().trim_start_matches("error: ")))
            .report(true);
    }
    error.exit()
}

fn run(cli: Cli) -> Result<(), Failures> {
    let host = Host {
        sysfs: Sysfs::new(cli.options.sysfs_root),
        proc_root: cli.options.proc_root,
        agent: Agent::new(cli.options.socket),
        style: Style::of_stdout(cli.options.json),
    };
    match cli.command {
        Command::Status => status::show(&host),
        Command::Url(command) => url::run(&host, command),
        Command::Volume(command) => volume::run(&host, &command),
        Command::Attach { volume, device } => device::attach(&host, &volume, &device),
        Command::Detach { device, force: false } => device::detach(&host, &device),
        Command::Detach { device, force: true } => device::detach_by_force(&host, &device),
        Command::Device(command) => device::run(&host, &command),
        Command::Inflight { device, older_than } => {
            inflight::show(&host, device.as_deref(), Duration::from_secs(older_than))
        }
        Command::Params { words } => params::run(&host, &words),
        Command::Boot(command) => boot::commands::run(host, &cli.options.etc_root, command),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "srbctl", &mut script);
            output::print(|out: &mut dyn io::Write| out.write_all(&script))
        }
    }
}
