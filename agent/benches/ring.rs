// SPDX-License-Identifier: GPL-2.0-only
//! Requests a second through one worker with a null repository: the agent's own cost of a request.
//!
//! `cargo bench -p srb-agent --bench ring`. The module is simulated on threads of this process, so
//! a second core is needed, and its part of the work is in the figures of depth 1.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use srb_agent::sim::{wait, Request, RunningAgent, SimModule};
use srb_proto::descriptor::Op;

const RUN: Duration = Duration::from_secs(2);

fn measure(module: &SimModule, disk: u32, op: Op, len: u32, depth: u64) {
    let (replies, answers) = mpsc::channel();
    let request = || Request::new(op, 0, len, &replies);
    module.submit(disk, 0, (0..depth).map(|_| request()));
    let (begun, cpu) = (Instant::now(), cpu_time());
    let mut done = 0u64;
    while begun.elapsed() < RUN {
        assert_eq!(wait(&answers).status, 0);
        let more = answers.try_iter().inspect(|reply| assert_eq!(reply.status, 0)).count() as u64;
        done += more + 1;
        module.submit(disk, 0, (0..=more).map(|_| request()));
    }
    let secs = begun.elapsed().as_secs_f64();
    let nanos = (cpu_time() - cpu).as_secs_f64() * 1e9 / done as f64;
    for _ in 0..depth {
        assert_eq!(wait(&answers).status, 0);
    }
    let rate = done as f64 / secs;
    println!("{op:?} {len:>7} B, depth {depth:>3}: {rate:>9.0}/s, worker {nanos:>6.0} ns each");
}

/// CPU time of the worker's thread.
fn cpu_time() -> Duration {
    let mut ticks = Duration::ZERO;
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if name.starts_with("srb-worker") {
            let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0);
            ticks += Duration::from_nanos(nanos);
        }
    }
    ticks
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let module = SimModule::new(1);
    module.configure(|parameters| parameters.urls = vec!["null:".into()]);
    let agent = RunningAgent::start(&module, RunningAgent::config(folder.path()));
    let disk = module.attach("disk1", "v", 1 << 40)?;
    for depth in [1, 32, 128] {
        for (op, len) in [(Op::Read, 4096), (Op::Write, 4096), (Op::Read, 1 << 20)] {
            measure(&module, disk, op, len, depth);
        }
    }
    agent.stop()?;
    Ok(())
}
