// SPDX-License-Identifier: GPL-2.0-only
//! Commands at a server that loses answers and fails, round after round: what a command says is
//! true, what it does not know it says, and the same command given again finds its way.
//!
//! The campaign of the same name (`tests/src/guest/cases/faults/half_done.rs`) is this through the
//! module, with agents that die; here are many more rounds in the same time. `SRB_SEED=N` repeats a
//! run.

mod rest_support;

use std::time::Duration;

use nix::libc;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rest_support::*;
use srb_agent::base::settings::Settings;
use srb_agent::base::tuning::RestConfig;
use srb_agent::volume::{Repository, Volumes};
use srb_playground::{Config, Playground};

/// Servers at the same time, each with its own seed, and the rounds of each.
const SERVERS: u64 = 16;
const ROUNDS: u32 = 60;
const NAME: &str = "half";
/// How late a server is, in milliseconds, and until when the agents reckon with it: long enough
/// for a machine that is busy.
const LATE: u32 = 25;
const SETTLE: Duration = Duration::from_millis(300);

/// What there is of the volume, as far as its user can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Absent,
    Size(u64),
    /// A command has said that it does not know.
    Doubtful,
}

struct Bench {
    playground: Playground,
    volumes: Volumes,
    random: StdRng,
    known: Known,
}

impl Bench {
    /// The truth, from the server's own folder.
    fn on_the_server(&self) -> Option<u64> {
        let path = self.playground.datapath().join(NAME);
        std::fs::metadata(path).ok().map(|metadata| metadata.len())
    }

    fn break_the_server(&mut self) {
        let seed: u32 = self.random.random();
        let mut rate = |most| self.random.random_range(5..most);
        let (failed, lost, late, cut) = (rate(40), rate(30), rate(20), rate(10));
        let plan = format!(
            "seed={seed} control:{failed}%:status=500 control:{lost}%:lost-reply \
             control:{late}%:late={LATE} control:{cut}%:reset-after"
        );
        self.playground.faults().set(plan.parse().expect("a plan"));
    }

    async fn create(&mut self, size: u64) {
        let outcome = self.volumes.create(NAME, size, false).await;
        let there = self.on_the_server();
        let error = match outcome {
            Ok(()) => {
                assert_eq!(there, Some(size), "created");
                assert!(!matches!(self.known, Known::Size(_)), "created though it was there");
                self.known = Known::Size(size);
                return;
            }
            Err(error) => error,
        };
        let may = error.to_string().contains("may ");
        match (self.known, error.errno()) {
            (Known::Size(size), _) => assert_eq!(there, Some(size), "{error}"),
            (Known::Absent, libc::EEXIST) => panic!("nobody else makes it: {error}"),
            (_, libc::EEXIST) => assert!(there.is_some(), "{error}"),
            _ if may => self.known = Known::Doubtful,
            (Known::Absent, _) => assert_eq!(there, None, "nothing was said of it: {error}"),
            (Known::Doubtful, _) => {}
        }
    }

    async fn extend(&mut self, size: u64) {
        let outcome = self.volumes.extend(NAME, size, false).await;
        let there = self.on_the_server();
        match (outcome, self.known) {
            (Ok(()), _) => {
                assert_eq!(there, Some(size), "extended");
                self.known = Known::Size(size);
            }
            (Err(error), _) if error.to_string().contains("may ") => self.known = Known::Doubtful,
            (Err(error), Known::Size(old)) => assert_eq!(there, Some(old), "{error}"),
            (Err(_), _) => {}
        }
    }

    async fn destroy(&mut self) {
        let outcome = self.volumes.destroy(NAME, false).await;
        let there = self.on_the_server();
        match (outcome, self.known) {
            (Ok(()), known) => {
                assert_eq!(there, None, "destroyed");
                assert!(known != Known::Absent, "destroyed though it was not there");
                self.known = Known::Absent;
            }
            (Err(error), _) if error.to_string().contains("may ") => self.known = Known::Doubtful,
            (Err(error), Known::Size(old)) => assert_eq!(there, Some(old), "{error}"),
            (Err(error), _) if error.errno() == libc::ENOENT => assert_eq!(there, None, "{error}"),
            (Err(_), _) => {}
        }
    }

    /// With a server that works, the command of which nobody could tell is done, or has been.
    async fn finds_its_way(&mut self, command: u32, size: u64) {
        self.playground.faults().clear();
        let outcome = match command {
            0 => self.volumes.create(NAME, size, false).await,
            1 => self.volumes.extend(NAME, size, false).await,
            _ => self.volumes.destroy(NAME, false).await,
        };
        assert_eq!(outcome, Ok(()), "the same command again");
        self.known = self.on_the_server().map_or(Known::Absent, Known::Size);
    }

    async fn round(&mut self) {
        self.break_the_server();
        let command = match self.known {
            Known::Absent => [0, 0, 0, 1, 2][self.random.random_range(0..5)],
            _ => [0, 1, 1, 2, 2][self.random.random_range(0..5)],
        };
        let old = self.on_the_server().unwrap_or(0);
        let size = old + 512 * self.random.random_range(1..5);
        match command {
            0 => self.create(size).await,
            1 => self.extend(size).await,
            _ => self.destroy().await,
        }
        if self.known == Known::Doubtful {
            self.finds_its_way(command, size).await;
        }
    }
}

async fn play(seed: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let playground = Playground::start(Config::ephemeral(folder.path())).expect("a playground");
    let repository =
        Repository::new(RestConfig { probe: false, settle: SETTLE, ..RestConfig::default() });
    repository.apply(Settings {
        nb_req_retries: 1,
        req_timeout: Duration::from_secs(5),
        ..settings(&[playground.url()])
    });
    let mut bench = Bench {
        volumes: Volumes::new(repository),
        playground,
        random: StdRng::seed_from_u64(seed),
        known: Known::Absent,
    };
    for _ in 0..ROUNDS {
        bench.round().await;
    }
}

#[tokio::test]
async fn what_commands_say_is_true_whatever_is_lost() {
    let seed = std::env::var("SRB_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(rand::random);
    println!("again: SRB_SEED={seed} cargo test -p srb-agent --test half_done");
    let servers = (0..SERVERS).map(|number| play(seed.wrapping_add(number << 32)));
    local(futures_util::future::join_all(servers)).await;
}
