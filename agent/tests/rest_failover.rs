// SPDX-License-Identifier: GPL-2.0-only
//! No I/O error while one path works, and none is kept from coming back.

mod rest_support;

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::libc;
use rand::Rng;
use rest_support::*;
use srb_agent::base::errors::ErrorKind;
use srb_agent::base::settings::Settings;
use srb_agent::base::tuning::RestConfig;
use srb_agent::base::window::Window;
use srb_agent::paths::UrlState;
use srb_agent::volume::{Pipeline, Prober, Repository};
use srb_playground::{Config, Playground};
use tokio::task::spawn_local;
use tokio::time::sleep;

const BLOCK: usize = 4096;

fn ok(asked: &Asked) -> Vec<Do> {
    match asked.line.starts_with("GET") {
        true => answer("206 Partial Content", &[], [b'x'; 16]),
        false => status("204 No Content"),
    }
}

fn window() -> Window {
    Window::from_vec(vec![b'w'; 16])
}

/// Starts a playground where one may have been killed just now.
fn start(config: &Config) -> Playground {
    let give_up = Instant::now() + Duration::from_secs(10);
    loop {
        match Playground::start(config.clone()) {
            Ok(playground) => return playground,
            // A connection that is being made may have got the port for a moment.
            Err(error) if Instant::now() > give_up => panic!("{error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

type Servers = Vec<(Playground, Config)>;

/// Kills one of the servers and starts it again at the same port, over and over; all live at the
/// end.
fn kill_at_random(mut servers: Servers, kills: usize, ended: &AtomicBool) -> Servers {
    let mut random = rand::rng();
    let millis = Duration::from_millis;
    for _ in 0..kills {
        let (playground, config) = servers.swap_remove(random.random_range(0..servers.len()));
        playground.kill();
        std::thread::sleep(millis(random.random_range(0..80)));
        servers.push((start(&config), config));
        std::thread::sleep(millis(random.random_range(40..80)));
    }
    ended.store(true, Relaxed);
    servers
}

/// Writes blocks and reads them back until `ended`; says how many.
async fn write_and_verify(
    repository: Arc<Repository>,
    pipeline: Rc<Pipeline>,
    lane: u64,
    ended: Arc<AtomicBool>,
) -> u64 {
    let volume = repository.volume("v");
    let mut rounds = 0u64;
    while !ended.load(Relaxed) {
        rounds += 1;
        let offset = (lane * 16 + rounds % 16) * BLOCK as u64;
        let data: Vec<u8> =
            (0..BLOCK as u64).map(|at| (at * 7 + rounds * 31 + lane) as u8).collect();
        let written =
            pipeline.write(&volume, offset, &Window::from_vec(data.clone()), BLOCK, false).await;
        assert_eq!(written, Ok(()), "write {rounds}");
        let back = Window::from_vec(vec![0xee; BLOCK]);
        assert_eq!(pipeline.read(&volume, offset, &back, BLOCK).await, Ok(()), "read {rounds}");
        assert!(back.to_vec(BLOCK) == data, "lane {lane}, round {rounds}");
    }
    rounds
}

/// Reads and writes between two servers of which one is killed so often. No request fails, and
/// what is read is what was written.
async fn survive(config: RestConfig, kills: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("v"), vec![0; 64 * BLOCK]).expect("a volume");
    let servers: Servers = (0..2)
        .map(|_| {
            let playground = start(&Config::ephemeral(folder.path()));
            let port = playground.address().port();
            (playground, Config { port, ..Config::ephemeral(folder.path()) })
        })
        .collect();
    let urls: Vec<String> = servers.iter().map(|(server, _)| server.url().to_owned()).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let mut limits = Settings { nb_req_retries: 1, ..settings(&urls) };
    limits.req_timeout = Duration::from_secs(10);
    let repository = Repository::new(config);
    repository.apply(limits);
    let ended = Arc::new(AtomicBool::new(false));
    let killer = {
        let ended = Arc::clone(&ended);
        std::thread::spawn(move || kill_at_random(servers, kills, &ended))
    };
    let rounds = local(async {
        let prober = Prober::new(repository.clone());
        let prober = spawn_local(async move { prober.run().await });
        let lanes = (0..4).map(|lane| {
            let pipeline = Pipeline::new(repository.clone());
            write_and_verify(repository.clone(), pipeline, lane, Arc::clone(&ended))
        });
        let rounds = futures_util::future::join_all(lanes).await;
        prober.abort();
        rounds.into_iter().sum::<u64>()
    })
    .await;
    drop(killer.join().expect("all kills"));
    let status = repository.status();
    let errors: u64 = status.iter().map(|url| url.errors).sum();
    println!("{rounds} rounds, {errors} failed tries");
    assert!(rounds > kills as u64 && errors > 0, "{status:?}");
}

#[tokio::test]
async fn no_error_while_one_of_two_servers_lives() {
    survive(RestConfig::default(), 50).await;
}

#[tokio::test]
async fn no_error_while_one_of_two_servers_lives_and_reads_go_to_both() {
    let hedge_reads_after = Some(Duration::from_millis(1));
    survive(RestConfig { hedge_reads_after, ..RestConfig::default() }, 20).await;
}

#[tokio::test]
async fn each_url_has_its_tries() {
    let servers = [
        Scripted::start(|_, _| status("503 Service Unavailable")).await,
        Scripted::start(|_, _| vec![Do::Close]).await,
    ];
    let urls = [&*servers[0].url, &*servers[1].url];
    let repository = unprobed(Settings { nb_req_retries: 2, ..settings(&urls) });
    let pipeline = Pipeline::new(repository.clone());
    let error = pipeline.read(&repository.volume("v"), 0, &window(), 16).await.expect_err("none");
    assert_eq!((error.errno(), error.tries()), (libc::EIO, 6), "{error}");
    assert_eq!(servers.map(|server| server.asked().len()), [3, 3]);
}

#[tokio::test]
async fn the_last_url_gets_its_turn_without_a_pause() {
    let dead = [nobody().await, nobody().await, nobody().await];
    let server = Scripted::start(|_, asked| ok(asked)).await;
    let urls = [&*dead[0], &*dead[1], &*dead[2], &*server.url];
    let repository = unprobed(Settings { nb_req_retries: 0, ..settings(&urls) });
    let pipeline = Pipeline::new(repository.clone());
    let volume = repository.volume("v");
    assert_eq!(pipeline.write(&volume, 0, &window(), 16, false).await, Ok(()));
    assert_eq!(volume.retries(), 3);
    assert_eq!(pipeline.read(&volume, 0, &window(), 16).await, Ok(()));
    assert_eq!(volume.retries(), 3, "what is down is not asked");
}

#[tokio::test]
async fn a_request_fails_when_its_time_is_over() {
    let mut servers = Vec::new();
    for _ in 0..6 {
        servers.push(Scripted::start(|_, _| vec![Do::Hang]).await);
    }
    let urls: Vec<&str> = servers.iter().map(|server| &*server.url).collect();
    let mut limits = Settings { nb_req_retries: 0, ..settings(&urls) };
    limits.req_timeout = Duration::from_secs(1);
    let repository = unprobed(limits);
    let pipeline = Pipeline::new(repository.clone());
    let start = Instant::now();
    let error =
        pipeline.write(&repository.volume("v"), 0, &window(), 16, false).await.expect_err("none");
    assert_eq!(error.errno(), libc::ETIMEDOUT);
    assert!(error.to_string().contains("there is no time left"), "{error}");
    // 0.3 s to connect, 1 s to answer, and 2 s: three whole tries, and one of 0.3 s where the
    // machine is not slower than that.
    assert!((3..=4).contains(&error.tries()), "{error}");
    let (least, most) = (Duration::from_millis(3000), Duration::from_millis(4300));
    assert!((least..most).contains(&start.elapsed()), "{:?}", start.elapsed());
    let states: Vec<UrlState> = repository.status().iter().map(|url| url.state).collect();
    assert_eq!(states[..3], [UrlState::Down; 3]);
    assert_eq!(states[3..], [UrlState::Unknown; 3], "the fourth had less time than it should have");
}

#[tokio::test]
async fn an_outage_of_all_ends_with_the_first_request() {
    let well = Arc::new(AtomicBool::new(false));
    let is_well = Arc::clone(&well);
    let server = Scripted::start(move |_, asked| match is_well.load(Relaxed) {
        true => ok(asked),
        false => vec![Do::Reset],
    })
    .await;
    let dead = nobody().await;
    let urls = [&*dead, &*server.url];
    let repository = unprobed(Settings { nb_req_retries: 3, ..settings(&urls) });
    let pipeline = Pipeline::new(repository.clone());
    let volume = repository.volume("v");
    pipeline.read(&volume, 0, &window(), 16).await.expect_err("nobody answers");
    assert!(repository.status().iter().all(|url| url.state == UrlState::Down));
    well.store(true, Relaxed);
    // Nobody probes in this test, and no pause is over.
    assert_eq!(pipeline.read(&volume, 0, &window(), 16).await, Ok(()));
    assert_eq!(repository.status()[1].state, UrlState::Up);
    assert_eq!(repository.active_url(), Some((1, 1)));
}

#[tokio::test]
async fn a_url_that_is_down_hears_of_nothing_but_probes() {
    let well = Arc::new(AtomicBool::new(false));
    let is_well = Arc::clone(&well);
    let ill = Scripted::start(move |_, asked| {
        match (is_well.load(Relaxed), asked.line.contains("?metadata")) {
            (false, _) => status("503 Service Unavailable"),
            (true, true) => status("404 Not Found"),
            (true, false) => ok(asked),
        }
    })
    .await;
    let server = Scripted::start(|_, asked| ok(asked)).await;
    let repository = unprobed(settings(&[&ill.url, &server.url]));
    let pipeline = Pipeline::new(repository.clone());
    let volume = repository.volume("v");
    local(async {
        let prober = Prober::new(repository.clone());
        let prober = spawn_local(async move { prober.run().await });
        let read = async || pipeline.read(&volume, 0, &window(), 16).await;
        while repository.status()[0].state != UrlState::Down {
            assert_eq!(read().await, Ok(()));
        }
        let before = ill.asked().len();
        while repository.status()[0].failed_probes == 0 {
            assert_eq!(read().await, Ok(()));
            sleep(Duration::from_millis(5)).await;
        }
        let probes = ill.lines().split_off(before);
        assert_eq!(probes, ["GET /.srb-probe-nobody?metadata"]);
        well.store(true, Relaxed);
        let mut active = repository.subscribe();
        active
            .wait_for(|active| active.is_some_and(|news| (news.version, news.active) == (1, 0)))
            .await
            .expect("it is asked again");
        assert_eq!(read().await, Ok(()));
        let asked = ill.asked().split_off(before);
        let lines: Vec<&str> = asked.iter().map(|asked| &*asked.line).collect();
        assert_eq!(lines[1..], ["GET /.srb-probe-nobody?metadata", "GET /v"]);
        assert_ne!(asked[0].connection, asked[1].connection, "a probe leaves no connection");
        prober.abort();
    })
    .await;
}

#[tokio::test]
async fn a_server_that_ignores_ranges_gets_no_writes_and_others_do() {
    let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
    for folder in &folders {
        std::fs::write(folder.path().join("v"), vec![7; 8192]).expect("a volume");
    }
    let mut config = Config::ephemeral(folders[0].path());
    config.quirks =
        ["ignore-range".parse::<srb_playground::Quirk>().expect("a quirk")].into_iter().collect();
    let ignorant = Playground::start(config).expect("a playground");
    let good = Playground::start(Config::ephemeral(folders[1].path())).expect("a playground");
    let mut limits = Settings { nb_req_retries: 0, ..settings(&[ignorant.url(), good.url()]) };
    limits.req_timeout = Duration::from_secs(10);
    let repository = probed(limits);
    let pipeline = Pipeline::new(repository.clone());
    let volume = repository.volume("v");
    for _ in 0..3 {
        assert_eq!(pipeline.write(&volume, 512, &window(), 16, false).await, Ok(()));
    }
    assert_eq!(volume.retries(), 1, "the verdict is known from the first write on");
    assert_eq!(std::fs::read(folders[0].path().join("v")).expect("a volume"), [7; 8192]);
    assert_eq!(std::fs::read(folders[1].path().join("v")).expect("a volume")[512..528], [b'w'; 16]);
    good.kill();
    let error =
        pipeline.write(&volume, 512, &window(), 16, false).await.expect_err("nobody is left");
    // Not EPROTO: the good one may come back.
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("does not honour ranges"), "{error}");
}
