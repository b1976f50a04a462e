// SPDX-License-Identifier: GPL-2.0-only
//! What happens when this process may open no more files. Alone in its process, which it starves.

mod rest_support;

use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::resource::{getrlimit, setrlimit, Resource};
use rest_support::*;
use srb_agent::base::errors::ErrorKind;
use srb_agent::base::settings::Settings;
use srb_agent::base::window::Window;
use srb_agent::paths::UrlState;
use srb_agent::volume::Pipeline;
use tokio::time::sleep;

#[tokio::test]
async fn a_machine_without_descriptors_makes_requests_wait_and_no_url_down() {
    let dead = nobody().await;
    let repository = unprobed(Settings { nb_req_retries: 0, ..settings(&[&dead]) });
    let pipeline = Pipeline::new(repository.clone());
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, 0, hard).expect("lowered");
    let (volume, window) = (repository.volume("v"), Window::from_vec(vec![0; 16]));
    let later = async {
        sleep(Duration::from_millis(400)).await;
        let state = repository.status()[0].clone();
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("raised");
        state
    };
    let (read, status) = tokio::join!(pipeline.read(&volume, 0, &window, 16), later);
    assert_eq!((status.state, status.requests, status.errors), (UrlState::Unknown, 0, 0));
    let why = status.last_error.expect("a reason");
    assert!(why.contains("this machine has nothing left to connect with"), "{why}");
    // It has been asked at last, and counts from there.
    let error = read.expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.tries() > 2, "{error}");
    assert_eq!(repository.status()[0].requests, 1);
    // For no longer than all tries may take: 0.3 s to connect, 0.3 s to answer, and 2 s.
    setrlimit(Resource::RLIMIT_NOFILE, 0, hard).expect("lowered");
    let start = Instant::now();
    let error = pipeline.read(&volume, 0, &window, 16).await.expect_err("starved");
    let took = start.elapsed();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("raised");
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Shortage, libc::EIO), "{error}");
    assert!(error.to_string().contains("there is no time left"), "{error}");
    assert!((Duration::from_secs(2)..Duration::from_secs(4)).contains(&took), "{took:?}");
}
