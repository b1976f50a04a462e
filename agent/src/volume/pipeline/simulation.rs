// SPDX-License-Identifier: GPL-2.0-only
//! Tries to break the order of reads and writes: several tasks ask for overlapping sectors, over
//! two URLs of a server that fails in every way, while agents die and the next one repeats what was
//! under way. docs/ordering.md says what must hold all the same.
//!
//! They ask through the module's rings and the agent's workers ([`rings`]), or of the pipeline
//! itself, where a request can also be dropped.
//!
//! Everything happens on one thread in simulated time, and chance comes from a seed: a seed that
//! fails does so each time. `make sim SEEDS=N` runs N seeds instead of a few, with
//! `SRB_SIM_FIRST=S` from that one on. What fails is run again with less and less of everything,
//! until nothing can be left out, and that plan is printed.

mod history;
mod rings;
mod server;
mod world;

use std::rc::Rc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::SeedableRng;
use tokio::task::{spawn_local, LocalSet};
use tokio::time::sleep;

use self::server::Server;
use self::world::World;
use crate::base::chance::seeded;
use crate::http::memory;
use crate::volume::hook::{self, Flaw};

const REQ_TIMEOUT: Duration = Duration::from_millis(100);
const SETTLE: Duration = Duration::from_millis(300);
/// The timer's resolution, twice.
const LATENESS: Duration = Duration::from_millis(298);
/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    /// Through the rings, or straight into the pipeline.
    rings: bool,
    sectors: usize,
    tasks: usize,
    requests_per_task: usize,
    settle: Duration,
    lateness: Duration,
    /// Of requests, in percent.
    fault_rate: u32,
    /// Agents that die.
    deaths: u32,
    /// How long one lives at most before that.
    life: Duration,
    /// Whether the next agent is told that it repeats.
    tells_repeated: bool,
    /// Whether it knows what had not settled.
    inherits: bool,
    /// Of writes, in percent, those that are dropped if they take too long. Nobody drops a request
    /// that is in a ring.
    impatient: u32,
    flaw: Option<Flaw>,
}

const PLAN: Plan = Plan {
    rings: true,
    sectors: 64,
    tasks: 6,
    requests_per_task: 40,
    settle: SETTLE,
    lateness: LATENESS,
    fault_rate: 25,
    deaths: 3,
    life: Duration::from_secs(4),
    tells_repeated: true,
    inherits: true,
    impatient: 6,
    flaw: None,
};

const DIRECT: Plan = Plan { rings: false, ..PLAN };

/// What a run came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    requests: u64,
    failed: u64,
    faults: u64,
    /// Of all that happened and when.
    digest: u64,
}

/// Runs one seed; the error says what was read that must not be.
fn simulate(plan: Plan, seed: u64) -> Result<Counts, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    hook::set(plan.flaw);
    let result = LocalSet::new().block_on(&runtime, async {
        let mut seeds = StdRng::seed_from_u64(seed);
        let mut chance = || StdRng::from_rng(&mut seeds);
        seeded::seed(chance());
        let server =
            Server::new(plan.sectors, chance(), (plan.fault_rate, plan.lateness, REQ_TIMEOUT));
        for host in ["one", "two"] {
            spawn_local(Rc::clone(&server).run(memory::listen(host)));
        }
        let world = World::new(plan);
        let mut tasks = vec![spawn_local(Rc::clone(&world).kill(chance()))];
        tasks.extend((0..plan.tasks).map(|n| spawn_local(Rc::clone(&world).live(n, chance()))));
        for task in tasks {
            task.await.map_err(|panic| panic.to_string())?;
        }
        sleep(plan.settle + plan.lateness + Duration::from_millis(2)).await;
        for first in (0..plan.sectors).step_by(8) {
            world.read(0, first..(first + 8).min(plan.sectors)).await;
        }
        world.check()?;
        Ok(Counts { faults: server.faults(), ..world.counts() })
    });
    hook::set(None);
    result
}

