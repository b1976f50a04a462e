// SPDX-License-Identifier: GPL-2.0-only
//! Two servers are ways to one repository; one or the other is killed and comes back, never both at
//! once: users see no error.

use std::thread;
use std::time::{Duration, Instant};

use super::load::ALL_SIZES;
use super::loaded::Loaded;
use super::{millis, Campaign, Figures, Plan};
use crate::guest::{Machine, TestResult};

/// How long requests may take to go on with the other server.
const RESUME: Duration = Duration::from_secs(60);
/// The longest that a server is gone, and that both are there, in milliseconds.
const PAUSE_MS: u64 = 500;

/// Its size is the number of kills.
pub(super) const CAMPAIGN: Campaign = Campaign {
    name: "server_kills",
    run,
    short: 4,
    full: 100,
    bound: Duration::from_secs(1800),
    memory_mib: 2048,
    fails_requests: false,
    allowed: &[],
};

fn run(plan: &Plan, figures: &mut Figures) -> TestResult {
    let mut random = plan.random();
    let mut machine = Machine::builder().playgrounds(2).start()?;
    let loaded = Loaded::start(&machine, ALL_SIZES, random.clone())?;
    let (mut count, mut worst) = (0u64, Duration::ZERO);
    let outcome = (0..plan.size).try_for_each(|_| {
        loaded.wait_until_busy()?;
        thread::sleep(random.pause(0, PAUSE_MS));
        let one = random.below(2) as usize;
        machine.playground(one)?.kill()?;
        let (before, began) = (loaded.completed()?, Instant::now());
        loaded.wait_until_more_than(before, RESUME)?;
        worst = worst.max(began.elapsed());
        thread::sleep(random.pause(0, PAUSE_MS));
        machine.playground(one)?.start()?;
        count += 1;
        Ok(())
    });
    figures.set("count", count);
    figures.set("worst_resume_ms", millis(worst));
    loaded.finish(&machine, figures, outcome)
}
