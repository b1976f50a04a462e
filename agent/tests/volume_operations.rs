// SPDX-License-Identifier: GPL-2.0-only
//! Volumes happen whole or not at all, whatever is lost on the way.

mod rest_support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use nix::libc;
use rest_support::*;
use srb_agent::base::settings::Settings;
use srb_agent::volume::Volumes;
use tokio::time::{sleep, timeout};

const SIZE: u64 = 1 << 20;

/// What a request of a creation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Create,
    SetSize,
    Size,
    Delete,
    List,
}

fn step(asked: &Asked) -> Step {
    match asked.line.split(' ').next() {
        Some("DELETE") => Step::Delete,
        Some("PUT") if asked.header("x-scal-truncate").is_some() => Step::SetSize,
        Some("PUT") => Step::Create,
        _ if asked.line.ends_with("?metadata") => Step::Size,
        _ => Step::List,
    }
}

/// A server whose answers depend on the step and on how often there was that step before.
async fn server(script: impl Fn(Step, usize) -> Vec<Do> + Send + Sync + 'static) -> Scripted {
    let seen = std::sync::Mutex::new(Vec::new());
    Scripted::start(move |_, asked| {
        let step = step(asked);
        let mut seen = seen.lock().expect("steps");
        let before = seen.iter().filter(|other| **other == step).count();
        seen.push(step);
        script(step, before)
    })
    .await
}

fn steps(server: &Scripted) -> Vec<Step> {
    server.asked().iter().map(step).collect()
}

fn volumes(server: &Scripted, retries: u32) -> Volumes {
    Volumes::new(unprobed(Settings { nb_req_retries: retries, ..settings(&[&server.url]) }))
}

#[tokio::test]
async fn a_create_is_two_requests() {
    let server = server(|_, _| status("204 No Content")).await;
    assert_eq!(local(volumes(&server, 0).create("a b", SIZE, false)).await, Ok(()));
    let asked = server.asked();
    assert_eq!(server.lines(), ["PUT /a%20b", "PUT /a%20b"]);
    assert_eq!(asked[0].header("if-none-match"), Some("*"));
    assert_eq!(asked[1].header("if-none-match"), None);
    assert_eq!(asked[1].header("x-scal-truncate"), Some("1048576"));
    for asked in asked {
        assert_eq!((asked.header("content-length"), asked.header("range")), (Some("0"), None));
    }
}

#[tokio::test]
async fn what_exists_is_eexist_and_left_alone() {
    let server = server(|_, _| status("412 Precondition Failed")).await;
    let error = local(volumes(&server, 3).create("v", SIZE, false)).await.expect_err("exists");
    assert_eq!((error.errno(), error.tries()), (libc::EEXIST, 1), "{error}");
    assert_eq!(steps(&server), [Step::Create]);
}

#[tokio::test]
async fn a_lost_reply_is_no_false_eexist() {
    for lost in [vec![Do::Hang], vec![Do::Close], vec![Do::Reset], status("502 Bad Gateway")] {
        let server = server(move |step, before| match (step, before) {
            (Step::Create, 0) => lost.clone(),
            (Step::Create, _) => status("412 Precondition Failed"),
            (Step::Size, _) => size(0),
            _ => status("200 OK"),
        })
        .await;
        assert_eq!(local(volumes(&server, 3).create("v", SIZE, false)).await, Ok(()));
        assert_eq!(steps(&server), [Step::Create, Step::Create, Step::Size, Step::SetSize]);
    }
}

#[tokio::test]
async fn connections_that_turn_out_dead_make_no_false_answer() {
    // Each answer is the last one of its connection, which does not say so.
    let server = server(|step, before| {
        let mut script = match (step, before) {
            (Step::Size, ..3) => size(4096),
            (Step::Create, _) => status("412 Precondition Failed"),
            _ => status("404 Not Found"),
        };
        script.push(Do::Close);
        script
    })
    .await;
    local(async {
        let volumes = volumes(&server, 0);
        assert_eq!(volumes.stat("v").await, Ok(4096));
        let error = volumes.create("v", SIZE, false).await.expect_err("exists");
        assert_eq!(error.errno(), libc::EEXIST);
        while steps(&server).iter().filter(|step| **step == Step::Size).count() < 3 {
            assert_eq!(volumes.stat("v").await, Ok(4096));
        }
        assert_eq!(volumes.destroy("v", false).await.expect_err("gone").errno(), libc::ENOENT);
    })
    .await;
}

