// SPDX-License-Identifier: GPL-2.0-only
//! `srb-agent`: serves the block devices of `srb.ko` from a REST repository.
//!
//! Prepares the process and hands over to [`srb_agent::agent`], or to [`srb_agent::standby`] if
//! another agent is there. Exit status: 0 after SIGTERM, SIGINT or when another agent has taken
//! over, 1 after anything else, 2 for a wrong command line.

use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use srb_agent::agent::{self, AgentError};
use srb_agent::kernel::control_device::KernelDevice;
use srb_agent::kernel::ended::BeginError;
use srb_agent::kernel::session::{Entrance, Entry, Session, Standby};
use srb_agent::kernel::worker;
use srb_agent::process::config::{Arguments, Config};
use srb_agent::process::logging::Log;
use srb_agent::process::notify::{notify, NotifyState};
use srb_agent::process::{memory, rights};
use srb_agent::standby;
use tokio::signal::unix::{signal, SignalKind};
use tokio::task::LocalSet;

/// For an agent to end once nothing is in flight any more.
const HAND_OVER: Duration = Duration::from_secs(1);
/// How often a second agent looks whether the first one has gone.
const RETRY_PERIOD: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match Config::load(&arguments) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("srb-agent: {error}");
            return ExitCode::FAILURE;
        }
    };
    let log = Log::start(config.log);
    match run(&config, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: &Config, log: Log) -> Result<(), AgentError> {
    let prepare = || memory::prepare(config.lock_memory, config.oom_score_adj);
    // Before the session begins if another agent serves meanwhile; else there may be no module, and
    // nothing to prepare for.
    let early = config.takeover || config.standby;
    if early {
        prepare();
    }
    let entrance = enter(config)?;
    if !early {
        prepare();
    }
    if let Err(error) = rights::give_up_admin() {
        tracing::warn!("cannot give up rights: {error}");
    }
    let runtime = worker::runtime()?;
    LocalSet::new().block_on(&runtime, async {
        let stop = stop_signal()?;
        match entrance {
            Entrance::Begun(begun) => agent::run(config, begun, log, stop).await,
            Entrance::Occupied(standby) => standby::run(config, standby, log, stop).await,
        }
    })
}

/// Begins a session. If another agent has one, opens what is needed to take its place; or, if that
/// is not wanted, gives it the time that an agent takes to end.
fn enter(config: &Config) -> Result<Entrance, BeginError> {
    let device = KernelDevice { path: config.device.clone() };
    if config.takeover {
        // The supervisor's process is about to end, and is not to be started anew.
        notify(&[NotifyState::MainPid(std::process::id())]);
    }
    if config.takeover || config.standby {
        return Standby::enter(&device);
    }
    let (begun, patience) = (Instant::now(), config.drain.saturating_add(HAND_OVER));
    loop {
        match Session::begin(&device, Entry::IfFree) {
            Err(BeginError::Busy) if begun.elapsed() < patience => thread::sleep(RETRY_PERIOD),
            result => return result.map(Entrance::Begun),
        }
    }
}

/// Ready at the first SIGTERM or SIGINT. SIGHUP is ignored: the terminal that the agent was started
/// from may go.
fn stop_signal() -> io::Result<impl std::future::Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = hang_up.recv() => {}
            }
        }
    })
}
