// SPDX-License-Identifier: GPL-2.0-only
//! What needs no kernel, at this machine's own speed: the ring, the agent with a simulated module,
//! and the peer on HTTP, its NBD server asked by a client in user space. `scripts/bench.sh native`
//! calls it.
//!
//! Criterion measures srb's parts and leaves its estimates in files, which are read here.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::jobs::{self, Shape, Timing, SPAN_MIB};
use super::report::number;
use super::Figure;
use crate::guest::process::{self, Daemon};
use crate::guest::random::Random;
use crate::guest::wait::wait_until;
use crate::guest::TestResult;

/// For a server to listen.
const READY: Duration = Duration::from_secs(20);
/// For all benches of a crate, built before.
const BENCHES: Duration = Duration::from_secs(900);
/// For one copy of the volume.
const COPY: Duration = Duration::from_secs(120);
const VOLUME: &str = "bench";
const TIMING: Timing = Timing { warm_up_ms: 500, measured_secs: 3 };
/// The benches of the ring.
const RING: [&str; 3] = ["push_and_pop", "there_and_back_qd1", "there_and_back_qd32"];

/// Measures everything and returns the figures; prints a table. `results` is where criterion keeps
/// its own, `programs` where the playground is.
///
/// # Errors
/// When a program is missing or fails.
pub fn run(results: &Path, programs: &Path) -> TestResult<Vec<Figure>> {
    let folder = Scratch::new()?;
    fill(&folder.0.join(VOLUME))?;
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let url = format!("http://127.0.0.1:{port}/");
    let _server = playground(&folder.0, programs, port)?;
    let criterion = fs::canonicalize(results)?.join("criterion");
    for (package, bench) in [("srb-proto", "ring"), ("srb-agent", "requests")] {
        println!("{package} ...");
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["bench", "--locked", "-q", "-p", package, "--bench", bench]);
        cargo.env("CRITERION_HOME", &criterion).env("SRB_BENCH_URL", &url);
        process::run(&mut cargo, BENCHES)?.success()?;
    }
    let mut figures = Vec::new();
    for name in RING {
        let nanos = estimate(&criterion, "ring", name)?;
        figures.push(Figure::new(format!("native_ring_{name}_ns"), nanos, "ns"));
    }
    for path in ["null", "http"] {
        for shape in jobs::ALL {
            let rate = 1e9 / estimate(&criterion, path, shape.name)?;
            figures.push(Figure::new(format!("native_{path}_{}_iops", shape.name), rate, "1/s"));
        }
    }
    println!("nbdkit ...");
    figures.extend(nbdkit(&folder.0, &format!("{url}{VOLUME}"))?);
    print!("{}", table(&figures));
    Ok(figures)
}

/// A folder that goes when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> TestResult<Self> {
        let folder = env::temp_dir().join(format!("srb-bench-{}", std::process::id()));
        fs::create_dir(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            println!("{} stays: {error}", self.0.display());
        }
    }
}

/// A volume without holes, in the page cache.
fn fill(path: &Path) -> TestResult {
    let (mut file, block) = (File::create(path)?, Random::from_seed(1).bytes(1 << 20));
    (0..SPAN_MIB).try_for_each(|_| file.write_all(&block))?;
    Ok(())
}

fn playground(data: &Path, programs: &Path, port: u16) -> TestResult<Daemon> {
    let mut command = Command::new(programs.join("srb-playground"));
    // One of the peers writes ranges that are longer than their bodies.
    command.arg("--lenient").arg("--datapath").arg(data).args(["--port", &port.to_string()]);
    let server = Daemon::start_in(data, "srb-playground", &mut command)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    wait_until("the playground listens", READY, || TcpStream::connect(address).is_ok())
        .map_err(|why| format!("{}: {}", why.message().unwrap_or_default(), server.log()))?;
    Ok(server)
}

