// SPDX-License-Identifier: GPL-2.0-only
//! Where reads go when there are several URLs, and reads that go to two of them.

mod rest_support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::libc;
use rest_support::*;
use srb_agent::base::settings::Settings;
use srb_agent::base::tuning::{ReadChoice, RestConfig};
use srb_agent::base::window::Window;
use srb_agent::volume::{Pipeline, Repository};

fn ok(asked: &Asked) -> Vec<Do> {
    match asked.line.starts_with("GET") {
        true => answer("206 Partial Content", &[], [b'x'; 16]),
        false => status("204 No Content"),
    }
}

async fn slow(millis: u64) -> Scripted {
    Scripted::start(move |_, asked| {
        let mut script = vec![Do::Pause(Duration::from_millis(millis))];
        script.extend(ok(asked));
        script
    })
    .await
}

fn repository(config: RestConfig, servers: [&Scripted; 2]) -> Arc<Repository> {
    let repository = Repository::new(RestConfig { probe: false, ..config });
    let urls = servers.map(|server| &*server.url);
    repository.apply(Settings { req_timeout: Duration::from_secs(5), ..settings(&urls) });
    repository
}

fn hedging(millis: u64) -> RestConfig {
    RestConfig { hedge_reads_after: Some(Duration::from_millis(millis)), ..RestConfig::default() }
}

async fn read(pipeline: &Pipeline, repository: &Repository) -> Option<i32> {
    let window = Window::from_vec(vec![0; 16]);
    match pipeline.read(&repository.volume("v"), 0, &window, 16).await {
        Ok(()) => {
            assert_eq!(window.to_vec(16), [b'x'; 16]);
            None
        }
        Err(error) => Some(error.errno()),
    }
}

async fn write(pipeline: &Pipeline, repository: &Repository) -> Option<i32> {
    let window = Window::from_vec(vec![b'w'; 16]);
    let written = pipeline.write(&repository.volume("v"), 0, &window, 16, false).await;
    written.err().map(|error| error.errno())
}

/// Requests of this method that a server got.
fn count(server: &Scripted, method: &str) -> usize {
    server.lines().iter().filter(|line| line.starts_with(method)).count()
}

#[tokio::test]
async fn reads_go_where_they_are_answered_fast_and_writes_to_the_first() {
    for (read_choice, fast) in [(ReadChoice::Latency, true), (ReadChoice::Order, false)] {
        let (first, second) = (slow(8).await, slow(0).await);
        let config = RestConfig { read_choice, ..RestConfig::default() };
        let repository = repository(config, [&first, &second]);
        let pipeline = Pipeline::new(repository.clone());
        for _ in 0..200 {
            assert_eq!(read(&pipeline, &repository).await, None);
        }
        assert_eq!(write(&pipeline, &repository).await, None);
        // After 128 reads, one has seen how the second URL is.
        assert_eq!(count(&second, "GET") > 60, fast, "{read_choice:?}");
        assert_eq!(count(&second, "GET") > 0, fast, "{read_choice:?}");
        assert_eq!((count(&first, "PUT"), count(&second, "PUT")), (1, 0));
        let status = repository.status();
        assert!(status[0].read_latency >= Duration::from_millis(8), "{status:?}");
        assert_eq!(status[1].read_latency > Duration::ZERO, fast);
    }
}

#[tokio::test]
async fn a_read_that_explores_a_server_in_trouble_is_answered_by_the_other() {
    let (first, hung) = (slow(0).await, Scripted::start(|_, _| vec![Do::Hang]).await);
    let repository = repository(RestConfig::default(), [&first, &hung]);
    let pipeline = Pipeline::new(repository.clone());
    let mut longest = Duration::ZERO;
    while hung.asked().is_empty() {
        let start = Instant::now();
        assert_eq!(read(&pipeline, &repository).await, None);
        longest = longest.max(start.elapsed());
    }
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    let status = repository.status();
    assert!(status[1].read_latency >= Duration::from_millis(50), "{status:?}");
    assert_eq!((status[0].hedge_wins, repository.volume("v").retries()), (1, 0));
}

