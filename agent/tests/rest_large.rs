// SPDX-License-Identifier: GPL-2.0-only
//! Large reads, whose bodies go past the connection's buffer, against servers that send them in
//! every way.

mod rest_support;

use std::time::Duration;

use nix::libc;
use rest_support::*;
use srb_agent::base::errors::{ErrorKind, RequestError};
use srb_agent::base::settings::Settings;
use srb_agent::base::window::Window;
use srb_agent::volume::Pipeline;

const LEN: usize = 256 << 10;
const SPARE: usize = 16;

fn bytes() -> Vec<u8> {
    (0..LEN).map(|at| u8::try_from((at / 7) % 251).expect("small")).collect()
}

fn head(version: &str, headers: &str) -> String {
    format!("{version} 206 Partial Content\r\ncontent-length: {LEN}\r\n{headers}\r\n")
}

/// The whole answer, in pieces of this size and with pauses in between.
fn in_pieces(size: usize) -> Vec<Do> {
    let whole = [head("HTTP/1.1", "").as_bytes(), &bytes()].concat();
    whole.chunks(size).flat_map(|piece| [raw(piece), Do::Pause(Duration::from_millis(2))]).collect()
}

/// Reads from 512 on, so many times; one connection at a time.
async fn reads(times: usize, server: &Scripted) -> Result<(), RequestError> {
    reads_within(Duration::from_secs(20), times, server).await
}

async fn reads_within(
    req_timeout: Duration,
    times: usize,
    server: &Scripted,
) -> Result<(), RequestError> {
    let settings = Settings { nb_req_retries: 1, req_timeout, ..settings(&[&server.url]) };
    let repository = unprobed(settings);
    let pipeline = Pipeline::new(repository.clone());
    for _ in 0..times {
        let window = Window::from_vec(vec![0xee; LEN + SPARE]);
        pipeline.read(&repository.volume("v"), 512, &window, LEN).await?;
        assert!(window.to_vec(LEN) == bytes());
        assert_eq!(window.to_vec(LEN + SPARE)[LEN..], [0xee; SPARE], "nothing beyond");
    }
    Ok(())
}

/// The connections that the requests came on.
fn connections(server: &Scripted) -> Vec<usize> {
    server.asked().iter().map(|asked| asked.connection).collect()
}

#[tokio::test]
async fn however_it_comes_it_arrives_and_its_connection_serves_on() {
    let half = head("HTTP/1.1", "").len() + LEN / 2;
    for size in [LEN * 2, half, 100_000, 16_001, 1 << 12] {
        let server = Scripted::start(move |_, _| in_pieces(size)).await;
        assert_eq!(reads(3, &server).await, Ok(()), "{size}");
        assert_eq!(connections(&server), [0, 0, 0], "{size}");
    }
}

#[tokio::test]
async fn small_requests_go_on_where_a_large_one_was() {
    let server = Scripted::start(|number, _| match number % 2 {
        0 => answer("206 Partial Content", &[], bytes()),
        _ => answer("206 Partial Content", &[], [b'x'; 16]),
    })
    .await;
    let repository = unprobed(settings(&[&server.url]));
    let pipeline = Pipeline::new(repository.clone());
    let volume = repository.volume("v");
    for _ in 0..4 {
        let window = Window::from_vec(vec![0; LEN]);
        assert_eq!(pipeline.read(&volume, 0, &window, LEN).await, Ok(()));
        assert!(window.to_vec(LEN) == bytes());
        assert_eq!(pipeline.read(&volume, 0, &window, 16).await, Ok(()));
        assert_eq!(window.to_vec(16), [b'x'; 16]);
    }
    assert_eq!(connections(&server), [0; 8]);
}

