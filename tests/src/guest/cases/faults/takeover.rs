// SPDX-License-Identifier: GPL-2.0-only
//! A new agent takes the place of the running one, again and again: no request fails, and the pause
//! is short.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::load::{wait_until_busy, Counts, Load, ALL_SIZES};
use super::{millis, Campaign, Figures, Plan};
use crate::guest::cases::io::disk::Disk;
use crate::guest::cases::io::{join, leave};
use crate::guest::udev::settle;
use crate::guest::wait::wait_for;
use crate::guest::{Machine, TestResult};

/// How long an agent may take to end when another one has taken over.
const END: Duration = Duration::from_secs(20);
/// The longest that load goes on between two hand-overs, in milliseconds.
const LIFE_MS: u64 = 500;

/// Its size is the number of hand-overs.
pub(super) const CAMPAIGN: Campaign = Campaign {
    name: "takeover",
    run,
    short: 3,
    full: 50,
    bound: Duration::from_secs(1800),
    memory_mib: 2048,
    fails_requests: false,
    allowed: &[],
};

fn run(plan: &Plan, figures: &mut Figures) -> TestResult {
    let mut random = plan.random();
    let mut machine = Machine::builder().start()?;
    machine.create("vol1", "64M")?;
    machine.create("vol2", "16M")?;
    let loaded = machine.attach("vol1", "disk1")?;
    let read = machine.attach("vol2", "disk2")?;
    settle()?;
    let counts = Arc::new(Counts::default());
    let load = Load::direct(loaded.path(), ALL_SIZES, &counts);
    let stop = Arc::new(AtomicBool::new(false));
    let (told, path) = (Arc::clone(&stop), read.path());
    // One read after another: the longest is the longest pause.
    let reader = thread::spawn(move || {
        let (disk, mut worst) = (Disk::open(&path)?, Duration::ZERO);
        // ORDERING: a flag that guards nothing.
        while !told.load(Ordering::Relaxed) {
            let began = Instant::now();
            disk.read(0, 4096)?;
            worst = worst.max(began.elapsed());
        }
        Ok(worst)
    });
    let (mut count, mut longest) = (0u64, Duration::ZERO);
    let outcome = (0..plan.size).try_for_each(|_| {
        wait_until_busy(&[&loaded], &[&load])?;
        thread::sleep(random.pause(0, LIFE_MS));
        let began = Instant::now();
        let mut old = machine.take_over()?;
        let status = wait_for("the old agent ends", END, || old.ended())?;
        if !status.success() {
            return Err(format!("the old agent ended with {status}: {}", old.log()).into());
        }
        longest = longest.max(began.elapsed());
        count += 1;
        Ok(())
    });
    let ended = load.finish();
    // ORDERING: as above.
    stop.store(true, Ordering::Relaxed);
    let pause = join(reader);
    figures.set("count", count);
    figures.set("worst_takeover_ms", millis(longest));
    figures.set_counts(&counts);
    outcome.and(ended)?;
    figures.set("worst_pause_ms", millis(pause?));
    leave(loaded)?;
    leave(read)
}
