// SPDX-License-Identifier: GPL-2.0-only
//! What a request costs through a whole agent, the module simulated on threads of this process: on
//! `null:`, and over HTTP.
//!
//! `cargo bench -p srb-agent --bench requests`. `SRB_BENCH_URL` is the server's repository, which
//! has a volume `bench` of 256 MiB; without it, a playground in this process is one.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use srb_agent::sim::{wait, Request, RunningAgent, SimModule};
use srb_playground::{Config, Playground};
use srb_proto::descriptor::Op;

const VOLUME: &str = "bench";
const VOLUME_BYTES: u64 = 256 << 20;
const SECTOR_BYTES: u64 = 512;

/// One way to use a device; named as in `make bench`.
struct Job {
    name: &'static str,
    op: Op,
    bytes: u32,
    depth: u64,
}

const fn job(name: &'static str, op: Op, bytes: u32, depth: u64) -> Job {
    Job { name, op, bytes, depth }
}

const JOBS: [Job; 6] = [
    job("randread_4k_qd1", Op::Read, 4 << 10, 1),
    job("randwrite_4k_qd1", Op::Write, 4 << 10, 1),
    job("randread_4k_qd32", Op::Read, 4 << 10, 32),
    job("randwrite_4k_qd32", Op::Write, 4 << 10, 32),
    job("read_1m_qd8", Op::Read, 1 << 20, 8),
    job("write_1m_qd8", Op::Write, 1 << 20, 8),
];

impl Job {
    /// How long so many requests take.
    fn run(&self, module: &SimModule, disk: u32, count: u64) -> Duration {
        let (replies, answers) = mpsc::channel();
        let blocks = VOLUME_BYTES / u64::from(self.bytes);
        // Prime and larger than the number of blocks: each comes once before one comes again.
        let place = |number: u64| number.wrapping_mul(2_147_483_647) % blocks;
        let submit = |numbers: std::ops::Range<u64>| {
            module.submit(
                disk,
                0,
                numbers.map(|number| {
                    let sector = place(number) * u64::from(self.bytes) / SECTOR_BYTES;
                    Request::new(self.op, sector, self.bytes, &replies)
                }),
            );
        };
        let (mut sent, mut done) = (self.depth.min(count), 0);
        let begun = Instant::now();
        submit(0..sent);
        while done < count {
            assert_eq!(wait(&answers).status, 0);
            let more = answers.try_iter().inspect(|reply| assert_eq!(reply.status, 0)).count();
            done += 1 + more as u64;
            let next = (done + self.depth).min(count);
            submit(sent..next);
            sent = next;
        }
        begun.elapsed()
    }
}

/// All jobs with one repository.
fn through(criterion: &mut Criterion, name: &str, url: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let module = SimModule::new(1);
    module.configure(|parameters| parameters.urls = vec![url.to_owned()]);
    let agent = RunningAgent::start(&module, RunningAgent::config(folder.path()));
    let disk = module.attach("disk1", VOLUME, VOLUME_BYTES).expect("attached");
    let mut group = criterion.benchmark_group(name);
    group.sample_size(20);
    for job in &JOBS {
        group.throughput(Throughput::Bytes(job.bytes.into()));
        group.bench_function(job.name, |bencher| {
            bencher.iter_custom(|count| job.run(&module, disk, count));
        });
    }
    group.finish();
    agent.stop().expect("stopped");
}

fn null(criterion: &mut Criterion) {
    through(criterion, "null", "null:256M");
}

fn http(criterion: &mut Criterion) {
    if let Ok(url) = std::env::var("SRB_BENCH_URL") {
        return through(criterion, "http", &url);
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join(VOLUME), vec![1; VOLUME_BYTES as usize]).expect("a volume");
    let playground = Playground::start(Config::ephemeral(folder.path())).expect("a playground");
    through(criterion, "http", playground.url());
    playground.shutdown();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    null(&mut criterion);
    http(&mut criterion);
    criterion.final_summary();
}