#[tokio::test]
async fn connections_that_the_server_ends_are_not_used_again() {
    let close = head("HTTP/1.1", "connection: close\r\n");
    for (head, end) in [
        (close, Do::Pause(Duration::ZERO)),
        (head("HTTP/1.0", ""), Do::Pause(Duration::ZERO)),
        // Without a word, at once and a little later.
        (head("HTTP/1.1", ""), Do::Close),
        (head("HTTP/1.1", "x: y\r\n"), Do::Pause(Duration::from_millis(5))),
    ] {
        let script = vec![raw(&head), raw(bytes()), end, Do::Close];
        let server = Scripted::start(move |_, _| script.clone()).await;
        assert_eq!(reads(3, &server).await, Ok(()), "{head}");
        assert_eq!(connections(&server), [0, 1, 2], "{head}");
    }
}

#[tokio::test]
async fn what_comes_after_it_is_never_an_answer() {
    let long = [&bytes()[..], b"JUNK"].concat();
    for script in [
        vec![raw([head("HTTP/1.1", "").as_bytes(), &long].concat())],
        vec![raw(head("HTTP/1.1", "")), Do::Pause(Duration::from_millis(20)), raw(&long)],
        vec![
            raw(head("HTTP/1.1", "")),
            raw(bytes()),
            Do::Pause(Duration::from_millis(5)),
            raw("X"),
        ],
    ] {
        let server = Scripted::start(move |_, _| script.clone()).await;
        let repository = unprobed(settings(&[&server.url]));
        let pipeline = Pipeline::new(repository.clone());
        for _ in 0..3 {
            let window = Window::from_vec(vec![0; LEN]);
            match pipeline.read(&repository.volume("v"), 512, &window, LEN).await {
                // It came too late to be seen.
                Ok(()) => assert!(window.to_vec(LEN) == bytes()),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Garbage),
            }
            server.idle().await;
        }
        let used = connections(&server);
        assert!(used.iter().copied().eq(0..used.len()), "one request on each: {used:?}");
    }
}

#[tokio::test]
async fn one_that_breaks_off_is_tried_again() {
    let part = |len: usize| raw([head("HTTP/1.1", "").as_bytes(), &bytes()[..len]].concat());
    for script in [
        vec![part(0), Do::Close],
        vec![part(5000), Do::Close],
        vec![part(LEN - 1), Do::Close],
        vec![part(LEN - 1), Do::Pause(Duration::from_millis(20)), Do::Reset],
    ] {
        let broken = script.clone();
        let server = Scripted::start(move |_, _| broken.clone()).await;
        let error = reads(1, &server).await.expect_err("half of it");
        let seen = (error.kind(), error.errno(), server.asked().len());
        assert_eq!(seen, (ErrorKind::Broken, libc::EIO, 2), "{error}");
        // And then succeeds.
        let server = Scripted::start(move |number, _| match number {
            0 => script.clone(),
            _ => in_pieces(100_000),
        })
        .await;
        assert_eq!(reads(1, &server).await, Ok(()));
    }
}

#[tokio::test]
async fn one_that_hangs_is_left_in_time() {
    let half = [head("HTTP/1.1", "").as_bytes(), &bytes()[..LEN / 2]].concat();
    let server = Scripted::start(move |_, _| vec![raw(&half), Do::Hang]).await;
    let limit = Duration::from_millis(300);
    let error = reads_within(limit, 1, &server).await.expect_err("half of it");
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Timeout, libc::ETIMEDOUT));
    assert_eq!(server.asked()[1].ended, 1, "the first connection was closed before the next try");
}

#[tokio::test]
async fn chunked_it_arrives_as_well() {
    let mut script =
        vec![raw("HTTP/1.1 206 Partial Content\r\ntransfer-encoding: chunked\r\n\r\n")];
    for piece in bytes().chunks(50_000) {
        let len = format!("{:x}\r\n", piece.len());
        script.push(raw([len.as_bytes(), piece, b"\r\n"].concat()));
    }
    script.push(raw("0\r\n\r\n"));
    let server = Scripted::start(move |_, _| script.clone()).await;
    assert_eq!(reads(2, &server).await, Ok(()));
    assert_eq!(connections(&server), [0, 0]);
}
