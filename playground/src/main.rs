// SPDX-License-Identifier: GPL-2.0-only
//! The command: reads its options, starts the server, and ends it at SIGTERM or SIGINT.

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Parser};
use nix::libc;
use srb_playground::{Config, Plan, Playground, Quirk};
use tokio::signal::unix::{signal, SignalKind};
use tracing::Level;

/// A REST server for trying, testing and breaking srb. Not a storage product.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// The folder of the volumes, made if missing
    #[arg(long, value_name = "FOLDER", default_value_os_t = Config::default().datapath)]
    datapath: PathBuf,

    /// The port to listen on; 0 takes any free one
    #[arg(long, default_value_t = Config::default().port)]
    port: u16,

    /// The address to listen on; 0.0.0.0 or :: opens the server to the network
    #[arg(long, value_name = "ADDRESS", default_value_t = Config::default().listen)]
    listen: IpAddr,

    /// The repository's path in its URL
    #[arg(long, default_value_t = Config::default().path)]
    path: String,

    /// Answer a change when it is on the disk (fdatasync)
    #[arg(long)]
    sync: bool,

    /// Take a ranged PUT whose body is not as long as its range: the body's length counts
    #[arg(long)]
    lenient: bool,

    /// Let requests meet faults, as docs/faults.md describes:
    /// "seed=42 read:2%:delay=20..200 write:1%:lost-reply any:0.5%:reset-amid"
    #[arg(long, value_name = "PLAN")]
    faults: Option<Plan>,

    /// Change and count faults over HTTP on this port of 127.0.0.1; 0 takes any free one
    #[arg(long, value_name = "PORT")]
    admin_port: Option<u16>,

    /// Log each request to stderr; -vv logs what the libraries do
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,

    /// Imitate a server's deviation; may be repeated
    #[arg(long = "quirk", value_name = "NAME", hide = true)]
    quirks: Vec<Quirk>,
}

impl From<Options> for Config {
    fn from(options: Options) -> Self {
        Self {
            datapath: options.datapath,
            listen: options.listen,
            port: options.port,
            path: options.path,
            sync: options.sync,
            lenient: options.lenient,
            quirks: options.quirks.into_iter().collect(),
            faults: options.faults,
            admin_port: options.admin_port,
            ..Self::default()
        }
    }
}

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
