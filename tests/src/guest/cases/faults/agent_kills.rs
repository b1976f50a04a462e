// SPDX-License-Identifier: GPL-2.0-only
//! The agent is killed at random moments and started again: users see a pause, and no error.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::load::{Counts, Load, ALL_SIZES};
use super::{millis, Campaign, Figures, Plan};
use crate::guest::cases::io::{completed, in_flight, leave};
use crate::guest::wait::wait_for;
use crate::guest::{Device, Machine, TestResult};

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

/// Waits until requests are under way at one of the devices.
pub(super) fn wait_for_load(devices: &[&Device], loads: &[&Load]) -> TestResult {
    wait_for("requests are under way", RESUME, || {
        if !loads.iter().any(|load| load.is_going()) {
            return Err("all load has ended".into());
        }
        for device in devices {
            if in_flight(device)? > 0 {
                return Ok(Some(()));
            }
        }
        Ok(None)
    })
}

/// Requests that these devices have completed.
pub(super) fn completed_by(devices: &[&Device]) -> TestResult<u64> {
    devices.iter().try_fold(0, |sum, device| Ok(completed(device)?.saturating_add(sum)))
}

fn run(plan: &Plan, figures: &mut Figures) -> TestResult {
    let mut random = plan.random();
    let mut machine = Machine::builder().start()?;
    machine.create("vol1", "64M")?;
    machine.create("vol2", "128M")?;
    let raw = machine.attach("vol1", "disk1")?;
    let with_files = machine.attach("vol2", "disk2")?;
    machine.sh("mkfs.ext4 -q /dev/disk2")?;
    let mount = with_files.mount()?;
    let counts = Arc::new(Counts::default());
    let loads = [
        Load::direct(raw.path(), ALL_SIZES, &counts),
        Load::files(mount.path(), random.clone(), &counts),
    ];
    let devices = [&raw, &with_files];
    let (mut count, mut worst) = (0u64, Duration::ZERO);
    let outcome = (0..plan.size).try_for_each(|_| {
        wait_for_load(&devices, &loads.each_ref())?;
        thread::sleep(random.pause(0, LIFE_MS));
        machine.kill_agent()?;
        let before = completed_by(&devices)?;
        let began = Instant::now();
        machine.start_agent()?;
        wait_for("requests are done again", RESUME, || {
            Ok((completed_by(&devices)? > before).then_some(()))
        })?;
        worst = worst.max(began.elapsed());
        count += 1;
        Ok(())
    });
    let ended = loads.into_iter().try_for_each(Load::finish);
    figures.set("count", count);
    figures.set("worst_resume_ms", millis(worst));
    figures.set_counts(&counts);
    outcome.and(ended)?;
    mount.unmount()?;
    machine.sh("e2fsck -fn /dev/disk2")?;
    leave(raw)?;
    leave(with_files)
}
