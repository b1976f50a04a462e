// SPDX-License-Identifier: GPL-2.0-only
//! Reads and writes among each other: limits, order, changes of settings, cancellation, the probe.

mod rest_support;

use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::FutureExt;
use nix::libc;
use rest_support::*;
use srb_agent::base::settings::Settings;
use srb_agent::base::window::Window;
use srb_agent::paths::UrlState;
use srb_agent::volume::{Pipeline, Repository};
use srb_playground::{Config, Playground};
use tokio::time::{sleep, timeout};

fn ok(asked: &Asked) -> Vec<Do> {
    match asked.line.starts_with("GET") {
        true => answer("206 Partial Content", &[], [b'x'; 16]),
        false => status("204 No Content"),
    }
}

fn slowly(millis: u64, asked: &Asked) -> Vec<Do> {
    let mut script = vec![Do::Pause(Duration::from_millis(millis))];
    script.extend(ok(asked));
    script
}

fn window() -> Window {
    Window::from_vec(vec![b'w'; 16])
}

async fn write(pipeline: &Pipeline, repository: &Repository, offset: u64) -> Option<i32> {
    let volume = repository.volume("v");
    let written = pipeline.write(&volume, offset, &window(), 16, false).await;
    written.err().map(|error| error.errno())
}

async fn read(pipeline: &Pipeline, repository: &Repository, offset: u64) -> Option<i32> {
    let volume = repository.volume("v");
    let read = pipeline.read(&volume, offset, &window(), 16).await;
    read.err().map(|error| error.errno())
}

#[tokio::test]
async fn nothing_that_overlaps_a_write_being_repeated_overtakes_it() {
    // The first try of the write at 0 is never answered.
    let server = Scripted::start(|number, asked| match number {
        0 => vec![Do::Hang],
        _ => slowly(50, asked),
    })
    .await;
    let repository = unprobed(settings(&[&server.url]));
    // Two workers that share the volume.
    let workers = [Pipeline::new(repository.clone()), Pipeline::new(repository.clone())];
    local(async {
        let first = write(&workers[0], &repository, 0);
        let others = async {
            // The first try has failed by now, the second one has not been answered.
            sleep(Duration::from_millis(365)).await;
            tokio::join!(
                read(&workers[1], &repository, 8),
                write(&workers[1], &repository, 15),
                read(&workers[0], &repository, 16),
            )
        };
        assert_eq!(tokio::join!(first, others), (None, (None, None, None)));
    })
    .await;
    let order: Vec<String> = server
        .asked()
        .iter()
        .map(|asked| format!("{} {}", &asked.line[..3], asked.header("range").expect("range")))
        .collect();
    assert_eq!(order[0], "PUT bytes=0-15");
    let again = order.iter().skip(1).position(|line| line == "PUT bytes=0-15").expect("again") + 1;
    let at = |line: &str| order.iter().position(|other| other == line).expect(line);
    assert!(at("GET bytes=8-23") > again && at("PUT bytes=15-30") > again, "{order:?}");
}

#[tokio::test]
async fn what_waits_for_an_unsettled_write_goes_on_when_that_is_given_up() {
    let server = Scripted::start(|_, asked| match asked.line.starts_with("PUT") {
        true => vec![Do::Hang],
        false => ok(asked),
    })
    .await;
    let repository = unprobed(Settings { nb_req_retries: 1, ..settings(&[&server.url]) });
    let pipeline = Pipeline::new(repository.clone());
    local(async {
        let start = Instant::now();
        let late = async {
            sleep(Duration::from_millis(350)).await;
            let read = read(&pipeline, &repository, 0).await;
            (read, start.elapsed())
        };
        let (written, (read, at)) = tokio::join!(write(&pipeline, &repository, 0), late);
        assert_eq!((written, read), (Some(libc::ETIMEDOUT), None));
        assert!(at >= Duration::from_millis(600), "{at:?}");
        assert_eq!(self::read(&pipeline, &repository, 0).await, None);
    })
    .await;
}

