// SPDX-License-Identifier: GPL-2.0-only
//! The command: reads its options, starts the server, and ends it at SIGTERM or SIGINT.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use nix::libc;
use srb_playground::command_line::Options;
use srb_playground::{Config, Playground};
use tokio::signal::unix::{signal, SignalKind};
use tracing::Level;

fn main() -> ExitCode {
    let options = Options::parse();
    let level = match options.verbose {
        0 => Level::INFO,
        1 => Level::DEBUG,
        _ => Level::TRACE,
    };
    tracing_subscriber::fmt().with_writer(io::stderr).with_max_level(level).init();
    become_io_flusher();
    match run(options.into()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("srb-playground: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Of `<linux/prctl.h>`; libc has it for Android alone.
const PR_SET_IO_FLUSHER: libc::c_int = 57;

/// Where a device of this machine is served, its dirty pages are written through this process: it
/// must not be held up, as a writer, until there are fewer of them.
///
/// Only root may. Without it, a machine that serves itself can come to a standstill when a lot is
/// dirty; for any other machine it makes no difference.
fn become_io_flusher() {
    let (on, unused): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: The request takes numbers alone. Threads that are started later inherit it.
    if unsafe { libc::prctl(PR_SET_IO_FLUSHER, on, unused, unused, unused) } != 0 {
        tracing::debug!("not an I/O flusher: {}", io::Error::last_os_error());
    }
}

fn run(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before the line is printed that tells others that they may signal.
    let _context = runtime.enter();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let playground = Playground::start(config)?;
    let mut stdout = io::stdout();
    let (url, data) = (playground.url(), playground.datapath().display());
    // Whoever started it may not care to read: that is no reason to end.
    let mut written = writeln!(stdout, "listening on {url} with data in {data}");
    if let Some(admin) = playground.admin_address() {
        written = written.and_then(|()| writeln!(stdout, "admin on http://{admin}/"));
    }
    let _ = written.and(stdout.flush());
    runtime.block_on(async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    tracing::info!("told to stop");
    playground.shutdown();
    Ok(())
}