#[tokio::test]
async fn a_question_that_could_not_be_asked_is_no_answer() {
    // The first PUT is carried out and not answered; then nothing works, then all does.
    let server = server(|step, before| match (step, before) {
        (Step::Create, 0) => vec![Do::Close],
        (Step::Create, _) => status("412 Precondition Failed"),
        (Step::Size, 0..2) => status("500 Internal Server Error"),
        (Step::Size, _) => size(0),
        _ => status("204 No Content"),
    })
    .await;
    local(async {
        let volumes = volumes(&server, 1);
        let error = volumes.create("v", SIZE, false).await.expect_err("nobody can tell");
        assert_eq!(error.errno(), libc::EIO, "{error}");
        assert!(error.to_string().contains("it may have been created, empty"), "{error}");
        assert_eq!(volumes.create("v", SIZE, false).await, Ok(()), "the same command again");
        // And then it is a volume like any other.
        let error = volumes.create("v", SIZE, false).await.expect_err("it exists");
        assert_eq!(error.errno(), libc::EEXIST, "{error}");
    })
    .await;
}

#[tokio::test]
async fn an_extend_of_which_nobody_can_tell_can_be_repeated() {
    let server = server(|step, before| match (step, before) {
        (Step::Size, 0) => size(4096),
        (Step::Size, 1) => vec![Do::Reset],
        (Step::Size, _) => size(8192),
        _ => vec![Do::Close],
    })
    .await;
    local(async {
        let volumes = volumes(&server, 0);
        let error = volumes.extend("v", 8192, false).await.expect_err("nobody can tell");
        assert!(error.to_string().contains("it may have been extended"), "{error}");
        assert_eq!(volumes.extend("v", 8192, false).await, Ok(()));
        let error = volumes.extend("v", 8192, false).await.expect_err("would not grow");
        assert_eq!(error.errno(), libc::EINVAL, "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_destroy_of_which_nobody_can_tell_can_be_repeated() {
    let server = server(|step, before| match (step, before) {
        (Step::Size, 0) => size(4096),
        (Step::Size, 1..3) => status("500 Internal Server Error"),
        (Step::Size, _) => status("404 Not Found"),
        _ => vec![Do::Close],
    })
    .await;
    local(async {
        let volumes = volumes(&server, 1);
        let error = volumes.destroy("v", false).await.expect_err("nobody can tell");
        assert!(error.to_string().contains("it may have been deleted"), "{error}");
        assert_eq!(volumes.destroy("v", false).await, Ok(()));
        assert_eq!(volumes.destroy("v", false).await.expect_err("gone").errno(), libc::ENOENT);
    })
    .await;
}

#[tokio::test]
async fn nothing_is_deleted_when_nobody_can_tell_whether_it_is_there() {
    let server = server(|_, _| status("503 Service Unavailable")).await;
    let error = local(volumes(&server, 1).destroy("v", false)).await.expect_err("down");
    assert_eq!(error.errno(), libc::EIO, "{error}");
    assert_eq!(steps(&server), [Step::Size; 2]);
}

#[tokio::test]
async fn a_lost_reply_does_not_make_somebody_elses_volume_ours() {
    for taken in [512, SIZE] {
        let server = server(move |step, before| match (step, before) {
            (Step::Create, 0) => vec![Do::Close],
            (Step::Create, _) => status("412 Precondition Failed"),
            (Step::Size, _) => size(taken),
            _ => status("200 OK"),
        })
        .await;
        let error = local(volumes(&server, 3).create("v", SIZE, false)).await.expect_err("taken");
        assert_eq!(error.errno(), libc::EEXIST);
        assert_eq!(steps(&server), [Step::Create, Step::Create, Step::Size]);
    }
}

#[tokio::test]
async fn a_repeated_create_takes_what_an_earlier_agent_made() {
    for (found, errno, last) in [
        (0, None, Step::SetSize),
        (SIZE, None, Step::Size),
        (SIZE / 2, Some(libc::EEXIST), Step::Size),
    ] {
        let server = server(move |step, _| match step {
            Step::Create => status("412 Precondition Failed"),
            Step::Size => size(found),
            _ => status("200 OK"),
        })
        .await;
        let created = local(volumes(&server, 0).create("v", SIZE, true)).await;
        assert_eq!(created.err().map(|error| error.errno()), errno, "{found}");
        assert_eq!(steps(&server).last(), Some(&last));
    }
}

#[tokio::test]
async fn a_create_whose_second_half_fails_is_undone() {
    let server = server(|step, _| match step {
        Step::SetSize => status("507 Insufficient Storage"),
        _ => status("204 No Content"),
    })
    .await;
    let error = local(volumes(&server, 3).create("v", SIZE, false)).await.expect_err("full");
    assert_eq!(error.errno(), libc::ENOSPC);
    assert!(error.to_string().ends_with("what was done is undone (1 try)"), "{error}");
    assert!(error.to_string().starts_with("create of volume v with 1048576 bytes: "), "{error}");
    assert_eq!(steps(&server), [Step::Create, Step::SetSize, Step::Delete]);
}

#[tokio::test]
async fn a_create_that_cannot_be_undone_says_so() {
    let server = server(|step, _| match step {
        Step::Create => status("201 Created"),
        Step::SetSize => status("500 Internal Server Error"),
        _ => status("403 Forbidden"),
    })
    .await;
    let error = local(volumes(&server, 1).create("v", SIZE, false)).await.expect_err("broken");
    assert_eq!((error.errno(), error.tries()), (libc::EIO, 2));
    let text = error.to_string();
    assert!(text.contains("a volume may be left, undoing failed"), "{text}");
    assert!(text.contains("403 Forbidden") && text.contains("500 Internal"), "{text}");
}

#[tokio::test]
async fn a_create_that_was_never_answered_leaves_nothing() {
    for (found, errno, last) in [(0, libc::EIO, Step::Delete), (512, libc::EEXIST, Step::Size)] {
        let server = server(move |step, _| match step {
            Step::Create => vec![Do::Close],
            Step::Size => size(found),
            _ => status("204 No Content"),
        })
        .await;
        let error = local(volumes(&server, 1).create("v", SIZE, false)).await.expect_err("lost");
        assert_eq!(error.errno(), errno, "{error}");
        assert_eq!(steps(&server).last(), Some(&last));
    }
}

#[tokio::test]
async fn a_create_that_is_dropped_is_undone() {
    // In the first request, in the second one, and while the result waits to be taken.
    for (slow, expected) in [
        (Some(Step::Create), vec![Step::Create, Step::Delete]),
        (Some(Step::SetSize), vec![Step::Create, Step::SetSize, Step::Delete]),
        (None, vec![Step::Create, Step::SetSize, Step::Delete]),
    ] {
        let server = server(move |step, _| {
            let wait = if slow == Some(step) { 150 } else { 0 };
            let mut script = vec![Do::Pause(Duration::from_millis(wait))];
            script.extend(status("204 No Content"));
            script
        })
        .await;
        local(async {
            let volumes = volumes(&server, 0);
            let mut create = Box::pin(volumes.create("v", SIZE, false));
            match slow {
                Some(_) => assert!(timeout(Duration::from_millis(70), &mut create).await.is_err()),
                None => {
                    assert!(futures_util::poll!(&mut create).is_pending());
                    sleep(Duration::from_millis(70)).await;
                }
            }
            drop(create);
            volumes.settle().await;
        })
        .await;
        assert_eq!(steps(&server), expected, "{slow:?}");
    }
}

#[tokio::test]
async fn a_create_that_is_dropped_deletes_nothing_that_it_did_not_make() {
    let server = server(|step, _| match step {
        Step::Create => {
            let mut script = vec![Do::Pause(Duration::from_millis(100))];
            script.extend(status("412 Precondition Failed"));
            script
        }
        _ => status("204 No Content"),
    })
    .await;
    local(async {
        let volumes = volumes(&server, 0);
        let _ = timeout(Duration::from_millis(20), volumes.create("v", SIZE, false)).await;
        volumes.settle().await;
    })
    .await;
    assert_eq!(steps(&server), [Step::Create]);
}

#[tokio::test]
async fn a_create_is_undone_while_the_server_restarts() {
    let down = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&down);
    let server = server(move |step, before| match (step, before) {
        (Step::SetSize, _) => vec![Do::Close],
        (Step::Delete, 0..2) => {
            seen.store(true, Ordering::Relaxed);
            status("503 Service Unavailable")
        }
        _ => status("204 No Content"),
    })
    .await;
    let error = local(volumes(&server, 3).create("v", SIZE, false)).await.expect_err("broken");
    assert!(error.to_string().contains("what was done is undone"), "{error}");
    assert!(down.load(Ordering::Relaxed));
}

#[tokio::test]
async fn destroy_after_a_lost_reply() {
    let server = server(|step, before| match (step, before) {
        (Step::Size, 0) => size(4096),
        (Step::Delete, 0) => vec![Do::Close],
        _ => status("404 Not Found"),
    })
    .await;
    local(async {
        let volumes = volumes(&server, 3);
        assert_eq!(volumes.destroy("v", false).await, Ok(()));
        assert_eq!(volumes.destroy("v", true).await, Ok(()));
        assert_eq!(volumes.destroy("v", false).await.expect_err("gone").errno(), libc::ENOENT);
    })
    .await;
}

#[tokio::test]
async fn extend_only_grows() {
    let server = server(|step, _| match step {
        Step::Size => size(4096),
        _ => status("200 OK"),
    })
    .await;
    local(async {
        let volumes = volumes(&server, 0);
        for (size, repeated) in [(512, false), (4096, false), (512, true)] {
            let error = volumes.extend("v", size, repeated).await.expect_err("smaller");
            assert_eq!(error.errno(), libc::EINVAL);
            assert!(error.to_string().contains("it would not grow: it has 4096 bytes"), "{error}");
        }
        assert_eq!(volumes.extend("v", 4096, true).await, Ok(()));
        assert!(!steps(&server).contains(&Step::SetSize));
        assert_eq!(volumes.extend("v", 8192, false).await, Ok(()));
        assert_eq!(steps(&server).last(), Some(&Step::SetSize));
    })
    .await;
}

#[tokio::test]
async fn an_extend_whose_reply_was_lost_has_happened() {
    let server = server(|step, before| match (step, before) {
        (Step::Size, 0) => size(4096),
        (Step::Size, _) => size(8192),
        _ => vec![Do::Close],
    })
    .await;
    assert_eq!(local(volumes(&server, 1).extend("v", 8192, false)).await, Ok(()));
}

#[tokio::test]
async fn the_listing_is_asked_for_and_shown_without_scratch_volumes() {
    let server = server(|step, _| match step {
        Step::List => {
            let json = r#"{"children":["b",".srb-probe-1000000000-ab","a",".srb-probe-x",]}"#;
            answer("200 OK", &["content-type: application/cdmi-container"], json)
        }
        _ => status("204 No Content"),
    })
    .await;
    local(async {
        let volumes = volumes(&server, 0);
        assert_eq!(volumes.list().await, Ok(vec!["a".to_owned(), "b".to_owned()]));
        volumes.settle().await;
    })
    .await;
    assert_eq!(server.lines(), ["GET /", "DELETE /.srb-probe-1000000000-ab"]);
    assert_eq!(server.asked()[0].header("x-cdmi-specification-version"), Some("1.0.1"));
}

#[tokio::test]
async fn on_null_every_volume_exists_and_none_can_be_changed() {
    let repository = probed(settings(&["null:1G"]));
    local(async {
        let volumes = Volumes::new(repository);
        assert_eq!(volumes.list().await, Ok(vec![]));
        assert_eq!(volumes.stat("any").await, Ok(1 << 30));
        assert_eq!(
            volumes.create("any", 1, false).await.expect_err("exists").errno(),
            libc::EEXIST
        );
        assert_eq!(volumes.extend("any", 1, false).await.expect_err("fixed").errno(), libc::EINVAL);
        assert_eq!(volumes.destroy("any", false).await.expect_err("fixed").errno(), libc::EINVAL);
    })
    .await;
}

#[tokio::test]
async fn without_a_url_there_is_nothing_to_ask() {
    local(async {
        let volumes = Volumes::new(probed(settings(&[])));
        let errors = [
            volumes.list().await.map(drop),
            volumes.stat("v").await.map(drop),
            volumes.create("v", 512, false).await,
            volumes.extend("v", 512, false).await,
            volumes.destroy("v", false).await,
        ];
        for error in errors {
            assert_eq!(error.expect_err("no URL").errno(), libc::EDESTADDRREQ);
        }
    })
    .await;
}

#[tokio::test]
async fn a_create_whose_probe_failed_touches_no_volume() {
    let server = Scripted::start(|_, asked| match step(asked) {
        Step::Create => vec![Do::Close],
        Step::Size => size(0),
        _ => status("204 No Content"),
    })
    .await;
    local(async {
        let volumes = Volumes::new(probed(settings(&[&server.url])));
        let error = volumes.create("v", SIZE, false).await.expect_err("not probed");
        assert!(error.to_string().contains("when it was probed for ranges"), "{error}");
        assert!(!error.may_have_happened());
    })
    .await;
    assert!(
        server.lines().iter().all(|line| line.contains("/.srb-probe-")),
        "{:?}",
        server.lines()
    );
}
