// SPDX-License-Identifier: GPL-2.0-only
//! Ranges: what is taken, what is refused, and that a refused write writes nothing.

use crate::client::Server;

#[test]
fn reads_are_clipped_to_the_volume() {
    let server = Server::start();
    server.volume(b"0123456789");
    for (range, content_range, body) in [
        ("bytes=0-0", "bytes 0-0/10", "0"),
        ("bytes=8-8", "bytes 8-8/10", "8"),
        ("bytes=8-9", "bytes 8-9/10", "89"),
        ("bytes=8-10", "bytes 8-9/10", "89"),
        ("bytes=8-99999999999999999999", "bytes 8-9/10", "89"),
        ("bytes=7-", "bytes 7-9/10", "789"),
        ("bytes=-2", "bytes 8-9/10", "89"),
        ("bytes=-20", "bytes 0-9/10", "0123456789"),
    ] {
        let reply = server.ask("GET /v", &[&format!("Range: {range}")], b"");
        assert_eq!((reply.status, reply.text()), (206, body), "{range}");
        assert_eq!(reply.header("content-range"), Some(content_range), "{range}");
    }
}

#[test]
fn reads_of_nothing_and_of_nonsense() {
    let server = Server::start();
    server.volume(b"0123456789");
    let mut client = server.connect();
    for range in ["bytes=10-10", "bytes=10-", "bytes=-0", "bytes=18446744073709551615-"] {
        let reply = client.ask("GET /v", &[&format!("Range: {range}")], b"");
        assert_eq!((reply.status, reply.header("content-range")), (416, Some("bytes */10")));
    }
    for range in ["bytes", "bytes=", "bytes=-", "bytes=2-1", "bytes=0-1,3-4", "bytes=a-b", "x=1-2"]
    {
        assert_eq!(client.ask("GET /v", &[&format!("Range: {range}")], b"").status, 400, "{range}");
    }
    assert_eq!(client.ask("GET /v", &["Range: bytes=0-1", "Range: bytes=0-1"], b"").status, 400);
    assert_eq!(client.ask("GET /w", &["Range: bytes=0-1"], b"").status, 404);
}

#[test]
fn writes_by_range_or_content_range() {
    let server = Server::start();
    server.volume(b"0123456789");
    for headers in [
        &["Range: bytes=1-2"][..],
        &["Content-Range: bytes 3-4/10"],
        &["Content-Range: bytes 5-6/*"],
        &["Range: bytes=8-9", "Content-Range: bytes 8-9/10"],
    ] {
        assert_eq!(server.ask("PUT /v", headers, b"ab").status, 204, "{headers:?}");
    }
    assert_eq!(server.content(), b"0ababab7ab");
}

#[test]
fn refused_writes_write_nothing() {
    let server = Server::start();
    server.volume(b"0123456789");
    let mut client = server.connect();
    for header in [
        "Range: bytes=9-10",
        "Range: bytes=10-11",
        "Range: bytes=9223372036854775806-9223372036854775807",
        "Content-Range: bytes 9-10/10",
        "Content-Range: bytes 0-1/11",
    ] {
        let reply = client.ask("PUT /v", &[header], b"ab");
        let shown = (reply.status, reply.header("content-range"));
        assert_eq!(shown, (416, Some("bytes */10")), "{header}");
    }
    for header in [
        "Range: bytes=0-2",
        "Range: bytes=0-0",
        "Range: bytes=0-",
        "Range: bytes=-2",
        "Range: bytes=1-0",
        "Range: bytes=0-1,4-5",
        "Range: 0-1",
        "Content-Range: bytes 0-1",
        "Content-Range: bytes 0-1/-1",
        "Content-Range: bytes */10",
        "If-None-Match: \"tag\"",
        "X-Scal-Truncate: 5",
        "X-Scal-Truncate: -5",
        "X-Scal-Truncate: 9223372036854775808",
    ] {
        assert_eq!(client.ask("PUT /v", &[header], b"ab").status, 400, "{header}");
    }
    for other in ["Content-Range: bytes 0-2/*", "X-Scal-Truncate: 5", "If-None-Match: *"] {
        assert_eq!(client.ask("PUT /v", &["Range: bytes=0-1", other], b"ab").status, 400);
    }
    assert_eq!(client.ask("PUT /v", &["Range: bytes=0-1"], b"").status, 400);
    assert_eq!(client.ask("PUT /w", &["Range: bytes=0-1"], b"ab").status, 404);
    assert_eq!(server.content(), b"0123456789");
    assert!(!server.file("w").exists());
}

#[test]
fn lenient_takes_the_first_byte_and_the_body() {
    let server = Server::with(|config| config.lenient = true);
    server.volume(&[0; 8192]);
    let mut client = server.connect();
    let head = "PUT /v HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\
                Content-Range: bytes 4096-4608/-1\r\n\r\n";
    client.send([head.as_bytes(), b"200\r\n", &[7; 512], b"\r\n0\r\n\r\n"].concat());
    assert_eq!(client.reply(false).status, 204);
    assert_eq!(client.ask("PUT /v", &["Range: bytes=8190-8192"], b"ab").status, 204);
    assert_eq!(client.ask("PUT /v", &["Content-Range: bytes 0-0/5"], b"xyz").status, 204);
    let content = server.content();
    assert_eq!(content.len(), 8192);
    assert_eq!(content[4096..4608], [7; 512]);
    assert!(content[4608..8190].iter().all(|&byte| byte == 0));
    assert_eq!((&content[..4], &content[8190..]), (&b"xyz\0"[..], &b"ab"[..]));

    for range in ["bytes=8191-8191", "bytes=8193-8194"] {
        let reply = client.ask("PUT /v", &[&format!("Range: {range}")], b"12");
        assert_eq!((reply.status, reply.header("content-range")), (416, Some("bytes */8192")));
    }
    client.send([head.as_bytes(), b"1001\r\n", &[9; 4097], b"\r\n0\r\n\r\n"].concat());
    assert_eq!(client.reply(false).status, 416);
    assert_eq!(server.content().len(), 8192);
}
