// SPDX-License-Identifier: GPL-2.0-only
//! What a machine's processors did meanwhile: whether a figure was taken beside other load.
//!
//! Seen from a guest, its host's other programs are nothing but slowness: QEMU that translates
//! tells the guest of no stolen time. So the host says, around the whole of a VM's run, how much
//! others than that VM had.

use std::fs;
use std::io;
use std::time::Duration;

use nix::sys::resource::{getrusage, UsageWho};
use nix::unistd::{sysconf, SysconfVar};

/// Of `/proc/stat`, since the machine's start, added up over its processors, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processors {
    all: u64,
    idle: u64,
    stolen: u64,
}

impl Processors {
    /// As they are now.
    ///
    /// # Errors
    /// When `/proc/stat` cannot be read, or is no such file.
    pub fn now() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/stat")?;
        Self::parse(&text).ok_or_else(|| io::Error::other("/proc/stat has no line of processors"))
    }

    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        // user, nice, system, idle, iowait, irq, softirq, steal; guests' time is in user.
        let ticks: Vec<u64> =
            line.split_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
        let &[.., idle, waiting, _, _, stolen] = ticks.as_slice() else { return None };
        Some(Self { all: ticks.iter().sum(), idle: idle.saturating_add(waiting), stolen })
    }
}

fn percent(part: u64, whole: u64) -> u64 {
    part.saturating_mul(100).saturating_add(whole / 2).checked_div(whole).unwrap_or(0)
}

/// The host's processors around what this process has others do.
#[derive(Debug)]
pub struct Around {
    processors: Processors,
    /// What this process and those that it has waited for had of them.
    ours: Duration,
}

/// What else there was, in percent of the time of all processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beside {
    /// Other processes than this one and its children had it.
    pub others: u64,
    /// They were not there: the machine is itself a guest, whose host had other things to do.
    pub stolen: u64,
}

impl Around {
    /// Begins.
    ///
    /// # Errors
    /// Those of [`Processors::now`].
    pub fn begin() -> io::Result<Self> {
        Ok(Self { processors: Processors::now()?, ours: ours()? })
    }

    /// Ends, once the children have been waited for.
    ///
    /// # Errors
    /// Those of [`Processors::now`].
    pub fn end(&self) -> io::Result<Beside> {
        let (now, ours) = (Processors::now()?, ours()?.saturating_sub(self.ours));
        let ticks = sysconf(SysconfVar::CLK_TCK)?.and_then(|ticks| u64::try_from(ticks).ok());
        let ours = u64::try_from(ours.as_millis()).unwrap_or(u64::MAX);
        let ours = ours.saturating_mul(ticks.unwrap_or(100)) / 1000;
        Ok(beside(&self.processors, &now, ours))
    }
}

fn beside(then: &Processors, now: &Processors, ours: u64) -> Beside {
    let all = now.all.saturating_sub(then.all);
    let unused = now.idle.saturating_sub(then.idle);
    let stolen = now.stolen.saturating_sub(then.stolen);
    let others = all.saturating_sub(unused).saturating_sub(stolen).saturating_sub(ours);
    Beside { others: percent(others, all), stolen: percent(stolen, all) }
}

fn ours() -> io::Result<Duration> {
    let of = |who| -> io::Result<Duration> {
        let usage = getrusage(who)?;
        let times = [usage.user_time(), usage.system_time()];
        Ok(times
            .iter()
            .map(|time| {
                let micros = u64::try_from(time.tv_usec()).unwrap_or(0);
                Duration::from_secs(u64::try_from(time.tv_sec()).unwrap_or(0))
                    .saturating_add(Duration::from_micros(micros))
            })
            .sum())
    };
    Ok(of(UsageWho::RUSAGE_SELF)?.saturating_add(of(UsageWho::RUSAGE_CHILDREN)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: &str = "cpu  10 0 10 60 10 0 0 10 5 0\ncpu0 1 2 3\n";
    const NOW: &str = "cpu  50 10 20 110 20 5 5 80 5 0\n";

    #[test]
    fn stolen_time_and_our_own_are_not_others() {
        let then = Processors::parse(THEN).unwrap();
        let now = Processors::parse(NOW).unwrap();
        assert_eq!(beside(&then, &now, 0), Beside { others: 35, stolen: 35 });
        assert_eq!(beside(&then, &now, 40), Beside { others: 15, stolen: 35 });
        assert_eq!(beside(&then, &now, 400), Beside { others: 0, stolen: 35 });
        assert_eq!(Processors::parse("cpu  1 2 3\n"), None);
        assert_eq!(Processors::parse("intr 1\n"), None);
    }

    #[test]
    fn what_this_process_does_is_not_others() {
        let around = Around::begin().unwrap();
        let before = ours().unwrap();
        while ours().unwrap().saturating_sub(before) < Duration::from_millis(50) {}
        assert!(around.end().unwrap().others <= 100);
        assert!(Processors::now().unwrap().all > 0);
    }
}
