// SPDX-License-Identifier: GPL-2.0-only
//! Fault campaigns: the same kind of trouble again and again, at moments and of kinds that a seed
//! decides, under load whose data are verified.
//!
//! A [`Campaign`] is a case of the suite in a short form. `make test-faults` runs all of them in
//! full; what tells the forms apart, and the seed of a campaign to be run again, come in the
//! environment ([`Settings`]). A campaign prints its seed first and its figures last, as a line
//! `RESULT {JSON}`, also when it fails. Cuts of the VM's power need a driver outside: see
//! [`crate::faults`].

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::guest::cases::io::leaks::field;
use crate::guest::cases::io::FAILING;
use crate::guest::random::Random;
use crate::guest::{Case, TestResult};
pub(super) use load::{Counts, Load};

mod admin;
mod agent_kills;
mod detach_bounded;
mod faulty_requests;
mod half_done;
mod hostile_ring_ops;
mod interrupted;
mod load;
mod loaded;
mod low_memory;
mod reads_under_writeback;
mod server_kills;
mod takeover;

/// What the line with a campaign's figures starts with.
pub const RESULT: &str = "RESULT ";
/// `full` selects the full form of every campaign.
pub const FORM: &str = "SRB_FAULTS";
/// The campaign's size, instead of that of its form.
pub const ROUNDS: &str = "SRB_ROUNDS";

/// All campaigns that run inside the VM.
const CAMPAIGNS: [Campaign; 10] = [
    agent_kills::CAMPAIGN,
    server_kills::CAMPAIGN,
    faulty_requests::CAMPAIGN,
    detach_bounded::CAMPAIGN,
    hostile_ring_ops::CAMPAIGN,
    low_memory::CAMPAIGN,
    half_done::CAMPAIGN,
    interrupted::CAMPAIGN,
    reads_under_writeback::CAMPAIGN,
    takeover::CAMPAIGN,
];

/// The most memory that counts as little.
const LITTLE_MIB: u64 = 512;

/// Says that the machine has more than little memory.
fn too_large() -> Option<String> {
    let total_kib = field("/proc/meminfo", "MemTotal").ok()?;
    let how = "it wants a machine with little memory, as make test-faults and make test give it";
    (u64::try_from(total_kib).ok()? > LITTLE_MIB << 10).then(|| how.to_owned())
}

/// One kind of trouble.
struct Campaign {
    name: &'static str,
    run: fn(&Plan, &mut Figures) -> TestResult,
    /// Its size in the suite: rounds, requests or MiB, as it says itself.
    short: u64,
    /// Its size in `make test-faults`.
    full: u64,
    /// How long the full form may take.
    bound: Duration,
    /// Memory of the VM in which it runs alone, in MiB. If that is [`LITTLE_MIB`] or less, it runs
    /// in such a machine only.
    memory_mib: u64,
    /// Whether it is meant to make requests fail, which the kernel logs.
    fails_requests: bool,
    /// What else it makes the kernel log.
    allowed: &'static [&'static str],
}

/// What a campaign is to do.
#[derive(Debug, Clone, Copy)]
struct Plan {
    seed: u64,
    /// See [`Campaign::short`].
    size: u64,
}

impl Plan {
    fn random(&self) -> Random {
        Random::from_seed(self.seed)
    }
}

/// A campaign's figures, by name.
#[derive(Debug, Default)]
struct Figures(Map<String, Value>);

impl Figures {
    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// What the load saw.
    fn set_counts(&mut self, counts: &Counts) {
        self.set("io_errors", counts.io_errors());
        self.set("mismatches", counts.mismatches());
        self.set("passes", counts.passes());
    }

    /// Fails if the load saw anything but a pause.
    fn verdict(&self) -> TestResult {
        for name in ["io_errors", "mismatches"] {
            let count = self.0.get(name).and_then(Value::as_u64).unwrap_or(0);
            if count > 0 {
                return Err(format!("{name}: {count}").into());
            }
        }
        Ok(())
    }
}

/// What the environment says.
#[derive(Debug, Clone, Copy, Default)]
struct Settings {
    full: bool,
    rounds: Option<u64>,
}

impl Settings {
    fn from_environment() -> Self {
        let text = |name| std::env::var(name).ok().filter(|text: &String| !text.is_empty());
        let number = |name| {
            let parse = |text: String| match text.parse() {
                Ok(number) => number,
                Err(error) => panic!("{name}={text}: {error}"),
            };
            text(name).map(parse)
        };
        let full = text(FORM).is_some_and(|form| form == "full");
        Self { full, rounds: number(ROUNDS) }
    }
}

impl Campaign {
    fn case(&'static self, settings: Settings) -> Case {
        let Settings { full, rounds } = settings;
        let size = rounds.unwrap_or(if full { self.full } else { self.short });
        let plan = Plan { seed: Random::fresh_seed(), size };
        let case = Case::new(&format!("faults::{}", self.name), move || self.execute(&plan));
        let mut case = if self.memory_mib <= LITTLE_MIB { case.needs(too_large) } else { case };
        if full || rounds.is_some() {
            case = case.bound(self.bound);
        }
        let allowed: &[&str] = if self.fails_requests { &FAILING } else { &[] };
        let case = allowed.iter().fold(case, |case, line| case.allow_log(line));
        self.allowed.iter().fold(case, |case, line| case.allow_log(line))
    }

    fn execute(&self, plan: &Plan) -> TestResult {
        let (name, Plan { seed, size }) = (self.name, *plan);
        println!("{name}: again alone: make test-faults FAULTS={name} SEED={seed} ROUNDS={size}");
        let began = Instant::now();
        let mut figures = Figures::default();
        let outcome = (self.run)(plan, &mut figures);
        figures.set("campaign", name);
        figures.set("seed", seed);
        figures.set("seconds", began.elapsed().as_secs());
        println!("{RESULT}{}", Value::Object(figures.0.clone()));
        outcome.and(figures.verdict())
    }
}

/// What the driver of the full forms must know of a campaign.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// Its name, without `faults::`.
    pub name: &'static str,
    /// How long it may take.
    pub bound: Duration,
    /// Memory that its VM has, in MiB.
    pub memory_mib: u64,
}

/// All campaigns that run inside a VM.
pub fn about() -> impl Iterator<Item = About> {
    let campaigns = CAMPAIGNS.iter();
    campaigns.map(|&Campaign { name, bound, memory_mib, .. }| About { name, bound, memory_mib })
}

pub(super) fn cases() -> Vec<Case> {
    let settings = Settings::from_environment();
    CAMPAIGNS.iter().map(|campaign| campaign.case(settings)).collect()
}

/// Whole milliseconds.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
