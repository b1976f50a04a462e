// SPDX-License-Identifier: GPL-2.0-only
//! Commands of all kinds, ended by Ctrl-C at any moment, while the agent dies, hangs or is
//! replaced: what the user was told holds. After *interrupted* nothing of the command happens, and
//! the volume is free again in bounded time.

use std::path::PathBuf;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::admin::Admin;
use super::{millis, Campaign, Figures, Plan};
use crate::guest::cases::io::join;
use crate::guest::random::Random;
use crate::guest::shell::Shell;
use crate::guest::wait::{wait_for, wait_until};
use crate::guest::{sysfs, Machine, TestResult};

const ADMIN_PORT: u16 = 8180;
/// How long the server takes at most for what it was sent before the user was told; then the state
/// is taken that must not change.
const LANDED: Duration = Duration::from_millis(600);
/// How long an agent may take to go, a volume to become free.
const BOUND: Duration = Duration::from_secs(30);
/// How often it is looked whether the agent has ended.
const STEP: Duration = Duration::from_millis(20);
/// The size of each round's volume, and the one it is to have.
const SMALL: u64 = 1 << 20;
const LARGE: u64 = 2 << 20;

/// Its size is the number of commands.
pub(super) const CAMPAIGN: Campaign = Campaign {
    name: "interrupted",
    run,
    short: 16,
    full: 200,
    bound: Duration::from_secs(3600),
    memory_mib: 1024,
    fails_requests: true,
    allowed: &[],
};

/// What becomes of the agent while a command waits for it.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Works,
    Dies,
    Hangs,
    HangsAndDies,
    IsReplaced,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Create,
    Extend,
    Destroy,
    Attach,
}

impl Kind {
    fn line(self, volume: &str) -> String {
        match self {
            Self::Create => format!("{volume} {SMALL} > /sys/class/srb/create"),
            Self::Extend => format!("{volume} {LARGE} > /sys/class/srb/extend"),
            Self::Destroy => format!("{volume} > /sys/class/srb/destroy"),
            Self::Attach => format!("{volume} disk1 > /sys/class/srb/attach"),
        }
    }

    /// Whether a volume of that size may have become one of this, after the user was told that the
    /// command is interrupted. A create is undone, as far as anybody can tell that it was it.
    fn may_become(self, told: Option<u64>, now: Option<u64>) -> bool {
        match self {
            Self::Create => now.is_none() || (now == told && now != Some(0)),
            Self::Extend | Self::Destroy | Self::Attach => now == told,
        }
    }

    /// Whether that is what the command is for.
    fn is_done(self, size: Option<u64>) -> bool {
        match self {
            Self::Create | Self::Attach => size == Some(SMALL),
            Self::Extend => size == Some(LARGE),
            Self::Destroy => size.is_none(),
        }
    }
}

struct Bench {
    machine: Machine,
    admin: Admin,
    /// The longest that a volume was held, in milliseconds.
    held: u64,
    interrupted: u64,
}

impl Bench {
    fn file(&mut self, volume: &str) -> TestResult<PathBuf> {
        Ok(self.machine.playground(0)?.data().join(volume))
    }

    fn size(&mut self, volume: &str) -> TestResult<Option<u64>> {
        Ok(std::fs::metadata(self.file(volume)?).ok().map(|metadata| metadata.len()))
    }

    /// The agent's fate while the command is under way.
    fn befall(&mut self, fate: Fate) -> TestResult {
        match fate {
            Fate::Works => Ok(()),
            Fate::Dies => self.machine.kill_agent(),
            Fate::Hangs | Fate::HangsAndDies => self.machine.agent()?.stop(),
            Fate::IsReplaced => {
                let mut old = self.machine.take_over()?;
                wait_for("the old agent goes", BOUND, || old.ended()).map(drop)
            }
        }
    }

    /// There is an agent again that works.
    fn recover(&mut self, fate: Fate) -> TestResult {
        match fate {
            Fate::Works | Fate::IsReplaced => Ok(()),
            Fate::Hangs => self.machine.agent()?.signal(Signal::SIGCONT),
            Fate::Dies => self.machine.start_agent(),
            Fate::HangsAndDies => {
                self.machine.kill_agent()?;
                self.machine.start_agent()
            }
        }
    }

