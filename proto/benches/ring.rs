// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What an entry of the ring costs: alone, and there and back between two threads that never sleep.
//!
//! `cargo bench -p srb-proto --bench ring`.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use srb_proto::descriptor::{COMPLETION_WORDS, SUBMISSION_WORDS};
use srb_proto::layout::DATA;
use srb_proto::ring::{Consumer, Producer, Shared};

/// A ring's memory.
struct Memory {
    tail: AtomicU64,
    entries: Vec<AtomicU64>,
}

impl Memory {
    fn new(words: usize) -> Self {
        let entries = (0..words).map(|_| AtomicU64::new(0)).collect();
        Self { tail: AtomicU64::new(0), entries }
    }

    fn ring<const N: usize>(&self) -> Shared<'_, AtomicU64, N> {
        Shared::new(&self.tail, &self.entries).expect("a power of two of entries")
    }
}

fn push_and_pop(criterion: &mut Criterion) {
    let memory = Memory::new(DATA.submission_words());
    let ring = memory.ring::<SUBMISSION_WORDS>();
    let (mut producer, mut consumer) = (Producer::new(), Consumer::new());
    let mut group = criterion.benchmark_group("ring");
    group.throughput(Throughput::Elements(1)).bench_function("push_and_pop", |bencher| {
        bencher.iter(|| {
            producer.push(&ring, black_box(&[1; SUBMISSION_WORDS]));
            producer.publish(&ring);
            consumer.pop(&ring)
        });
    });
}

/// How long so many entries take to the other thread and back, so many at a time.
fn there_and_back(count: u64, depth: u64) -> Duration {
    let submissions = Memory::new(DATA.submission_words());
    let completions = Memory::new(DATA.completion_words());
    let (there, back) = (submissions.ring(), completions.ring());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut taken, mut answers) = (Consumer::new(), Producer::new());
            // ORDERING: a flag that guards nothing.
            while !done.load(Ordering::Relaxed) {
                while let Some(entry) = taken.pop(&there).expect("no overrun") {
                    let [tag, ..]: [u64; SUBMISSION_WORDS] = entry;
                    answers.push(&back, &[tag; COMPLETION_WORDS]);
                }
                answers.publish(&back);
                spin_loop();
            }
        });
        let (mut sent, mut answers) = (Producer::new(), Consumer::new());
        let (mut under_way, mut left) = (0, count);
        let begun = Instant::now();
        while left > 0 || under_way > 0 {
            while under_way < depth && left > 0 {
                sent.push(&there, &[left; SUBMISSION_WORDS]);
                (under_way, left) = (under_way + 1, left - 1);
            }
            sent.publish(&there);
            while answers.pop(&back).expect("no overrun").is_some() {
                under_way -= 1;
            }
            spin_loop();
        }
        let took = begun.elapsed();
        // ORDERING: as above.
        done.store(true, Ordering::Relaxed);
        took
    })
}

fn two_threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring");
    for depth in [1, 32] {
        let name = format!("there_and_back_qd{depth}");
        group.throughput(Throughput::Elements(1)).bench_function(name, |bencher| {
            bencher.iter_custom(|count| there_and_back(count, depth));
        });
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    push_and_pop(&mut criterion);
    two_threads(&mut criterion);
    criterion.final_summary();
}