#[tokio::test]
async fn no_more_requests_at_the_server_than_allowed() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    let server = Scripted::start(move |_, asked| {
        // A connection is in the script while its request is at the server.
        let at_once = now.fetch_add(1, Ordering::Relaxed) + 1;
        most.fetch_max(at_once, Ordering::Relaxed);
        let now = Arc::clone(&now);
        tokio::spawn(async move {
            sleep(Duration::from_millis(10)).await;
            now.fetch_sub(1, Ordering::Relaxed);
        });
        slowly(35, asked)
    })
    .await;
    let mut limits = Settings { thread_pool_size: 3, ..settings(&[&server.url]) };
    limits.req_timeout = Duration::from_secs(5);
    let repository = unprobed(limits.clone());
    let workers = [Pipeline::new(repository.clone()), Pipeline::new(repository.clone())];
    local(async {
        for size in [3, 7, 2] {
            repository.apply(Settings { thread_pool_size: size, ..limits.clone() });
            seen.store(0, Ordering::Relaxed);
            let requests = (0..24).map(|n| {
                let (worker, offset) = (&workers[n % 2], 16 * n as u64);
                match n % 4 {
                    0 | 1 => read(worker, &repository, offset).boxed_local(),
                    _ => write(worker, &repository, offset).boxed_local(),
                }
            });
            assert!(join_all(requests).await.iter().all(Option::is_none));
            assert_eq!(seen.load(Ordering::Relaxed), size as usize);
            seen.store(0, Ordering::Relaxed);
            // Nothing is kept for writes when there have been none for a while.
            let reads = (0..80).map(|n| read(&workers[n % 2], &repository, 16 * n as u64));
            assert!(join_all(reads).await.iter().all(Option::is_none));
            assert_eq!(seen.load(Ordering::Relaxed), size as usize);
        }
    })
    .await;
}

#[tokio::test]
async fn the_time_that_a_request_waits_for_others_is_bounded() {
    let server = Scripted::start(|_, _| vec![Do::Hang]).await;
    let mut limits = settings(&[&server.url]);
    limits.req_timeout = Duration::from_secs(1);
    limits.thread_pool_size = 1;
    limits.nb_req_retries = 0;
    let repository = unprobed(limits);
    let pipeline = Pipeline::new(repository.clone());
    let volume = repository.volume("v");
    let start = Instant::now();
    let errors = local(async {
        // Each has a second of the only place: the last ones would have it after 3.3 s.
        let reads =
            (0..8).map(|number| {
                let (pipeline, volume) = (&pipeline, &volume);
                async move {
                    pipeline.read(volume, number * 16, &window(), 16).await.expect_err("hangs")
                }
            });
        join_all(reads).await
    })
    .await;
    assert!(start.elapsed() < Duration::from_millis(5300), "{:?}", start.elapsed());
    assert!(errors.iter().all(|error| error.errno() == libc::ETIMEDOUT), "{errors:?}");
    let waited: Vec<_> = errors.iter().filter(|error| error.tries() == 0).collect();
    assert!((3..=6).contains(&waited.len()), "{errors:?}");
    for error in waited {
        assert!(error.to_string().contains("while it waited for others"), "{error}");
    }
}

#[tokio::test]
async fn settings_change_while_a_request_is_being_tried() {
    let (dead, server) = (nobody().await, Scripted::start(|_, asked| ok(asked)).await);
    let repository = unprobed(Settings { nb_req_retries: 50, ..settings(&[&dead]) });
    let pipeline = Pipeline::new(repository.clone());
    local(async {
        let change = async {
            sleep(Duration::from_millis(100)).await;
            repository.apply(settings(&[&server.url]));
        };
        let (read, ()) = tokio::join!(read(&pipeline, &repository, 0), change);
        assert_eq!(read, None);
        repository.apply(settings(&[]));
        assert_eq!(self::read(&pipeline, &repository, 0).await, Some(libc::EDESTADDRREQ));
    })
    .await;
}

#[tokio::test]
async fn fewer_retries_are_in_force_at_once() {
    let dead = nobody().await;
    let repository = unprobed(Settings { nb_req_retries: 1000, ..settings(&[&dead]) });
    let pipeline = Pipeline::new(repository.clone());
    local(async {
        let change = async {
            sleep(Duration::from_millis(100)).await;
            repository.apply(Settings { nb_req_retries: 0, ..settings(&[&dead]) });
        };
        let both = async { tokio::join!(read(&pipeline, &repository, 0), change).0 };
        let read = timeout(Duration::from_secs(10), both).await.expect("ends");
        assert_eq!(read, Some(libc::ECONNREFUSED));
    })
    .await;
}

#[tokio::test]
async fn an_error_names_what_each_url_answered() {
    let dead = nobody().await;
    let server = Scripted::start(|_, _| status("503 Service Unavailable")).await;
    let repository = unprobed(settings(&[&dead, &server.url]));
    let pipeline = Pipeline::new(repository.clone());
    let error = local(pipeline.read(&repository.volume("v"), 512, &window(), 16)).await;
    let text = error.expect_err("nobody can").to_string();
    assert!(text.starts_with("read of 16 bytes at 512 of volume v: "), "{text}");
    assert!(text.contains(&format!("{dead} refused the connection; ")), "{text}");
    assert!(text.contains(&format!("{} answered 503 Service Unavailable", server.url)), "{text}");
    assert!(text.ends_with(" (8 tries)"), "four at each: {text}");
    assert_eq!(repository.volume("v").name(), "v");
}