    /// Waits until another command may have the volume: one that changes nothing. A hung agent that
    /// does not let go of a device is cut off, and ends when it goes on; a supervisor starts
    /// another one then, while the command waits for it.
    fn wait_until_free(&mut self, volume: &str) -> TestResult {
        let (began, words) = (Instant::now(), format!("{volume} 512"));
        let asked = thread::spawn(move || {
            wait_until("the volume is free", BOUND, || {
                sysfs::command("extend", &words) != Err(Errno::EBUSY)
            })
        });
        while !asked.is_finished() {
            if self.machine.agent()?.ended()?.is_some() {
                self.machine.start_agent()?;
            }
            sleep(STEP);
        }
        join(asked)?;
        self.held = self.held.max(millis(began.elapsed()));
        Ok(())
    }

    fn round(&mut self, number: u64, random: &mut Random) -> TestResult {
        let kinds = [Kind::Create, Kind::Extend, Kind::Destroy, Kind::Attach];
        let fates = [Fate::Works, Fate::Dies, Fate::Hangs, Fate::HangsAndDies, Fate::IsReplaced];
        let kind = kinds[random.below(kinds.len() as u64) as usize];
        let fate = fates[random.below(fates.len() as u64) as usize];
        let (volume, what) = (format!("v{number}"), format!("round {number}: {kind:?}, {fate:?}"));
        if !matches!(kind, Kind::Create) {
            self.machine.create(&volume, &SMALL.to_string())?;
        }
        self.admin.set_plan("control:100%:delay=0..150")?;
        let shell = Shell::start("interrupted", &format!("echo {}", kind.line(&volume)))?;
        sleep(random.pause(0, 250));
        self.befall(fate)?;
        sleep(random.pause(0, 150));
        let said = shell.interrupt_until_it_ends()?;
        sleep(LANDED);
        let told = self.size(&volume)?;
        self.admin.clear_plan()?;
        self.recover(fate)?;
        let attached = !sysfs::devices().is_empty();
        if said.contains("status 0") {
            if !kind.is_done(told) || attached != matches!(kind, Kind::Attach) {
                return Err(format!("{what}: done, and the size is {told:?}").into());
            }
        } else if said.contains("Interrupted") || said.contains("not connected") {
            self.interrupted += u64::from(said.contains("Interrupted"));
            self.wait_until_free(&volume)?;
            sleep(LANDED);
            let now = self.size(&volume)?;
            if !kind.may_become(told, now) || !sysfs::devices().is_empty() {
                return Err(format!("{what}: interrupted at {told:?}, then {now:?}").into());
            }
        } else if !said.contains("status") {
            // The signal came before the trap.
        } else {
            return Err(format!("{what}: {said}").into());
        }
        self.clear(&volume, attached)
    }

    fn clear(&mut self, volume: &str, attached: bool) -> TestResult {
        if attached {
            wait_until("disk1 is detached", BOUND, || sysfs::command("detach", "disk1").is_ok())?;
        }
        self.wait_until_free(volume)?;
        if self.size(volume)?.is_some() {
            self.machine.destroy(volume)?;
        }
        Ok(())
    }
}

fn run(plan: &Plan, figures: &mut Figures) -> TestResult {
    let mut random = plan.random();
    let machine = Machine::builder()
        .parameter("req_timeout", 5)
        .parameter("nb_req_retries", 1)
        .playground_arg("--admin-port")
        .playground_arg(ADMIN_PORT.to_string())
        .start()?;
    let mut bench = Bench { machine, admin: Admin(ADMIN_PORT), held: 0, interrupted: 0 };
    let outcome = (0..plan.size).try_for_each(|number| bench.round(number, &mut random));
    figures.set("commands", plan.size);
    figures.set("interrupted", bench.interrupted);
    figures.set("volume_held_ms_max", bench.held);
    outcome
}
