// SPDX-License-Identifier: GPL-2.0-only
//! `srb-vm`: runs a command, or a shell, in a VM with the stock kernel. `scripts/vm.sh` makes what
//! it needs and calls it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use srb_proto::command::parse_size;
use srb_tests::vm::{self, Accel, Error, Folders, Job, Options};

/// Runs a command in a virtual machine with Debian's stock kernel
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Run COMMAND as root in the VM; its output and exit status become this program's
    Run {
        #[command(flatten)]
        machine: Machine,

        /// The command and its arguments
        #[arg(required = true, last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Give this terminal a root shell in the VM
    Shell {
        #[command(flatten)]
        machine: Machine,
    },
}

#[derive(Args)]
struct Machine {
    #[command(flatten)]
    folders: Folders,

    /// The guest's memory
    #[arg(long, default_value = "2G", value_parser = bytes)]
    memory: u64,

    /// The guest's CPUs
    #[arg(long, default_value_t = 2)]
    cpus: u32,

    /// What executes the guest: auto, kvm, tcg or icount
    #[arg(long, default_value = "auto")]
    accel: Accel,

    /// Count instructions as time, so that figures repeat (the same as --accel icount)
    #[arg(long, conflicts_with = "accel")]
    icount: bool,

    /// Give the guest a scratch disk of this size, mounted at /scratch
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    disk: Option<u64>,

    /// Give the guest a network in which the host's loopback is 10.0.2.2
    #[arg(long)]
    network: bool,

    /// End the run after this many seconds, boot included
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,

    /// Keep the guest kernel's log here (else: among the run's files, and only if the run fails)
    #[arg(long, value_name = "FILE")]
    console: Option<PathBuf>,
}

fn bytes(text: &str) -> Result<u64, &'static str> {
    parse_size(text).map_err(|error| error.reason())
}

const MIB: u64 = 1024 * 1024;
/// The status for a run that has none of its own, as of a shell that cannot run a command.
const NO_STATUS: u8 = 125;

impl Machine {
    fn options(self, job: Job) -> (Options, bool) {
        let keep_console = self.console.is_some();
        let console = self.console.unwrap_or_else(|| {
            self.folders.runs.join(format!("console-{}.log", std::process::id()))
        });
        let options = Options {
            folders: self.folders,
            root_disk: None,
            console,
            memory_mib: self.memory / MIB,
            cpus: self.cpus,
            accel: if self.icount { Accel::Icount } else { self.accel },
            disk_bytes: self.disk,
            timeout: self.timeout.map(Duration::from_secs),
            network: self.network,
            copy_output: None,
            job,
        };
        (options, keep_console)
    }
}

fn main() -> ExitCode {
    let (options, keep_console) = match Cli::parse().action {
        Action::Run { machine, command } => machine.options(Job::Run(command)),
        Action::Shell { machine } => machine.options(Job::Shell),
    };
    let result = vm::run(&options);
    if !keep_console && matches!(result, Ok(_) | Err(Error::Interrupted(_))) {
        // Missing only if the run's folder was removed under us; nobody needs it then.
        let _ = std::fs::remove_file(&options.console);
    }
    match result {
        Ok(status) => u8::try_from(status).map_or(ExitCode::FAILURE, ExitCode::from),
        Err(Error::Interrupted(signal)) => {
            eprintln!("srb-vm: ended by signal {signal}");
            u8::try_from(signal.saturating_add(128)).map_or(ExitCode::FAILURE, ExitCode::from)
        }
        Err(error) => {
            eprintln!("srb-vm: {error}");
            ExitCode::from(NO_STATUS)
        }
    }
}
