// SPDX-License-Identifier: GPL-2.0-only
//! Commands at a server that carries out late what it did not answer: no later than the settle
//! time, as docs/ordering.md asks of servers. What was said to be undone stays so, and what a later
//! command has done, nothing that was sent before takes back.

mod rest_support;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::libc;
use rest_support::*;
use srb_agent::base::settings::Settings;
use srb_agent::base::tuning::RestConfig;
use srb_agent::volume::{Repository, Volumes};
use tokio::time::sleep;

/// How late the server is, and until when agents reckon with it.
const LATE: Duration = Duration::from_millis(250);
const SETTLE: Duration = Duration::from_millis(500);

/// What changes the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Create,
    SetSize(u64),
    Delete,
}

/// The server's only volume.
#[derive(Debug, Default)]
struct Store {
    size: Option<u64>,
    /// Changes that were not answered and come later.
    pending: Vec<(Instant, Change)>,
    /// So many changes are to come later.
    to_be_late: usize,
}

impl Store {
    fn apply(&mut self, change: Change) -> Vec<Do> {
        match (change, self.size) {
            (Change::Create, Some(_)) => return status("412 Precondition Failed"),
            (Change::Create, None) => self.size = Some(0),
            (Change::SetSize(size), Some(_)) => self.size = Some(size),
            (Change::Delete, Some(_)) => self.size = None,
            (_, None) => return status("404 Not Found"),
        }
        status("204 No Content")
    }

    /// Applies what has become due.
    fn now(&mut self) -> Option<u64> {
        let due = self.pending.iter().take_while(|(at, _)| *at <= Instant::now()).count();
        for (_, change) in self.pending.drain(..due).collect::<Vec<_>>() {
            self.apply(change);
        }
        self.size
    }

    fn serve(&mut self, asked: &Asked) -> Vec<Do> {
        let found = self.now();
        let size_wanted = asked.header("x-scal-truncate").and_then(|text| text.parse().ok());
        let change = match (asked.line.split(' ').next(), size_wanted) {
            (Some("DELETE"), _) => Change::Delete,
            (Some("PUT"), Some(size)) => Change::SetSize(size),
            (Some("PUT"), None) => Change::Create,
            _ => return found.map_or_else(|| status("404 Not Found"), size),
        };
        if self.to_be_late > 0 {
            self.to_be_late -= 1;
            self.pending.push((Instant::now() + LATE, change));
            return vec![Do::Close];
        }
        self.apply(change)
    }
}

struct Bench {
    server: Scripted,
    store: Arc<Mutex<Store>>,
}

impl Bench {
    async fn start(store: Store) -> Self {
        let store = Arc::new(Mutex::new(store));
        let shared = Arc::clone(&store);
        let serve = move |_, asked: &Asked| shared.lock().expect("the store").serve(asked);
        Self { server: Scripted::start(serve).await, store }
    }

    /// An agent that tries once.
    fn agent(&self, settling_file: Option<&Path>) -> Volumes {
        let settling_file = settling_file.map(Path::to_owned);
        let config =
            RestConfig { probe: false, settle: SETTLE, settling_file, ..RestConfig::default() };
        let repository = Repository::new(config);
        repository.apply(Settings { nb_req_retries: 0, ..settings(&[&self.server.url]) });
        Volumes::new(repository)
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().expect("the store")
    }

    /// The volume's size when everything late has come.
    async fn in_the_end(&self) -> Option<u64> {
        sleep(2 * LATE).await;
        self.store().now()
    }
}

#[tokio::test]
async fn a_create_that_nobody_answered_leaves_nothing_later() {
    let bench = Bench::start(Store { to_be_late: 1, ..Store::default() }).await;
    local(async {
        let error = bench.agent(None).create("v", 512, false).await.expect_err("not answered");
        assert_eq!(error.errno(), libc::EIO, "{error}");
        assert_eq!(bench.in_the_end().await, None, "{error}");
    })
    .await;
}

#[tokio::test]
async fn undoing_the_create_of_a_dead_agent_leaves_nothing_later() {
    let pending = vec![(Instant::now() + LATE, Change::Create)];
    let bench = Bench::start(Store { pending, ..Store::default() }).await;
    local(async {
        assert_eq!(bench.agent(None).undo_create("v", 512).await, Ok(()));
        assert_eq!(bench.in_the_end().await, None);
    })
    .await;
}

#[tokio::test]
async fn a_volume_made_anew_is_not_deleted_by_an_earlier_destroy() {
    for repeated in [false, true] {
        let pending = vec![(Instant::now() + LATE, Change::Delete)];
        let pending = if repeated { pending } else { Vec::new() };
        let to_be_late = usize::from(!repeated);
        let bench = Bench::start(Store { size: Some(512), pending, to_be_late }).await;
        local(async {
            let agent = bench.agent(None);
            // It may not be able to tell; then its user gives the command again.
            while agent.destroy("v", repeated).await.is_err() {}
            assert_eq!(agent.create("v", 1024, false).await, Ok(()));
            assert_eq!(bench.in_the_end().await, Some(1024), "repeated: {repeated}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_destroy_that_came_late_is_a_destroy() {
    let bench = Bench::start(Store { size: Some(512), to_be_late: 1, ..Store::default() }).await;
    assert_eq!(local(bench.agent(None).destroy("v", false)).await, Ok(()));
}

#[tokio::test]
async fn an_extend_is_not_taken_back_by_an_earlier_one() {
    for repeated in [false, true] {
        let pending = vec![(Instant::now() + LATE, Change::SetSize(1024))];
        let pending = if repeated { pending } else { Vec::new() };
        let to_be_late = usize::from(!repeated);
        let bench = Bench::start(Store { size: Some(512), pending, to_be_late }).await;
        local(async {
            let agent = bench.agent(None);
            let _ = agent.extend("v", 1024, repeated).await;
            assert_eq!(agent.extend("v", 2048, false).await, Ok(()));
            assert_eq!(bench.in_the_end().await, Some(2048), "repeated: {repeated}");
        })
        .await;
    }
}

#[tokio::test]
async fn the_next_agent_is_not_surprised_by_what_the_last_one_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("settling");
    let bench = Bench::start(Store { size: Some(512), ..Store::default() }).await;
    local(async {
        bench.store().to_be_late = 1;
        let agent = bench.agent(Some(&file));
        let dropped = tokio::time::timeout(LATE / 5, agent.destroy("v", false)).await;
        drop((dropped, agent));
        let agent = bench.agent(Some(&file));
        while agent.destroy("v", false).await.is_err_and(|error| error.errno() != libc::ENOENT) {}
        assert_eq!(agent.create("v", 1024, false).await, Ok(()));
        assert_eq!(bench.in_the_end().await, Some(1024));
    })
    .await;
}
