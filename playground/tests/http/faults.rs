// SPDX-License-Identifier: GPL-2.0-only
//! Each kind of fault: what is on the wire, and whether a write is applied.

use std::time::{Duration, Instant};

use crate::client::{pattern, Client, End, Server, PATIENCE};

const TEN: &[u8] = b"0123456789";
const GET: &str = "GET /v HTTP/1.1\r\nHost: h\r\nRange: bytes=2-7\r\n\r\n";
const PUT: &str = "PUT /v HTTP/1.1\r\nHost: h\r\nRange: bytes=2-5\r\nContent-Length: 4\r\n\r\nabcd";
const APPLIED: &[u8] = b"01abcd6789";

/// A server whose volume `v` is there; only ranged requests meet the fault.
fn faulty(fault: &str) -> Server {
    let plan = format!("any:100%:{fault}").parse().unwrap();
    let server = Server::with(|config| config.faults = Some(plan));
    server.volume(TEN);
    server
}

fn send(server: &Server, request: impl AsRef<[u8]>) -> Client {
    let mut client = server.connect();
    client.send(request);
    client
}

/// Waits for what happens apart from the client.
fn eventually(server: &Server, content: &[u8]) {
    let deadline = Instant::now() + PATIENCE;
    while server.content() != content {
        assert!(Instant::now() < deadline, "{:?}", server.content());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn end_of(bytes: &[u8]) -> (String, Vec<u8>) {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    (String::from_utf8(bytes[..end].to_vec()).unwrap(), bytes[end..].to_vec())
}

#[test]
fn delay_does_it_at_once_and_answers_later() {
    let server = faulty("delay=3600000");
    let mut client = send(&server, PUT);
    eventually(&server, APPLIED);
    assert!(client.is_silent());
    let server = faulty("delay=100..110");
    let began = Instant::now();
    let mut client = send(&server, PUT);
    assert_eq!(client.reply(false).status, 204);
    assert!(began.elapsed() >= Duration::from_millis(100), "{:?}", began.elapsed());
    assert_eq!(client.ask("GET /v", &["Range: bytes=2-3"], b"").body, b"ab", "kept alive");
}

#[test]
fn statuses_do_nothing_and_keep_the_connection() {
    for (fault, status, retry_after) in [
        ("status=400", 400, None),
        ("status=599", 599, None),
        ("busy=7", 429, Some("7")),
        ("full", 507, None),
    ] {
        let server = faulty(fault);
        let mut client = send(&server, PUT);
        for _ in 0..2 {
            let reply = client.reply(false);
            assert_eq!((reply.status, reply.header("retry-after")), (status, retry_after));
            client.send(GET);
        }
        assert_eq!(client.reply(false).status, status);
        assert_eq!(client.ask("GET /v", &[], b"").body, TEN, "control requests are spared");
    }
}

#[test]
fn a_status_takes_a_large_body_first() {
    let server = faulty("status=503");
    let body = pattern(4 * 1024 * 1024);
    let mut client = server.connect();
    assert_eq!(client.ask("PUT /v", &["Range: bytes=0-4194303"], &body).status, 503);
    assert_eq!(client.ask("GET /v", &[], b"").body, TEN);
}

#[test]
fn reset_before() {
    let server = faulty("reset-before");
    for request in [GET, PUT] {
        assert_eq!(send(&server, request).end(), (Vec::new(), End::Reset));
    }
    assert_eq!(server.content(), TEN);
}

#[test]
fn reset_amid_a_read_comes_after_half_of_the_body() {
    let server = faulty("reset-amid");
    let mut client = send(&server, GET);
    let head = client.head();
    assert_eq!((head.status, head.header("content-length")), (206, Some("6")));
    assert_eq!(client.end(), (b"234".to_vec(), End::Reset));
    let data = pattern(3 * 1024 * 1024);
    assert_eq!(server.ask("PUT /v", &[], &data).status, 204);
    let mut client = send(&server, GET.replace("2-7", "0-3000000"));
    assert_eq!(client.head().header("content-length"), Some("3000001"));
    let (body, end) = client.end();
    assert!(body == data[..1_500_000] && end == End::Reset, "{end:?} after {}", body.len());
}

#[test]
fn reset_amid_a_write_applies_nothing() {
    let server = faulty("reset-amid");
    assert_eq!(send(&server, PUT).end(), (Vec::new(), End::Reset));
    // The half that is waited for comes without the other one.
    let mut client = send(&server, &PUT[..PUT.len() - 3]);
    std::thread::sleep(Duration::from_millis(50));
    client.send("b");
    assert_eq!(client.end(), (Vec::new(), End::Reset));
    assert_eq!(server.content(), TEN);
}

#[test]
fn reset_after() {
    let server = faulty("reset-after");
    let data = pattern(3 * 1024 * 1024);
    assert_eq!(server.ask("PUT /v", &[], &data).status, 204);
    let mut client = send(&server, GET.replace("2-7", "1-3000000"));
    let reply = client.reply(false);
    assert_eq!(
        (reply.status, reply.header("content-range")),
        (206, Some("bytes 1-3000000/3145728"))
    );
    assert!(reply.body == data[1..=3_000_000]);
    assert_eq!(client.end(), (Vec::new(), End::Reset));
    let mut client = send(&server, PUT);
    assert_eq!(client.reply(false).status, 204);
    assert_eq!(client.end(), (Vec::new(), End::Reset));
    assert_eq!(server.content()[..6], *b"\0\x01abcd");
}

#[test]
fn short_body() {
    let server = faulty("short-body");
    let mut client = send(&server, GET);
    assert_eq!(client.head().header("content-length"), Some("6"));
    assert_eq!(client.end(), (b"234".to_vec(), End::Closed));
    // An answer without a body is cut in its head.
    let (cut, end) = send(&server, PUT).end();
    assert!(b"HTTP/1.1 204 No Content\r\n\r\n".starts_with(&cut) && cut.len() == 13, "{cut:?}");
    assert_eq!((end, server.content()), (End::Closed, APPLIED.to_vec()));
}

#[test]
fn long_body() {
    let server = faulty("long-body");
    let mut client = send(&server, GET);
    let reply = client.reply(false);
    assert_eq!((reply.header("content-length"), &reply.body[..]), (Some("6"), &b"234567"[..]));
    assert_eq!(client.end(), (vec![b'+'; 512], End::Closed));
    let (bytes, end) = send(&server, PUT).end();
    let (head, rest) = end_of(&bytes);
    assert!(head.starts_with("HTTP/1.1 204 "), "{head}");
    assert_eq!((rest, end), (vec![b'+'; 512], End::Closed));
    assert_eq!(server.content(), APPLIED);
}

#[test]
fn wrong_range() {
    let plan = "read:100%:wrong-range".parse().unwrap();
    let server = Server::with(|config| config.faults = Some(plan));
    server.volume(TEN);
    let mut client = server.connect();
    for (asked, claimed, body) in [
        ("2-4", "bytes 5-7/10", "567"),
        ("7-9", "bytes 4-6/10", "456"),
        ("6-40", "bytes 2-5/10", "2345"),
        ("0-9", "bytes 1152921504606846977-1152921504606846986/*", "0123456789"),
        ("-3", "bytes 1152921504606846977-1152921504606846979/*", "789"),
    ] {
        let reply = client.ask("GET /v", &[&format!("Range: bytes={asked}")], b"");
        assert_eq!((reply.status, reply.text()), (206, body), "{asked}");
        assert_eq!(reply.header("content-range"), Some(claimed), "{asked}");
    }
    // Refusals are what they are, also where another range of their text's length exists.
    let long = pattern(300);
    assert_eq!(server.ask("PUT /v", &[], &long).status, 204);
    for first in 300..400 {
        let range = format!("Range: bytes={first}-{first}");
        assert_eq!(client.ask("GET /v", &[&range], b"").status, 416);
    }
    let twice = ["Range: bytes=0-1", "Range: bytes=0-1"];
    assert_eq!(client.ask("GET /v", &twice, b"").status, 400);
    client.send(PUT);
    assert_eq!(client.reply(false).status, 204);
}

#[test]
fn garbage() {
    let server = faulty("garbage");
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let (bytes, end) = send(&server, GET).end();
        assert_eq!(end, End::Closed);
        seen.insert(bytes);
    }
    let http = |bytes: &&Vec<u8>| bytes.starts_with(b"HTTP/1.1 200 OK\r\n");
    assert_eq!((seen.len(), seen.iter().filter(http).count()), (2, 1));
    assert!(!send(&server, PUT).rest().is_empty());
    assert_eq!(server.content(), APPLIED);
}

#[test]
fn lost_reply() {
    let server = faulty("lost-reply");
    assert_eq!(send(&server, PUT).end(), (Vec::new(), End::Closed));
    assert_eq!(server.content(), APPLIED);
    assert_eq!(send(&server, GET).end(), (Vec::new(), End::Closed));
}

#[test]
fn late_closes_at_once_and_applies_after_the_time() {
    let server = faulty("late=200");
    let began = Instant::now();
    assert_eq!(send(&server, PUT).end(), (Vec::new(), End::Closed));
    eventually(&server, APPLIED);
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
    assert_eq!(send(&server, GET).end(), (Vec::new(), End::Closed));
    assert!(server.playground.faults().flush_late(PATIENCE));
    assert_eq!(server.playground.faults().report().late_pending, 0);
}

#[test]
fn late_lands_over_what_was_written_meanwhile() {
    let server = faulty("late=3600000");
    let faults = server.playground.faults();
    assert_eq!(send(&server, PUT).rest(), b"");
    assert_eq!((server.content(), faults.report().late_pending), (TEN.to_vec(), 1));
    faults.clear();
    let mut client = send(&server, PUT.replace("abcd", "wxyz"));
    assert_eq!(client.reply(false).status, 204);
    assert_eq!(server.content(), b"01wxyz6789");
    assert!(faults.flush_late(PATIENCE));
    assert_eq!(server.content(), APPLIED);
}

#[test]
fn late_without_a_known_length_is_applied_at_once() {
    let server = faulty("late=3600000");
    let chunked = "PUT /v HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\
                   Range: bytes=2-5\r\n\r\n4\r\nabcd\r\n0\r\n\r\n";
    assert_eq!(send(&server, chunked).end(), (Vec::new(), End::Closed));
    assert_eq!(server.content(), APPLIED);
    assert_eq!(server.playground.faults().report().late_pending, 0);
}

#[test]
fn late_without_room_is_applied_at_once() {
    let server = Server::start();
    server.volume(TEN);
    server.playground.faults().set("control:100%:late=3600000".parse().unwrap());
    let body = vec![7; 65 * 1024 * 1024];
    let mut client = server.connect();
    client.send(format!("PUT /v HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len()));
    client.send(&body);
    assert_eq!(client.end(), (Vec::new(), End::Closed));
    assert!(server.content() == body);
    // Nothing of the room is lost.
    assert_eq!(
        send(&server, "PUT /v HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx").rest(),
        b""
    );
    assert_eq!(server.playground.faults().report().late_pending, 1);
}

#[test]
fn late_asks_for_a_body_that_waits() {
    let server = faulty("late=3600000");
    let (head, body) = PUT.split_at(PUT.len() - 4);
    let mut client = send(&server, head.replace("Host", "Expect: 100-continue\r\nHost"));
    assert_eq!(client.head().status, 100);
    client.send(body);
    assert_eq!(client.end(), (Vec::new(), End::Closed));
    assert!(server.playground.faults().flush_late(PATIENCE));
    assert_eq!(server.content(), APPLIED);
}

#[test]
fn freeze_holds_a_request_and_then_does_it() {
    let server = faulty("freeze=200");
    let began = Instant::now();
    let mut client = send(&server, PUT);
    let early = server.content();
    assert!(early == TEN || began.elapsed() >= Duration::from_millis(200));
    assert_eq!(client.reply(false).status, 204);
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
    assert_eq!(server.content(), APPLIED);
    assert_eq!(client.ask("GET /v", &["Range: bytes=2-3"], b"").body, b"ab", "kept alive");
    assert_eq!(server.playground.faults().report().held, 0);
}

#[test]
fn freeze_also_does_it_for_a_client_that_gave_up() {
    let server = faulty("freeze=1000");
    let client = send(&server, PUT);
    let deadline = Instant::now() + PATIENCE;
    while server.playground.faults().report().held != 1 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(client);
    eventually(&server, APPLIED);
}

#[test]
fn ignore_range() {
    let server = faulty("ignore-range");
    let mut client = send(&server, GET);
    let reply = client.reply(false);
    assert_eq!((reply.status, &reply.body[..]), (200, TEN));
    client.send(PUT);
    assert_eq!(client.reply(false).status, 204);
    assert_eq!(server.content(), b"abcd");
}

#[test]
fn control_requests_meet_faults_too() {
    let faulty = |fault: &str| {
        let server = Server::start();
        server.volume(TEN);
        server.playground.faults().set(format!("control:100%:{fault}").parse().unwrap());
        server
    };
    let server = faulty("short-body");
    let (listing, _) = send(&server, "GET / HTTP/1.1\r\nHost: h\r\n\r\n").end();
    assert!(end_of(&listing).1.starts_with(b"{\"objectType\":") && !listing.ends_with(b"}"));
    let (head, _) = send(&server, "HEAD /v HTTP/1.1\r\nHost: h\r\n\r\n").end();
    assert!(!head.is_empty() && !head.ends_with(b"\r\n\r\n"), "half of a head");
    let (head, _) = send(&faulty("reset-after"), "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").end();
    let (head, body) = end_of(&head);
    assert!(head.contains("\r\ncontent-length: ") && body.is_empty(), "{head}");
    let delete = "DELETE /v HTTP/1.1\r\nHost: h\r\n\r\n";
    for fault in ["reset-before", "reset-amid", "status=500", "late=3600000"] {
        let server = faulty(fault);
        let close = delete.replace("Host", "Connection: close\r\nHost");
        send(&server, close).rest();
        assert_eq!(server.content(), TEN, "{fault}");
        let gone = server.playground.faults().flush_late(PATIENCE);
        assert!(gone && server.file("v").exists() != fault.starts_with("late"), "{fault}");
    }
    let server = faulty("lost-reply");
    assert_eq!(send(&server, delete).end(), (Vec::new(), End::Closed));
    assert!(!server.file("v").exists());
}
