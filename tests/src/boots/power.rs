// SPDX-License-Identifier: GPL-2.0-only
//! How machines stop to which something has happened, and what is on their volumes afterwards.

use std::process::Command;
use std::time::Duration;

use super::{off_after, steps, Boot, Outcome, Site, STOPS};

/// Volumes, and what says whether the file system on one is clean, which it reads only.
const CHECKS: [(&str, &[&str]); 2] =
    [("vol1", &["e2fsck", "-fn"]), ("vol2", &["xfs_repair", "-n"])];
/// What these print of a journal that is to be replayed, whatever else they find.
const DIRTY: [&str; 2] = ["skipping journal recovery", "ALERT:"];

/// What happens just before the machine stops.
pub(super) struct Kind {
    step: &'static str,
    /// Whether all that was written can get to the server.
    clean: bool,
    /// Whether its disk is as it was, so that the machine can start again.
    whole: bool,
}

pub(super) const WELL: Kind = Kind { step: "well", clean: true, whole: true };
pub(super) const NO_SERVER: Kind = Kind { step: "server", clean: false, whole: true };
pub(super) const STUCK: Kind = Kind { step: "stuck", clean: false, whole: true };
pub(super) const KILLED: Kind = Kind { step: "agent", clean: true, whole: true };
/// The agents, and none comes back.
pub(super) const NO_AGENT: Kind = Kind { step: "no-agent", clean: false, whole: false };

impl Site<'_> {
    /// Stops machines in one way, as often as there are rounds; the worst time.
    pub(super) fn stops(&self, name: &str, kind: &Kind) -> Outcome {
        let mut times = Vec::new();
        for round in 0..self.run.rounds {
            let stopped = self.stop_once(name, kind, round);
            let secs = stopped.map_err(|error| format!("round {round}: {error}"))?.as_secs_f64();
            println!("{name}, round {round}: off after {secs:.1} s");
            times.push(secs);
        }
        let worst = times.iter().copied().fold(0.0, f64::max);
        Ok(format!("off after {worst:.1} s at worst, {} times", times.len()))
    }

    /// Every other time it is a reboot. The first time the machine starts once more.
    fn stop_once(&self, name: &str, kind: &Kind, round: u32) -> Result<Duration, String> {
        let pulled_out = Duration::from_secs(steps::SHUTDOWN_SECS);
        let bound = if kind.clean { STOPS } else { STOPS.saturating_add(pulled_out) };
        let verb = if round % 2 == 0 { "reboot" } else { "poweroff" };
        self.serve(true)?;
        let disk = self.disk()?;
        let step = ["stop", kind.step, verb, &self.port.to_string()];
        let took = off_after(self.machine(Boot::new(name, &step, &disk.0))?, bound)?;
        self.serve(true)?;
        if kind.clean {
            self.must_be_clean()?;
        }
        if round == 0 {
            let disk = if kind.whole { disk } else { self.disk()? };
            let step = ["again", if kind.clean { "clean" } else { "mended" }];
            off_after(self.machine(Boot::new(name, &step, &disk.0))?, STOPS)?;
            self.must_be_clean()?;
        }
        Ok(took)
    }

    /// The file systems on the volumes are as if they had been unmounted by hand.
    fn must_be_clean(&self) -> Result<(), String> {
        for (volume, words) in CHECKS {
            let server = self.server();
            let file = server.as_ref().map(|server| server.volume(volume)).unwrap_or_default();
            let [program, options @ ..] = words else { continue };
            let output = Command::new(program).args(options).arg(&file).output();
            let output = output.map_err(|error| format!("{program}: {error}"))?;
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            if !output.status.success() || DIRTY.iter().any(|word| text.contains(word)) {
                return Err(format!("{program} finds {volume} not clean afterwards: {text}"));
            }
        }
        Ok(())
    }
}
