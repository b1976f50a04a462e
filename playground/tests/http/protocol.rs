// SPDX-License-Identifier: GPL-2.0-only
//! Each operation of the protocol, as a client of the original's server asks for it.

use std::os::unix::fs::MetadataExt;

use crate::client::{pattern, Server};

#[test]
fn the_life_of_a_volume() {
    let server = Server::start();
    let mut client = server.connect();
    let created = client.ask("PUT /v", &["If-None-Match: *"], b"");
    assert_eq!((created.status, created.header("content-length")), (201, Some("0")));
    assert_eq!(client.ask("PUT /v", &["X-Scal-Truncate: 1048576"], b"").status, 200);
    assert_eq!(client.ask("GET /v?metadata", &[], b"").json()["metadata"]["cdmi_size"], 1_048_576);

    let data = pattern(4096);
    let written = client.ask("PUT /v", &["Range: bytes=8192-12287"], &data);
    assert_eq!((written.status, written.body.len()), (204, 0));
    let read = client.ask("GET /v", &["Range: bytes=8192-12287"], b"");
    assert_eq!(read.status, 206);
    assert_eq!(read.header("content-range"), Some("bytes 8192-12287/1048576"));
    assert_eq!(read.body, data);

    assert_eq!(client.ask("DELETE /v", &[], b"").status, 204);
    assert_eq!(client.ask("DELETE /v", &[], b"").status, 404);
    assert_eq!(client.ask("GET /v?metadata", &[], b"").status, 404);
    assert!(client.ask("GET /", &[], b"").text().contains(r#""children":[]"#));
}

#[test]
fn the_listing_is_sorted_json_of_the_volumes_alone() {
    let server = Server::start();
    for name in ["b", "a", "c%20%22d", "%C3%A9"] {
        assert_eq!(server.ask(&format!("PUT /{name}"), &["If-None-Match: *"], b"").status, 201);
    }
    std::fs::create_dir(server.file("folder")).unwrap();
    std::os::unix::fs::symlink("a", server.file("link")).unwrap();
    std::fs::write(server.file("control\n"), "").unwrap();
    let list = server.ask("GET /", &["X-CDMI-Specification-Version: 1.0.1"], b"");
    assert_eq!(list.status, 200);
    assert_eq!(list.header("content-type"), Some("application/cdmi-container"));
    assert_eq!(list.header("x-cdmi-specification-version"), Some("1.0.1"));
    assert_eq!(list.json()["children"], serde_json::json!(["a", "b", "c \"d", "é"]));
    let head = server.ask("HEAD /", &[], b"");
    assert_eq!(head.header("content-length"), Some(list.body.len().to_string().as_str()));
}

#[test]
fn metadata_gives_the_size_as_a_number() {
    let server = Server::start();
    server.volume(b"12345");
    let metadata = server.ask("GET /v?metadata", &[], b"");
    assert_eq!(metadata.header("content-type"), Some("application/cdmi-object"));
    assert_eq!(metadata.json()["metadata"], serde_json::json!({ "cdmi_size": 5 }));
    assert_eq!(server.ask("HEAD /v?metadata", &[], b"").status, 200);
}

#[test]
fn create_refuses_what_exists() {
    let server = Server::start();
    server.volume(b"old");
    for headers in [&["If-None-Match: *"][..], &["If-None-Match: *", "X-Scal-Truncate: 1"]] {
        assert_eq!(server.ask("PUT /v", headers, b"").status, 412);
    }
    assert_eq!(server.ask("PUT /v", &["If-None-Match: *"], b"new").status, 412);
    assert_eq!(server.content(), b"old");
}

#[test]
fn create_with_a_size_is_one_step() {
    let server = Server::start();
    let headers = ["If-None-Match: *", "X-Scal-Truncate: 1099511627776"];
    assert_eq!(server.ask("PUT /v", &headers, b"").status, 201);
    let metadata = server.file("v").metadata().unwrap();
    assert_eq!((metadata.len(), metadata.blocks()), (1 << 40, 0), "sparse");
}

#[test]
fn truncate_sets_the_size_both_ways() {
    let server = Server::start();
    assert_eq!(server.ask("PUT /v", &["X-Scal-Truncate: 10"], b"").status, 404);
    server.volume(b"0123456789");
    for (size, content) in [("4", &b"0123"[..]), ("6", b"0123\0\0"), ("0", b"")] {
        assert_eq!(server.ask("PUT /v", &[&format!("X-Scal-Truncate: {size}")], b"").status, 200);
        assert_eq!(server.content(), content);
    }
}

#[test]
fn a_put_of_neither_replaces_the_object() {
    let server = Server::start();
    assert_eq!(server.ask("PUT /v", &[], b"first and long").status, 201);
    assert_eq!(server.ask("GET /v", &[], b"").body, b"first and long");
    assert_eq!(server.ask("PUT /v", &[], b"second").status, 204);
    assert_eq!(server.ask("GET /v", &[], b"").body, b"second");
    assert_eq!(server.ask("PUT /v", &[], b"").status, 204);
    assert_eq!(server.content(), b"");
    assert_eq!(std::fs::read_dir(server.playground.datapath()).unwrap().count(), 1);
}

#[test]
fn head_tells_length_and_ranges() {
    let server = Server::start();
    assert_eq!(server.ask("HEAD /v", &[], b"").status, 404);
    server.volume(&pattern(5000));
    let mut client = server.connect();
    let head = client.ask("HEAD /v", &[], b"");
    assert_eq!((head.status, head.header("content-length")), (200, Some("5000")));
    assert_eq!(head.header("accept-ranges"), Some("bytes"));
    assert_eq!(client.ask("HEAD /v", &["Range: bytes=0-1"], b"").status, 200);
}

#[test]
fn a_large_volume_streams_in_both_directions() {
    let server = Server::start();
    let data = pattern(5 * 1024 * 1024 + 17);
    server.volume(&data);
    let mut client = server.connect();
    let whole = client.ask("GET /v", &[], b"");
    assert_eq!((whole.status, whole.header("content-range")), (200, None));
    assert!(whole.body == data);
    let part = client.ask("GET /v", &["Range: bytes=100000-3000000"], b"");
    assert!(part.status == 206 && part.body == data[100_000..=3_000_000]);
    let part = pattern(2_000_001);
    assert_eq!(client.ask("PUT /v", &["Range: bytes=7-2000007"], &part).status, 204);
    let content = server.content();
    assert!(content[7..=2_000_007] == part && content[..7] == data[..7]);
    assert!(content[2_000_008..] == data[2_000_008..]);
}

#[test]
fn a_repository_below_a_prefix() {
    let server = Server::with(|config| config.path = String::from("store/one/"));
    assert!(server.playground.url().ends_with("/store/one/"));
    assert_eq!(server.ask("PUT /store/one/v", &["If-None-Match: *"], b"x").status, 201);
    for path in ["/store/one", "/store/one/"] {
        let list = server.ask(&format!("GET {path}"), &[], b"");
        assert_eq!(list.json()["children"], serde_json::json!(["v"]), "{path}");
    }
    for outside in ["/", "/v", "/store/", "/store/onev"] {
        assert_eq!(server.ask(&format!("GET {outside}"), &[], b"").status, 404, "{outside}");
    }
}

#[test]
fn other_methods_and_queries_are_refused() {
    let server = Server::start();
    server.volume(b"x");
    for (line, allow) in [
        ("POST /v", "GET, HEAD, PUT, DELETE"),
        ("PATCH /v", "GET, HEAD, PUT, DELETE"),
        ("PUT /", "GET, HEAD"),
        ("DELETE /", "GET, HEAD"),
        ("PUT /v?metadata", "GET, HEAD"),
    ] {
        let reply = server.ask(line, &[], b"body");
        assert_eq!((reply.status, reply.header("allow")), (405, Some(allow)), "{line}");
    }
    for line in ["GET /v?size", "GET /?metadata", "DELETE /v?metadata=1"] {
        assert_eq!(server.ask(line, &[], b"").status, 400, "{line}");
    }
    assert_eq!(server.content(), b"x");
}

#[test]
fn changes_wait_for_the_disk_when_told_to() {
    let server = Server::with(|config| config.sync = true);
    server.volume(b"0123");
    assert_eq!(server.ask("PUT /v", &["Range: bytes=1-2"], b"ab").status, 204);
    assert_eq!(server.ask("PUT /v", &["X-Scal-Truncate: 3"], b"").status, 200);
    assert_eq!(server.content(), b"0ab");
    assert_eq!(server.ask("DELETE /v", &[], b"").status, 204);
}
