// SPDX-License-Identifier: GPL-2.0-only
//! Two servers are ways to one repository; one or the other is killed and comes back, never both at
//! once: users see no error.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::agent_kills::{completed_by, wait_for_load};
use super::load::{Counts, Load, ALL_SIZES};
use super::{millis, Campaign, Figures, Plan};
use crate::guest::cases::io::leave;
use crate::guest::wait::wait_for;
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
    let outcome =
        (0..plan.size).try_for_each(|_| {
            wait_for_load(&devices, &loads.each_ref())?;
            thread::sleep(random.pause(0, PAUSE_MS));
            let one = random.below(2) as usize;
            machine.playground(one)?.kill()?;
            let (before, began) = (completed_by(&devices)?, Instant::now());
            wait_for("requests go on", RESUME, || {
                Ok((completed_by(&devices)? > before).then_some(()))
            })?;
            worst = worst.max(began.elapsed());
            thread::sleep(random.pause(0, PAUSE_MS));
            machine.playground(one)?.start()?;
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
