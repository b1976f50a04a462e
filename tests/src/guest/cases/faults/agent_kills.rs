// SPDX-License-Identifier: GPL-2.0-only
//! The agent is killed at random moments and started again: users see a pause, and no error.

use std::thread;
use std::time::{Duration, Instant};

use super::load::ALL_SIZES;
use super::loaded::Loaded;
use super::{millis, Campaign, Figures, Plan};
use crate::guest::{Machine, TestResult};

/// How long requests may take to come back after a new agent's start.
const RESUME: Duration = Duration::from_secs(30);
/// The longest that load goes on between two kills, in milliseconds.
const LIFE_MS: u64 = 700;

/// Its size is the number of kills.
pub(super) const CAMPAIGN: Campaign = Campaign {
    name: "agent_kills",
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
    let mut machine = Machine::builder().start()?;
    let loaded = Loaded::start(&machine, ALL_SIZES, random.clone())?;
    let (mut count, mut worst) = (0u64, Duration::ZERO);
    let outcome = (0..plan.size).try_for_each(|_| {
        loaded.wait_until_busy()?;
        thread::sleep(random.pause(0, LIFE_MS));
        machine.kill_agent()?;
        let (before, began) = (loaded.completed()?, Instant::now());
        machine.start_agent()?;
        loaded.wait_until_more_than(before, RESUME)?;
        worst = worst.max(began.elapsed());
        count += 1;
        Ok(())
    });
    figures.set("count", count);
    figures.set("worst_resume_ms", millis(worst));
    loaded.finish(&machine, figures, outcome)
}