/// What criterion takes for the typical time of one iteration, in nanoseconds.
fn estimate(criterion: &Path, group: &str, bench: &str) -> TestResult<f64> {
    let path = criterion.join(group).join(bench).join("new/estimates.json");
    let text = fs::read_to_string(&path).map_err(|why| format!("{}: {why}", path.display()))?;
    typical(&text).ok_or_else(|| format!("{}: no estimate", path.display()).into())
}

fn typical(estimates: &str) -> Option<f64> {
    let json: Value = serde_json::from_str(estimates).ok()?;
    json.pointer("/median/point_estimate")?.as_f64().filter(|nanos| *nanos > 0.0)
}

/// nbdkit with its curl plugin on the same server, asked by fio and copied by nbdcopy.
fn nbdkit(folder: &Path, url: &str) -> TestResult<Vec<Figure>> {
    let socket = folder.join("nbd.sock");
    let mut command = Command::new("nbdkit");
    command.args(["--foreground", "--unix"]).arg(&socket).args(["curl", url]);
    let server = Daemon::start_in(folder, "nbdkit", &mut command)?;
    wait_until("nbdkit listens", READY, || socket.exists())
        .map_err(|why| format!("{}: {}", why.message().unwrap_or_default(), server.log()))?;
    let uri = format!("nbd+unix:///?socket={}", socket.display());
    let rates = jobs::ALL.into_iter().map(|shape: Shape| {
        let name = format!("native_nbdkit_{}_iops", shape.name);
        Ok(Figure::new(name, shape.iops_over_nbd(&uri, TIMING)?, "1/s"))
    });
    let mut figures = rates.collect::<TestResult<Vec<_>>>()?;
    let begun = Instant::now();
    process::run(Command::new("nbdcopy").arg(&uri).arg("null:"), COPY)?.success()?;
    let rate = SPAN_MIB as f64 / begun.elapsed().as_secs_f64();
    figures.push(Figure::new("native_nbdcopy_mib_per_s", rate, "MiB/s"));
    Ok(figures)
}

/// Jobs by who did them, then the rest.
fn table(figures: &[Figure]) -> String {
    const WHO: [&str; 3] = ["null", "http", "nbdkit"];
    let value = |name: &str| figures.iter().find(|figure| figure.name == name);
    let mut text = format!("{:<20}{:>12}{:>12}{:>12}\n", "requests/s", WHO[0], WHO[1], WHO[2]);
    for shape in jobs::ALL {
        text.push_str(&format!("{:<20}", shape.name));
        for who in WHO {
            let rate = value(&format!("native_{who}_{}_iops", shape.name));
            text.push_str(&format!("{:>12}", rate.map_or("–".to_owned(), |f| number(f.value))));
        }
        text.push('\n');
    }
    for figure in figures.iter().filter(|figure| !figure.name.ends_with("_iops")) {
        let name = figure.name.trim_start_matches("native_");
        text.push_str(&format!("{name:<44}{:>12} {}\n", number(figure.value), figure.unit));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_read() {
        assert_eq!(typical(r#"{"median":{"point_estimate":1234.5}}"#), Some(1234.5));
        assert_eq!(typical(r#"{"median":{"point_estimate":0.0}}"#), None);
        assert_eq!(typical("nothing"), None);
    }

    #[test]
    fn a_table_has_all_figures_and_says_what_is_not_there() {
        let figures = [
            Figure::new("native_http_read_1m_qd8_iops", 321.0, "1/s"),
            Figure::new("native_ring_push_and_pop_ns", 4.5, "ns"),
        ];
        let text = table(&figures);
        let line = text.lines().find(|line| line.starts_with("read_1m_qd8"));
        let cells: Vec<&str> = line.unwrap().split_whitespace().collect();
        assert_eq!(cells, ["read_1m_qd8", "–", "321.0", "–"]);
        assert!(text.lines().any(|line| line.starts_with("ring_push_and_pop_ns")), "{text}");
    }
}