#[tokio::test]
async fn a_dropped_request_closes_its_connection_and_leaves_the_window_alone() {
    let half = "HTTP/1.1 206 Partial Content\r\ncontent-length: 16\r\n\r\n01234567";
    let server = Scripted::start(move |number, asked| match number {
        0 => vec![raw(half), Do::Pause(Duration::from_millis(100)), raw("89abcdef"), Do::Hang],
        _ => ok(asked),
    })
    .await;
    let mut limits = settings(&[&server.url]);
    limits.req_timeout = Duration::from_secs(30);
    let repository = unprobed(limits);
    let pipeline = Pipeline::new(repository.clone());
    local(async {
        let (volume, window) = (repository.volume("v"), Window::from_vec(vec![b'-'; 16]));
        let read = pipeline.read(&volume, 0, &window, 16);
        assert!(timeout(Duration::from_millis(50), read).await.is_err());
        let then = window.to_vec(16);
        assert_eq!(then, b"01234567--------");
        sleep(Duration::from_millis(150)).await;
        assert_eq!(window.to_vec(16), then);
        assert_eq!(self::read(&pipeline, &repository, 0).await, None);
        let asked = server.asked();
        assert_eq!((asked[1].connection, asked[1].ended), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn a_dropped_write_lets_go_of_the_windows_memory() {
    let server = Scripted::start(|_, _| vec![Do::Hang]).await;
    let repository = unprobed(settings(&[&server.url]));
    let pipeline = Pipeline::new(repository.clone());
    local(async {
        let memory: Arc<Vec<u8>> = Arc::new(vec![1; 1 << 20]);
        let start = std::ptr::NonNull::new(memory.as_ptr().cast_mut()).expect("a vector's");
        // SAFETY: the owner keeps the vector, and a write only reads it.
        let window = unsafe { Window::new(start, memory.len(), memory.clone()) };
        let volume = repository.volume("v");
        let write = pipeline.write(&volume, 0, &window, 1 << 20, false);
        assert!(timeout(Duration::from_millis(100), write).await.is_err());
        assert_eq!(Arc::strong_count(&memory), 2, "the window's and this one");
    })
    .await;
}

#[tokio::test]
async fn null_reads_zeros_at_once_whatever_was_there() {
    let repository = probed(settings(&["null:"]));
    let pipeline = Pipeline::new(repository.clone());
    let (volume, window) = (repository.volume("v"), Window::from_vec(vec![7; 4096]));
    for _ in 0..3 {
        let written = pipeline.write(&volume, 0, &window, 4096, false).now_or_never();
        assert_eq!(written, Some(Ok(())));
        assert!(window.copy_in(100, &[9; 100]), "as the kernel does for a write");
        assert_eq!(pipeline.read(&volume, 0, &window, 512).now_or_never(), Some(Ok(())));
        assert_eq!(window.to_vec(512), [0; 512]);
        assert_eq!(pipeline.read_at_once(&window, 4096), Some(Ok(())));
        assert_eq!(window.to_vec(4096), [0; 4096]);
    }
    assert!(pipeline.read(&volume, 0, &window, 4097).now_or_never().expect("at once").is_err());
    // A server's data are not taken for zeros later.
    let server = Scripted::start(|_, asked| ok(asked)).await;
    repository.apply(settings(&[&server.url]));
    assert_eq!(pipeline.read_at_once(&window, 16), None);
    assert_eq!(pipeline.read(&volume, 0, &window, 16).await, Ok(()));
    repository.apply(settings(&["null:"]));
    assert_eq!(pipeline.read_at_once(&window, 4096), Some(Ok(())));
    assert_eq!(window.to_vec(4096), [0; 4096]);
}

/// A playground whose requests are counted by what probes do.
fn playground() -> (Playground, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("v"), vec![0; 1 << 20]).expect("a volume");
    (Playground::start(Config::ephemeral(folder.path())).expect("a playground"), folder)
}

#[tokio::test]
async fn writers_on_all_workers_wait_for_one_probe() {
    let (playground, folder) = playground();
    let mut limits = settings(&[playground.url()]);
    limits.req_timeout = Duration::from_secs(10);
    let repository = probed(limits);
    let workers = [Pipeline::new(repository.clone()), Pipeline::new(repository.clone())];
    local(async {
        assert_eq!(read(&workers[0], &repository, 0).await, None);
        assert_eq!(repository.status()[0].requests, 1, "reads need no probe");
        let writes = (0..16).map(|n| write(&workers[n % 2], &repository, 16 * n as u64));
        assert!(join_all(writes).await.iter().all(Option::is_none));
    })
    .await;
    // Create, size, write, size, read, delete.
    assert_eq!(repository.status()[0].requests, 1 + 6 + 16);
    assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 1);
}

#[tokio::test]
async fn a_probe_that_reached_nobody_is_an_unreachable_server_and_is_repeated() {
    let dead = nobody().await;
    let (playground, _folder) = playground();
    let mut limits = Settings { nb_req_retries: 1, ..settings(&[&dead]) };
    limits.req_timeout = Duration::from_secs(10);
    let repository = probed(limits.clone());
    let pipeline = Pipeline::new(repository.clone());
    local(async {
        assert_eq!(write(&pipeline, &repository, 0).await, Some(libc::ECONNREFUSED));
        assert_eq!(repository.status()[0].state, UrlState::Down);
        assert_eq!(repository.status()[0].unfit, None);
        limits.urls = settings(&[&dead, playground.url()]).urls;
        repository.apply(limits.clone());
        assert_eq!(write(&pipeline, &repository, 0).await, None, "the other path is probed");
    })
    .await;
}

#[tokio::test]
async fn servers_that_fail_the_probe() {
    // Each in its own way; none of them gets the write.
    type Deed = fn(&mut Vec<u8>, &Asked) -> Option<Vec<Do>>;
    let replaces: Deed = |file, asked| {
        file.clone_from(&asked.body);
        Some(status("204 No Content"))
    };
    let drops: Deed = |_, _| Some(status("204 No Content"));
    let misplaces: Deed = |file, asked| {
        file[..asked.body.len()].copy_from_slice(&asked.body);
        Some(status("204 No Content"))
    };
    for deed in [replaces, drops, misplaces] {
        let file = Mutex::new(Vec::new());
        let server = Scripted::start(move |_, asked| {
            let mut file = file.lock().expect("file");
            let truncate = asked.header("x-scal-truncate").map(|size| size.parse().expect("size"));
            let range = asked.header("range").and_then(|range| range.split(['=', '-']).nth(1));
            let first: usize = range.map_or(0, |first| first.parse().expect("first"));
            match (asked.line.split(' ').next(), truncate, range) {
                (Some("PUT"), Some(size), _) => file.resize(size, 0),
                (Some("PUT"), None, Some(_)) => {
                    if let Some(done) = deed(&mut file, asked) {
                        return done;
                    }
                }
                (Some("GET"), _, Some(_)) => {
                    let bytes = file.get(first..first + 8192).unwrap_or(&file);
                    return answer("206 Partial Content", &[], bytes);
                }
                (Some("GET"), ..) => return size(file.len() as u64),
                _ => {}
            }
            status("200 OK")
        })
        .await;
        let repository = probed(settings(&[&server.url]));
        let pipeline = Pipeline::new(repository.clone());
        local(async {
            assert_eq!(write(&pipeline, &repository, 0).await, Some(libc::EPROTO));
            let asked = server.asked().len();
            assert_eq!(write(&pipeline, &repository, 0).await, Some(libc::EPROTO));
            assert_eq!(server.asked().len(), asked, "the verdict is kept");
            assert!(server.lines().iter().all(|line| line.contains("/.srb-probe-")));
            assert!(server.lines().last().expect("asked").starts_with("DELETE "));
        })
        .await;
        assert!(repository.status()[0].unfit.is_some());
    }
}

#[tokio::test]
async fn idle_connections_are_closed_on_demand() {
    let server = Scripted::start(|_, asked| ok(asked)).await;
    let config = srb_agent::base::tuning::RestConfig {
        probe: false,
        idle_timeout: Duration::from_millis(30),
        ..Default::default()
    };
    let repository = Repository::new(config);
    repository.apply(settings(&[&server.url]));
    let pipeline: Rc<Pipeline> = Pipeline::new(repository.clone());
    for _ in 0..2 {
        assert_eq!(read(&pipeline, &repository, 0).await, None);
    }
    sleep(Duration::from_millis(40)).await;
    pipeline.close_idle();
    sleep(Duration::from_millis(20)).await;
    assert_eq!(read(&pipeline, &repository, 0).await, None);
    let asked: Vec<_> =
        server.asked().iter().map(|asked| (asked.connection, asked.ended)).collect();
    assert_eq!(asked, [(0, 0), (0, 0), (1, 1)]);
}
