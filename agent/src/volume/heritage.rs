// SPDX-License-Identifier: GPL-2.0-only
//! What the next agent must know if this one dies now: until when writes may still land that are
//! over. (Those that are under way it is given again by the module.)
//!
//! Before: [`super::unsettled`] tells when a write that is over begins to settle. After: the next
//! agent holds back all writes to each volume that it opens until then. Shared by all threads; a
//! file of one number, written at most ten times a second, and only when tries go wrong.
//!
//! The file holds milliseconds of `CLOCK_BOOTTIME`, 8 bytes, little endian, in a folder that does
//! not outlive the system. It is read for each volume that is opened, since an agent that takes
//! over starts while the former one still works.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::libc;
use nix::time::{clock_gettime, ClockId};
use tokio::time::Instant;

/// How far ahead is written, so that not every write in trouble writes here too.
const AHEAD: Duration = Duration::from_millis(100);

/// The number, and what is known of whose it is.
#[derive(Debug, Default)]
pub(crate) struct Heritage {
    file: Option<File>,
    known: Mutex<Known>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Of this agent.
    own: Option<Instant>,
    /// As it was last written here.
    written_ms: u64,
    /// Of those before it.
    inherited: Option<Instant>,
}

impl Heritage {
    /// Without a file, or with one that cannot be used, nothing is handed on.
    pub(crate) fn open(path: Option<&Path>) -> Self {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        options.mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = path.and_then(|path| {
            let failed = |error: &std::io::Error| {
                let path = path.display();
                tracing::warn!(%path, %error, "the next agent will not know what has not settled");
            };
            options.open(path).inspect_err(failed).ok()
        });
        Self { file, ..Self::default() }
    }

    /// As of an agent that died and knew this.
    #[cfg(test)]
    pub(crate) fn after(until: Option<Instant>) -> Self {
        let known = Known { inherited: until, ..Known::default() };
        Self { file: None, known: Mutex::new(known) }
    }

    /// Until when writes may still land that this agent or one before it knew of.
    #[cfg(test)]
    pub(crate) fn until(&self) -> Option<Instant> {
        let known = self.lock();
        known.own.max(known.inherited)
    }

    /// Until when writes of earlier agents may still land; no longer than `settle` from now.
    pub(super) fn inherited(&self, settle: Duration) -> Option<Instant> {
        let mut known = self.lock();
        self.look(&mut known);
        let now = Instant::now();
        let until = known.inherited.filter(|until| *until > now)?;
        Some(now.checked_add(settle).map_or(until, |most| until.min(most)))
    }

    /// A write may still land until then.
    pub(super) fn extend(&self, until: Instant) {
        let mut known = self.lock();
        if known.own >= Some(until) {
            return;
        }
        self.look(&mut known);
        let ahead = until.checked_add(AHEAD).unwrap_or(until);
        known.own = Some(ahead);
        let Some(file) = &self.file else { return };
        let latest = Some(ahead).max(known.inherited).unwrap_or(ahead);
        let left = latest.saturating_duration_since(Instant::now());
        let Some(until_ms) = boot_ms().and_then(|now| now.checked_add(millis(left))) else {
            return;
        };
        known.written_ms = until_ms;
        if let Err(error) = file.write_all_at(&until_ms.to_le_bytes(), 0) {
            tracing::warn!(%error, "the next agent will not know what has not settled");
        }
    }

    /// Takes note of what another agent has written.
    fn look(&self, known: &mut Known) {
        let Some(until_ms) = self.file.as_ref().and_then(read) else { return };
        if until_ms == known.written_ms {
            return;
        }
        let left = boot_ms().and_then(|now| until_ms.checked_sub(now));
        let until = left.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
        known.inherited = known.inherited.max(until);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(file: &File) -> Option<u64> {
    let mut bytes = [0; 8];
    // A new file is empty.
    file.read_exact_at(&mut bytes, 0).ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// The clock that all processes share and that goes on during suspend, as servers do.
fn boot_ms() -> Option<u64> {
    // Fails only where there is no such clock.
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
    Some(millis(Duration::from(now)))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Duration = Duration::from_secs(2);

    #[test]
    fn the_next_agent_knows_what_the_last_one_knew() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("settling");
        let (one, early) = (Heritage::open(Some(&path)), Heritage::open(Some(&path)));
        assert_eq!(one.inherited(SETTLE), None);
        let until = Instant::now() + Duration::from_millis(1500);
        one.extend(until);
        assert_eq!(one.inherited(SETTLE), None, "it is its own");
        for next in [early, Heritage::open(Some(&path))] {
            let inherited = next.inherited(SETTLE).expect("not settled");
            let error = inherited.duration_since(until);
            assert!(error <= AHEAD + Duration::from_millis(2), "{error:?}");
            let settle = Duration::from_millis(10);
            assert!(next.inherited(settle).expect("not settled") <= Instant::now() + settle);
        }
    }

    /// As the system tells it to everybody, in whole hundredths of a second.
    fn uptime() -> Duration {
        let text = std::fs::read_to_string("/proc/uptime").expect("readable");
        let secs = text.split(' ').next().and_then(|secs| secs.parse().ok());
        Duration::from_secs_f64(secs.expect("a number"))
    }

    #[test]
    fn the_file_holds_milliseconds_since_the_boot() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("settling");
        let earliest = uptime() + SETTLE;
        Heritage::open(Some(&path)).extend(Instant::now() + SETTLE);
        let latest = uptime() + SETTLE + AHEAD + Duration::from_millis(10);
        let bytes = std::fs::read(path).expect("readable").try_into().expect("8 bytes");
        let written = Duration::from_millis(u64::from_le_bytes(bytes));
        assert!((earliest..=latest).contains(&written), "{written:?} of {earliest:?}, {latest:?}");
    }

    #[test]
    fn what_an_agent_adds_does_not_hide_what_it_inherited() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("settling");
        let start = Instant::now();
        Heritage::open(Some(&path)).extend(start + SETTLE);
        let two = Heritage::open(Some(&path));
        two.extend(start + Duration::from_millis(100));
        assert!(two.inherited(SETTLE).expect("not settled") > start + SETTLE / 2);
        let three = Heritage::open(Some(&path));
        assert!(three.inherited(SETTLE).expect("not settled") > start + SETTLE / 2);
    }

    #[test]
    fn without_a_usable_file_nothing_is_handed_on() {
        for path in [None, Some(Path::new("/nonexistent/settling"))] {
            let heritage = Heritage::open(path);
            heritage.extend(Instant::now() + SETTLE);
            assert_eq!(heritage.inherited(SETTLE), None);
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("settling");
        std::fs::write(&path, b"odd").expect("written");
        assert_eq!(Heritage::open(Some(&path)).inherited(SETTLE), None);
    }
}
