// SPDX-License-Identifier: GPL-2.0-only
//! udev, as far as tests have to do with it.
//!
//! Nothing here rests on udevd's control socket alone, which loses a word now and then: one that
//! comes after udevd has accepted the connection, but before it has asked for the sender's
//! credentials, comes with nobody's (strace shows uid 65534), and udevd hangs up. `udevadm control`
//! and `udevadm settle` succeed all the same if they have sent their second word by then (with udev
//! 257 on a busy host, 3 of 261 `udevadm control --start-exec-queue`, after which udevd handled no
//! event any more).

use std::time::Duration;

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use super::process;
use super::wait::{patiently, wait_for};
use super::TestResult;

/// How long udev may take for what a test gives it to do.
const SETTLE: Duration = Duration::from_secs(30);
/// How long udevadm may take longer than it was told to wait.
const SPARE: Duration = Duration::from_secs(5);

/// Waits until udev has nothing to do.
///
/// # Errors
/// When it still has after 30 s.
pub fn settle() -> TestResult {
    settle_within(SETTLE)
}

/// As [`settle`], at most for `bound`.
///
/// # Errors
/// When the bound is over.
pub fn settle_within(bound: Duration) -> TestResult {
    // Events are handled in the order in which udevd reads them: with one of our own behind it,
    // all that came before has been read, and is either done or seen by `settle`.
    let seconds = patiently(bound).as_secs();
    let line = format!(
        "udevadm trigger --settle --action=change /sys/class/mem/null && \
         udevadm settle --timeout={seconds}"
    );
    wait_for("udev has settled", bound, || {
        let output = process::sh(&line, bound + SPARE)?;
        let hung_up = output.stderr.contains("Failed to wait for daemon to reply");
        if hung_up && !output.status.success() {
            return Ok(None);
        }
        output.success().map(Some)
    })
    .map(drop)
}

/// Makes udev read its rules again.
///
/// # Errors
/// When there is no udevd, or it does not come to it in time.
pub fn reload() -> TestResult {
    kill(udevd()?, Signal::SIGHUP)?;
    // Signals wait in the same loop as events.
    settle()
}

/// udev, which handles no event until this is dropped.
#[derive(Debug)]
pub struct Held(Pid);

impl Held {
    /// Stops udevd; what a worker of it does already is waited for.
    ///
    /// # Errors
    /// When udev is busy for too long, or does not stop.
    pub fn new() -> TestResult<Self> {
        settle()?;
        // Made first, so that it goes on whatever happens next.
        let held = Self(udevd()?);
        process::stop(held.0)?;
        Ok(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Err(errno) = kill(self.0, Signal::SIGCONT) {
            println!("udevd goes on holding events: {errno}");
        }
    }
}

/// The process that gets the kernel's events; its workers have another name.
fn udevd() -> TestResult<Pid> {
    let tasks = process::tasks();
    let udevd = tasks.iter().find(|task| task.name == "systemd-udevd");
    Ok(Pid::from_raw(udevd.ok_or("udevd does not run")?.pid))
}
