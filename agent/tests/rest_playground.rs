// SPDX-License-Identifier: GPL-2.0-only
//! All operations against a playground, plain and with each deviation of servers in the field.

mod rest_support;

use std::sync::Arc;
use std::time::Duration;

use nix::libc;
use rest_support::*;
use srb_agent::base::settings::Settings;
use srb_agent::base::window::Window;
use srb_agent::paths::{UrlNews, UrlState};
use srb_agent::volume::{Pipeline, Prober, Repository, Volumes};
use srb_playground::{Config, Playground};

const MIB: u64 = 1 << 20;

struct Store {
    playground: Playground,
    repository: Arc<Repository>,
    _folder: tempfile::TempDir,
}

fn store(quirks: &[&str]) -> Store {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = Config::ephemeral(folder.path());
    config.quirks =
        quirks.iter().map(|name| name.parse::<srb_playground::Quirk>().expect("a quirk")).collect();
    let playground = Playground::start(config).expect("a playground");
    let repository = probed(patient(&[playground.url()]));
    Store { playground, repository, _folder: folder }
}

fn patient(urls: &[&str]) -> Settings {
    Settings { req_timeout: Duration::from_secs(10), ..settings(urls) }
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

/// The life of a volume, from nothing to nothing.
async fn life(store: &Store) {
    let volumes = Volumes::new(store.repository.clone());
    let pipeline = Pipeline::new(store.repository.clone());
    let name = "vol,1 ä%?".replace(' ', "");
    assert_eq!(volumes.list().await, Ok(vec![]));
    volumes.create(&name, 2 * MIB, false).await.expect("created");
    volumes.create("another", 512, false).await.expect("created");
    let error = volumes.create(&name, 2 * MIB, false).await.expect_err("exists");
    assert_eq!(error.errno(), libc::EEXIST);
    assert_eq!(volumes.list().await, Ok(vec!["another".to_owned(), name.clone()]));
    assert_eq!(volumes.stat(&name).await, Ok(2 * MIB));
    let volume = store.repository.volume(&name);
    for (offset, len) in [(0, 512), (4096, 4096), (MIB - 512, MIB as usize), (2 * MIB - 512, 512)] {
        let window = Window::from_vec(pattern(MIB as usize, offset as u8));
        pipeline.write(&volume, offset, &window, len, false).await.expect("written");
        let window = Window::from_vec(vec![0xee; MIB as usize]);
        pipeline.read(&volume, offset, &window, len).await.expect("read");
        assert!(window.to_vec(len) == pattern(len, offset as u8), "{offset} {len}");
    }
    volumes.extend(&name, 3 * MIB, false).await.expect("extended");
    assert_eq!(volumes.stat(&name).await, Ok(3 * MIB));
    for size in [MIB, 3 * MIB] {
        let error = volumes.extend(&name, size, false).await.expect_err("would not grow");
        assert_eq!(error.errno(), libc::EINVAL);
        assert!(error.to_string().contains("3145728 bytes"), "{error}");
    }
    assert_eq!(volumes.extend(&name, 3 * MIB, true).await, Ok(()));
    let window = Window::from_vec(vec![0xee; 512]);
    pipeline.read(&volume, 3 * MIB - 512, &window, 512).await.expect("read");
    assert_eq!(window.to_vec(512), [0; 512]);
    let error = pipeline.read(&volume, 3 * MIB, &window, 512).await.expect_err("beyond the end");
    assert_eq!(error.errno(), libc::EIO, "{error}");
    for name in [&name, "another"] {
        assert_eq!(volumes.destroy(name, false).await, Ok(()));
    }
    assert_eq!(volumes.destroy(&name, false).await.expect_err("gone").errno(), libc::ENOENT);
    assert_eq!(volumes.destroy(&name, true).await, Ok(()));
    assert_eq!(volumes.stat(&name).await.expect_err("gone").errno(), libc::ENOENT);
    let error = pipeline.read(&volume, 0, &window, 512).await.expect_err("gone");
    assert_eq!(error.errno(), libc::ENOENT);
}

#[tokio::test]
async fn a_volume_lives_on_a_plain_server() {
    let store = store(&[]);
    local(life(&store)).await;
    let status = &store.repository.status()[0];
    assert_eq!((status.state, status.active, status.errors), (UrlState::Up, true, 0));
    assert!(status.requests > 20 && status.latency > Duration::ZERO, "{status:?}");
    assert!(status.bytes_read > MIB && status.bytes_written > MIB, "{status:?}");
}

#[tokio::test]
async fn a_volume_lives_on_servers_with_quirks() {
    for quirks in [
        &["reply-200"][..],
        &["trailing-comma"],
        &["size-as-string"],
        &["close-after=1"],
        &["close-after=3"],
        &["reply-200", "trailing-comma", "size-as-string", "close-after=2"],
    ] {
        let store = store(quirks);
        local(life(&store)).await;
        assert_eq!(store.repository.status()[0].errors, 0, "{quirks:?}");
        assert_eq!(std::fs::read_dir(store.playground.datapath()).expect("folder").count(), 0);
    }
}

#[tokio::test]
async fn nothing_is_written_to_a_server_that_ignores_ranges() {
    let store = store(&["ignore-range"]);
    let precious = store.playground.datapath().join("precious");
    std::fs::write(&precious, vec![7; 8192]).expect("a volume");
    local(async {
        let volumes = Volumes::new(store.repository.clone());
        let pipeline = Pipeline::new(store.repository.clone());
        let window = Window::from_vec(vec![1; 512]);
        let volume = store.repository.volume("precious");
        let write = pipeline.write(&volume, 512, &window, 512, false).await.expect_err("refused");
        let create = volumes.create("new", 1024, false).await.expect_err("refused");
        let extend = volumes.extend("precious", 1 << 20, false).await.expect_err("refused");
        for error in [&write, &create, &extend] {
            assert_eq!((error.errno(), error.tries()), (libc::EPROTO, 1), "{error}");
            assert!(error.to_string().contains("does not honour ranges"), "{error}");
        }
        let read = pipeline.read(&volume, 512, &window, 512).await.expect_err("not data");
        assert_eq!(read.errno(), libc::EPROTO, "{read}");
        assert_eq!(volumes.list().await, Ok(vec!["precious".to_owned()]));
    })
    .await;
    assert!(store.repository.status()[0].unfit.is_some());
    assert_eq!(std::fs::read(&precious).expect("still there"), [7; 8192]);
    assert_eq!(std::fs::read_dir(store.playground.datapath()).expect("folder").count(), 1);
}

#[tokio::test]
async fn another_path_takes_over_and_gives_back() {
    let store = store(&[]);
    let dead = nobody().await;
    local(async {
        Volumes::new(store.repository.clone()).create("v", MIB, false).await.expect("created");
        let urls = [dead.as_str(), store.playground.url()];
        store.repository.apply(Settings { version: 7, nb_req_retries: 1, ..patient(&urls) });
        assert_eq!(store.repository.active_url(), Some((7, 0)));
        let pipeline = Pipeline::new(store.repository.clone());
        let (volume, window) = (store.repository.volume("v"), Window::from_vec(vec![1; 4096]));
        for _ in 0..20 {
            assert_eq!(pipeline.write(&volume, 0, &window, 4096, false).await, Ok(()));
            assert_eq!(pipeline.read(&volume, 0, &window, 4096).await, Ok(()));
        }
        assert_eq!(store.repository.active_url(), Some((7, 1)));
        let status = store.repository.status();
        assert_eq!(status[0].state, UrlState::Down);
        assert!(status[0].requests < 3, "what made it down, and no more: {status:?}");
        // Somebody listens at the dead URL now: a probe finds out, and it is active again.
        let mut config = Config::ephemeral(store.playground.datapath());
        config.port = dead.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        let back = Playground::start(config).expect("the same port");
        let prober = Prober::new(store.repository.clone());
        let mut active = store.repository.subscribe();
        let is_first =
            |news: &Option<UrlNews>| news.is_some_and(|news| (news.version, news.active) == (7, 0));
        tokio::select! {
            never = prober.run() => match never {},
            changed = active.wait_for(is_first) => drop(changed),
        }
        let status = store.repository.status();
        assert_eq!((status[0].state, status[0].failed_probes), (UrlState::Up, 0));
        assert!(status[0].probes == 1 && status[0].requests < 3, "counted apart: {status:?}");
        let before = status[0].requests;
        assert_eq!(pipeline.read(&volume, 0, &window, 4096).await, Ok(()));
        assert_eq!(store.repository.status()[0].requests, before + 1);
        back.shutdown();
    })
    .await;
}

/// So many commands of each kind, one after the other, and the connections that each kind opened.
#[tokio::test]
async fn connections_serve_again_whatever_the_answer() {
    const EACH: usize = 1000;
    let store = store(&[]);
    let opened = || store.repository.status()[0].connections_opened;
    local(async {
        let volumes = Volumes::new(store.repository.clone());
        volumes.create("taken", 512, false).await.expect("created");
        let volume = store.repository.volume("taken");
        let absent = store.repository.volume("absent");
        let pipeline = Pipeline::new(store.repository.clone());
        let window = Window::from_vec(vec![0; 4096]);
        for kind in [
            "destroy of nothing",
            "create of what exists",
            "stat",
            "list",
            "extend in vain",
            "life",
            "read",
            "read of nothing",
            "read beyond the end",
            "write",
        ] {
            let before = opened();
            for _ in 0..EACH {
                match kind {
                    "destroy of nothing" => drop(volumes.destroy("absent", false).await),
                    "create of what exists" => drop(volumes.create("taken", 512, false).await),
                    "stat" => drop(volumes.stat("taken").await),
                    "list" => drop(volumes.list().await),
                    "extend in vain" => drop(volumes.extend("taken", 512, false).await),
                    "life" => {
                        volumes.create("life", 512, false).await.expect("created");
                        volumes.destroy("life", false).await.expect("destroyed");
                    }
                    "read" => pipeline.read(&volume, 0, &window, 512).await.expect("read"),
                    "read of nothing" => drop(pipeline.read(&absent, 0, &window, 512).await),
                    "read beyond the end" => {
                        drop(pipeline.read(&volume, 1 << 20, &window, 512).await);
                    }
                    _ => pipeline.write(&volume, 0, &window, 512, false).await.expect("written"),
                }
            }
            let opened = opened() - before;
            println!("{EACH} of {kind}: {opened} connections opened");
            // One for the first of its worker.
            assert!(opened <= 1, "{kind}: {opened} connections for {EACH} requests");
        }
    })
    .await;
}
