// SPDX-License-Identifier: GPL-2.0-only
//! Two devices under verified load: direct writes on the one, files on ext4 on the other.

use std::sync::Arc;
use std::time::Duration;

use super::load::{self, Counts, Load};
use super::Figures;
use crate::guest::cases::io::{completed, leave};
use crate::guest::random::Random;
use crate::guest::wait::wait_for;
use crate::guest::{Device, Machine, Mount, TestResult};

/// See the module's documentation; the load goes on until [`Self::finish`].
pub(super) struct Loaded {
    direct: (Device, Load),
    files: (Device, Mount, Load),
    counts: Arc<Counts>,
}

impl Loaded {
    /// Creates and attaches two volumes and starts the load; `sizes` are those of direct writes,
    /// as fio's `bssplit`.
    pub(super) fn start(
        machine: &Machine,
        sizes: &'static str,
        random: Random,
    ) -> TestResult<Self> {
        machine.create("vol1", "64M")?;
        machine.create("vol2", "128M")?;
        let direct = machine.attach("vol1", "disk1")?;
        let files = machine.attach("vol2", "disk2")?;
        machine.sh("mkfs.ext4 -q /dev/disk2")?;
        let mount = files.mount()?;
        let counts = Arc::new(Counts::default());
        let writes = Load::direct(direct.path(), sizes, &counts);
        let passes = Load::files(mount.path(), random, &counts);
        Ok(Self { direct: (direct, writes), files: (files, mount, passes), counts })
    }

    /// Whether both kinds of load go on: nothing has gone wrong yet.
    pub(super) fn goes_on(&self) -> bool {
        self.direct.1.is_going() && self.files.2.is_going()
    }

    /// Waits until requests are under way, so that a fault hits some.
    pub(super) fn wait_until_busy(&self) -> TestResult {
        let (raw, files) = (&self.direct, &self.files);
        load::wait_until_busy(&[&raw.0, &files.0], &[&raw.1, &files.2])
    }

    /// Requests that both devices have completed.
    pub(super) fn completed(&self) -> TestResult<u64> {
        Ok(completed(&self.direct.0)?.saturating_add(completed(&self.files.0)?))
    }

    /// Waits until more requests than these are completed.
    pub(super) fn wait_until_more_than(&self, before: u64, bound: Duration) -> TestResult {
        wait_for("requests go on", bound, || Ok((self.completed()? > before).then_some(())))
    }

    /// Ends the load and says what it saw; then, unless something went wrong before or there, takes
    /// the devices away again, with their filesystem clean.
    pub(super) fn finish(
        self,
        machine: &Machine,
        figures: &mut Figures,
        outcome: TestResult,
    ) -> TestResult {
        let ((raw, writes), (device, mount, passes)) = (self.direct, self.files);
        let ended = [writes, passes].into_iter().try_for_each(Load::finish);
        figures.set_counts(&self.counts);
        outcome.and(ended)?;
        mount.unmount()?;
        machine.sh("e2fsck -fn /dev/disk2")?;
        leave(raw)?;
        leave(device)
    }
}
