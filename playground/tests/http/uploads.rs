// SPDX-License-Identifier: GPL-2.0-only
//! Bodies of requests: chunked, awaited, cut off, slow, too long, unwanted.

use std::time::Duration;

use crate::client::{pattern, Server};

const CHUNKED: &str = "PUT /v HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n";
const AWAITED: &str = "PUT /v HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n";

#[test]
fn a_chunked_write() {
    let server = Server::start();
    server.volume(b"0123456789");
    let mut client = server.connect();
    client.send(format!(
        "{CHUNKED}Range: bytes=2-6\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: t\r\n\r\n"
    ));
    assert_eq!(client.reply(false).status, 204);
    assert_eq!(server.content(), b"01abcde789");
    client.send(format!("{CHUNKED}X-Scal-Truncate: 4\r\n\r\n0\r\n\r\n"));
    assert_eq!(client.reply(false).status, 200);
    client.send(format!("{CHUNKED}X-Scal-Truncate: 2\r\n\r\n1\r\nx\r\n0\r\n\r\n"));
    assert_eq!(client.reply(false).status, 400);
    assert_eq!(server.content(), b"01ab");
}

#[test]
fn a_chunked_body_of_another_length_stays_within_its_range() {
    let server = Server::start();
    server.volume(b"0123456789");
    let mut client = server.connect();
    client.send(format!("{CHUNKED}Range: bytes=2-6\r\n\r\n3\r\nabc\r\n0\r\n\r\n"));
    assert_eq!(client.reply(false).status, 400);
    assert_eq!(server.content(), b"01abc56789", "what came is written");
    client.send(format!("{CHUNKED}Range: bytes=2-3\r\n\r\n1\r\nx\r\n"));
    std::thread::sleep(Duration::from_millis(50));
    client.send("4\r\nlong\r\n0\r\n\r\n");
    assert_eq!(client.reply(false).status, 400);
    assert_eq!(server.content(), b"01xbc56789", "the piece that went beyond is not");
    assert_eq!(client.ask("GET /v", &["Range: bytes=0-0"], b"").status, 206, "kept alive");
}

#[test]
fn continue_is_sent_for_a_body_that_is_wanted() {
    let server = Server::start();
    server.volume(b"0123456789");
    let mut client = server.connect();
    client.send(format!("{AWAITED}Range: bytes=2-3\r\nContent-Length: 2\r\n\r\n"));
    assert_eq!(client.head().status, 100);
    client.send("ab");
    assert_eq!(client.reply(false).status, 204);
    assert_eq!(server.content(), b"01ab456789");
}

#[test]
fn continue_is_not_sent_for_a_body_that_is_refused() {
    let server = Server::start();
    server.volume(b"0123456789");
    for (header, status) in [
        ("Range: bytes=9-10", 416),
        ("Range: bytes=0-2", 400),
        ("If-None-Match: *", 412),
        ("X-Scal-Truncate: 1", 400),
    ] {
        let mut client = server.connect();
        client.send(format!("{AWAITED}{header}\r\nContent-Length: 2\r\n\r\n"));
        assert_eq!(client.head().status, status, "{header}");
    }
    assert_eq!(server.content(), b"0123456789");
}

#[test]
fn a_refused_body_is_taken_so_that_the_answer_arrives() {
    let server = Server::start();
    let mut client = server.connect();
    let body = pattern(4 * 1024 * 1024);
    assert_eq!(client.ask("PUT /v", &["Range: bytes=0-4194303"], &body).status, 404);
    assert_eq!(client.ask("GET /", &[], b"").status, 200, "kept alive");
}

#[test]
fn a_body_cut_off_changes_no_more_than_came() {
    let server = Server::start();
    server.volume(b"0123456789");
    for head in [
        "PUT /v HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab",
        "PUT /w HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nIf-None-Match: *\r\n\r\nab",
    ] {
        server.connect().send(head);
    }
    let mut client = server.connect();
    client.send("PUT /v HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nRange: bytes=2-6\r\n\r\nab");
    drop(client);
    let deadline = std::time::Instant::now() + crate::client::PATIENCE;
    let settled = || {
        let files = server.playground.datapath().read_dir().unwrap().count();
        files == 1 && server.content() == b"01ab456789"
    };
    while !settled() {
        assert!(std::time::Instant::now() < deadline, "{:?}", server.content());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(server.ask("GET /w", &[], b"").status, 404);
}

#[test]
fn a_body_that_stops_arriving_is_given_up() {
    let server = Server::with(|config| config.limits.body_timeout = Duration::from_millis(100));
    server.volume(b"0123456789");
    let mut client = server.connect();
    client.send("PUT /v HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nRange: bytes=2-6\r\n\r\nab");
    assert_eq!(client.reply(false).status, 408);
    assert_eq!(client.rest(), b"");
}
