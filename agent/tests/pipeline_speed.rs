// SPDX-License-Identifier: GPL-2.0-only
//! How fast a pipeline is, on one thread against a playground in the same process.
//!
//! Not a check: `cargo test --release -p srb-agent --test pipeline_speed -- --ignored --nocapture`.

mod rest_support;

use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use rest_support::*;
use srb_agent::pipeline::Pipeline;
use srb_agent::settings::Settings;
use srb_agent::window::Window;
use srb_playground::{Config, Playground};

const VOLUME: usize = 64 << 20;

#[derive(Clone, Copy)]
struct Run {
    what: &'static str,
    write: bool,
    len: usize,
    in_flight: usize,
}

/// What this thread has spent on a processor, in nanoseconds.
fn cpu_ns() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(f64::NAN)
}

/// Requests per second, and microseconds of this thread for each.
async fn measure(url: &str, run: Run, time: Duration) -> (f64, f64) {
    let mut limits = Settings { thread_pool_size: 256, ..settings(&[url]) };
    limits.req_timeout = Duration::from_secs(10);
    let repository = unprobed(limits);
    let pipeline = Pipeline::new(repository.clone());
    let volume = repository.volume("v");
    let (pipeline, volume) = (&pipeline, &volume);
    let one = |window: Window, number: usize| async move {
        let offset = (number.wrapping_mul(7919) * run.len % (VOLUME - run.len)) as u64 & !511;
        let done = match run.write {
            true => pipeline.write(volume, offset, &window, run.len, false).await,
            false => pipeline.read(volume, offset, &window, run.len).await,
        };
        done.expect("done");
        window
    };
    let mut flying = FuturesUnordered::new();
    for number in 0..run.in_flight {
        flying.push(one(Window::from_vec(vec![0; run.len]), number));
    }
    let (start, cpu, mut done) = (Instant::now(), cpu_ns(), 0);
    while let Some(window) = flying.next().await {
        done += 1;
        if start.elapsed() >= time {
            break;
        }
        flying.push(one(window, done + run.in_flight));
    }
    let requests = f64::from(u32::try_from(done).expect("few"));
    (requests / start.elapsed().as_secs_f64(), (cpu_ns() - cpu) / requests / 1e3)
}

#[tokio::test]
#[ignore = "takes ten seconds and proves nothing"]
async fn requests_per_second() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("v"), vec![1; VOLUME]).expect("a volume");
    let playground = Playground::start(Config::ephemeral(folder.path())).expect("a playground");
    let run = |what, write, len, in_flight| Run { what, write, len, in_flight };
    for run in [
        run("4 KiB reads, 1 in flight", false, 4 << 10, 1),
        run("4 KiB reads, 32 in flight", false, 4 << 10, 32),
        run("4 KiB writes, 1 in flight", true, 4 << 10, 1),
        run("4 KiB writes, 32 in flight", true, 4 << 10, 32),
        run("1 MiB reads, 8 in flight", false, 1 << 20, 8),
        run("1 MiB writes, 8 in flight", true, 1 << 20, 8),
    ] {
        let (rate, cpu) = local(measure(playground.url(), run, Duration::from_millis(1500))).await;
        let rate_mb = rate * run.len as f64 / 1e6;
        println!("{}: {rate:.0}/s, {rate_mb:.0} MB/s, {cpu:.1} us of this thread", run.what);
    }
    let (null, cpu) =
        local(measure("null:", run("", false, 4 << 10, 32), Duration::from_secs(1))).await;
    println!("null: {null:.0}/s, {cpu:.2} us");
}