/// Leaves out what is not needed for a plan to fail with this seed.
fn shrunk(plan: Plan, seed: u64) -> Plan {
    let smaller = |plan: Plan| {
        [
            Plan { tasks: plan.tasks / 2, ..plan },
            Plan { tasks: plan.tasks.saturating_sub(1), ..plan },
            Plan { requests_per_task: plan.requests_per_task / 2, ..plan },
            Plan { requests_per_task: plan.requests_per_task.saturating_sub(1), ..plan },
            Plan { sectors: (plan.sectors / 2).max(1), ..plan },
            Plan { deaths: plan.deaths.saturating_sub(1), ..plan },
            Plan { impatient: 0, ..plan },
            Plan { fault_rate: plan.fault_rate / 2, ..plan },
            Plan { rings: false, ..plan },
        ]
    };
    let (mut plan, mut found) = (plan, true);
    while found {
        let next = smaller(plan).into_iter().find(|next| *next != plan && fails(*next, seed));
        found = next.is_some();
        plan = next.unwrap_or(plan);
    }
    plan
}

fn fails(plan: Plan, seed: u64) -> bool {
    simulate(plan, seed).is_err()
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

#[test]
fn no_seed_breaks_the_order() {
    let first = number("SRB_SIM_FIRST").unwrap_or(0);
    let seeds = first..first + number("SRB_SIM_SEEDS").unwrap_or(16);
    let (start, mut sum) = (std::time::Instant::now(), Counts::default());
    for seed in seeds.clone() {
        // From a server that fails now and then to one that hardly ever answers.
        let fault_rate = [15, 30, 45, 60][seed as usize / 2 % 4];
        let plan = Plan { fault_rate, rings: seed % 2 == 0, ..PLAN };
        let counts = simulate(plan, seed).unwrap_or_else(|why| {
            panic!("seed {seed}: {why}\nalso with less: {:?}", shrunk(plan, seed));
        });
        sum.requests += counts.requests;
        sum.failed += counts.failed;
        sum.faults += counts.faults;
    }
    let (seeds, secs) = (seeds.end - seeds.start, start.elapsed().as_secs_f64());
    let Counts { requests, failed, faults, .. } = sum;
    println!("{seeds} seeds in {secs:.1} s: {requests} requests, {failed} failed, {faults} faults");
    assert!(sum.faults * 10 > sum.requests, "{sum:?}");
    assert!(sum.failed * 3 < sum.requests, "{sum:?}");
}

#[test]
fn what_fails_is_shrunk() {
    let plan = Plan { settle: Duration::ZERO, ..PLAN };
    let seed = (0..100).find(|seed| fails(plan, *seed)).expect("one that fails");
    let least = shrunk(plan, seed);
    assert!(fails(least, seed), "{least:?}");
    assert!(least.tasks * least.requests_per_task < plan.tasks * plan.requests_per_task / 2);
}

#[test]
fn a_seed_runs_the_same_way_each_time() {
    for plan in [PLAN, DIRECT] {
        let run = |seed| simulate(plan, seed).expect("right");
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }
}

/// Whether one of some seeds finds a plan broken.
fn is_broken(plan: Plan, seeds: u64) -> bool {
    (0..seeds).any(|seed| fails(plan, seed))
}

#[test]
fn without_a_settle_time_late_writes_land_on_later_ones() {
    assert!(is_broken(Plan { settle: Duration::ZERO, ..PLAN }, 100));
    let punctual = Plan { settle: Duration::ZERO, lateness: Duration::ZERO, ..PLAN };
    assert!(!is_broken(punctual, 8), "unless no server is late");
}

#[test]
fn a_server_later_than_the_settle_time_is_noticed() {
    assert!(is_broken(Plan { lateness: 3 * SETTLE, ..PLAN }, 100));
}

#[test]
fn each_part_of_the_mechanism_is_needed() {
    assert!(is_broken(Plan { flaw: Some(Flaw::Table), ..PLAN }, 100), "the table");
    let plan = Plan { impatient: 60, fault_rate: 50, deaths: 0, ..DIRECT };
    assert!(!is_broken(plan, 4));
    assert!(is_broken(Plan { flaw: Some(Flaw::Dropped), ..plan }, 100), "entering the dropped");
    assert!(
        is_broken(Plan { flaw: Some(Flaw::Contest), ..PLAN }, 100),
        "sending contested ones again"
    );
}

#[test]
fn the_next_agent_must_know_what_may_still_land() {
    let plan = Plan { deaths: 24, life: Duration::from_millis(400), ..PLAN };
    assert!(!is_broken(plan, 8));
    let plan = Plan { rings: false, ..plan };
    assert!(!is_broken(plan, 8));
    assert!(is_broken(Plan { tells_repeated: false, ..plan }, 100), "the module always tells it");
    assert!(is_broken(Plan { inherits: false, ..plan }, 100), "what had been answered");
}
