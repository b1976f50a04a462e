// SPDX-License-Identifier: GPL-2.0-only
//! Each deviation that the server can imitate.

use srb_playground::Quirk;

use crate::client::{pattern, Server};

fn quirky(name: &str) -> Server {
    let quirk: Quirk = name.parse().unwrap();
    Server::with(|config| config.quirks = [quirk].into_iter().collect())
}

#[test]
fn reply_200() {
    let server = quirky("reply-200");
    let data = pattern(300_000);
    server.volume(&data);
    for (first, last) in [(5, 9), (1, 200_000)] {
        let reply = server.ask("GET /v", &[&format!("Range: bytes={first}-{last}")], b"");
        assert_eq!((reply.status, reply.header("content-range")), (200, None));
        assert!(reply.body == data[first..=last]);
    }
    assert_eq!(server.ask("GET /v", &["Range: bytes=300000-300001"], b"").status, 416);
}

#[test]
fn trailing_comma() {
    let server = quirky("trailing-comma");
    assert!(server.ask("GET /", &[], b"").text().ends_with(r#""children":[]}"#));
    server.volume(b"");
    assert_eq!(server.ask("PUT /w%5D%7D", &[], b"").status, 201);
    assert!(server.ask("GET /", &[], b"").text().ends_with(r#""children":["v","w]}",]}"#));
}

#[test]
fn size_as_string() {
    let server = quirky("size-as-string");
    server.volume(b"12345");
    assert_eq!(server.ask("GET /v?metadata", &[], b"").json()["metadata"]["cdmi_size"], "5");
}

#[test]
fn close_after() {
    let server = quirky("close-after=3");
    let data = pattern(3 * 1024 * 1024);
    server.volume(&data);
    for last in ["GET /v", "GET /v?metadata", "HEAD /v", "DELETE /w", "PUT /w"] {
        let mut client = server.connect();
        for _ in 0..2 {
            assert_eq!(client.ask("GET /v", &["Range: bytes=0-1"], b"").status, 206);
        }
        let reply = client.ask(last, &[], b"");
        assert_eq!(reply.header("connection"), None, "{last}");
        assert_eq!(client.rest(), b"", "{last}");
        assert!(last != "GET /v" || reply.body == data);
    }
}

#[test]
fn close_after_one_request_of_a_pipeline() {
    let server = quirky("close-after=1");
    for _ in 0..20 {
        let mut client = server.connect();
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(3));
        assert_eq!(client.reply(false).status, 200);
        assert_eq!(client.rest(), b"");
    }
}

#[test]
fn ignore_range() {
    let server = quirky("ignore-range");
    server.volume(b"0123456789");
    for range in ["bytes=1-2", "bytes=90-99", "nonsense"] {
        let reply = server.ask("GET /v", &[&format!("Range: {range}")], b"");
        assert_eq!((reply.status, reply.text()), (200, "0123456789"));
        assert_eq!(reply.header("accept-ranges"), None);
    }
    assert_eq!(server.ask("HEAD /v", &[], b"").header("accept-ranges"), None);
    assert_eq!(server.ask("PUT /v", &["Range: bytes=4-5"], b"ab").status, 204);
    assert_eq!(server.content(), b"ab");
}