#[tokio::test]
async fn a_slow_read_is_answered_by_another_url() {
    let hung = Scripted::start(|_, asked| match asked.line.starts_with("GET") {
        true => vec![Do::Hang],
        false => ok(asked),
    })
    .await;
    let good = slow(0).await;
    let repository = repository(hedging(30), [&hung, &good]);
    let pipeline = Pipeline::new(repository.clone());
    let start = Instant::now();
    assert_eq!(read(&pipeline, &repository).await, None);
    let took = start.elapsed();
    assert!((Duration::from_millis(30)..Duration::from_millis(1500)).contains(&took), "{took:?}");
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(write(&pipeline, &repository).await, None);
    let asked = hung.asked();
    assert_eq!(asked[1].ended, 1, "the connection of the slow read was closed");
    let status = repository.status();
    assert_eq!((status[0].hedged, status[0].hedge_wins), (0, 0));
    assert_eq!((status[1].hedged, status[1].hedge_wins), (1, 1));
    assert!(status[0].read_latency >= Duration::from_millis(30), "its slowness is remembered");
}

#[tokio::test]
async fn a_read_that_is_answered_in_time_goes_to_one_url() {
    let (first, second) = (slow(0).await, slow(0).await);
    let repository = repository(hedging(2000), [&first, &second]);
    let pipeline = Pipeline::new(repository.clone());
    for _ in 0..10 {
        assert_eq!(read(&pipeline, &repository).await, None);
    }
    assert_eq!((count(&first, "GET"), count(&second, "GET")), (10, 0));
}

#[tokio::test]
async fn writes_go_to_one_url_however_slow_it_is() {
    let (first, second) = (slow(100).await, slow(0).await);
    let repository = repository(hedging(10), [&first, &second]);
    let pipeline = Pipeline::new(repository.clone());
    assert_eq!(write(&pipeline, &repository).await, None);
    assert_eq!((count(&first, "PUT"), second.asked().len()), (1, 0));
}

#[tokio::test]
async fn the_slow_url_is_believed_when_the_other_one_fails() {
    for failing in ["404 Not Found", "503 Service Unavailable"] {
        let first = slow(150).await;
        let second = Scripted::start(move |_, _| status(failing)).await;
        let repository = repository(hedging(20), [&first, &second]);
        let pipeline = Pipeline::new(repository.clone());
        assert_eq!(read(&pipeline, &repository).await, None, "{failing}");
        assert_eq!((first.asked().len(), second.asked().len()), (1, 1));
        let status = repository.status();
        assert_eq!((status[1].hedged, status[1].hedge_wins), (1, 0));
        assert_eq!(repository.volume("v").retries(), 0);
    }
}

#[tokio::test]
async fn the_other_url_is_waited_for_when_the_slow_one_fails() {
    let first = Scripted::start(|_, _| vec![Do::Pause(Duration::from_millis(60)), Do::Close]).await;
    let second = slow(150).await;
    let repository = repository(hedging(20), [&first, &second]);
    let pipeline = Pipeline::new(repository.clone());
    assert_eq!(read(&pipeline, &repository).await, None);
    assert_eq!((first.asked().len(), second.asked().len()), (1, 1));
    assert_eq!(repository.status()[1].hedge_wins, 1);
    assert_eq!(repository.status()[0].consecutive_failures, 1);
}

#[tokio::test]
async fn both_of_a_hedged_read_count_as_tries() {
    let failing = |_: usize, _: &Asked| {
        let mut script = vec![Do::Pause(Duration::from_millis(60))];
        script.extend(status("503 Service Unavailable"));
        script
    };
    let servers = [Scripted::start(failing).await, Scripted::start(failing).await];
    let repository = repository(hedging(20), [&servers[0], &servers[1]]);
    let settings = repository.settings();
    repository.apply(Settings { nb_req_retries: 1, ..Settings::clone(&settings) });
    let pipeline = Pipeline::new(repository.clone());
    assert_eq!(read(&pipeline, &repository).await, Some(libc::EIO));
    assert_eq!(servers.map(|server| server.asked().len()), [2, 2]);
}
