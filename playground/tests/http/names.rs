// SPDX-License-Identifier: GPL-2.0-only
//! Names that try to leave the data folder, or that no file could have.

use std::os::unix::fs::symlink;

use crate::client::Server;

#[test]
fn names_that_are_none() {
    let server = Server::start();
    let outside = server.playground.datapath().parent().unwrap().join("outside");
    std::fs::write(&outside, "outside").unwrap();
    let long = "v".repeat(256);
    for name in [
        "..",
        ".",
        "%2e%2e",
        "../outside",
        "%2e%2e/outside",
        "..%2Foutside",
        "%2E%2E%2foutside",
        "/outside",
        "a/../../outside",
        "a/b",
        "%2Fetc%2Fpasswd",
        "v%00",
        "v%0a",
        "%7f",
        "%ff",
        "%",
        "%g1",
        long.as_str(),
    ] {
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            let reply = server.ask(&format!("{method} /{name}"), &[], b"");
            assert_eq!(reply.status, 400, "{method} {name}");
        }
    }
    assert_eq!(std::fs::read(&outside).unwrap(), b"outside");
    assert_eq!(server.playground.datapath().read_dir().unwrap().count(), 0);
}

#[test]
fn a_name_of_255_bytes_and_an_odd_one() {
    let server = Server::start();
    for name in ["v".repeat(255), String::from("%20%3F%23%25%2B%22%C3%A9")] {
        assert_eq!(server.ask(&format!("PUT /{name}"), &["If-None-Match: *"], b"x").status, 201);
        assert_eq!(server.ask(&format!("GET /{name}"), &[], b"").body, b"x");
    }
    assert!(server.file(" ?#%+\"é").exists());
}

#[test]
fn links_are_not_followed() {
    let server = Server::start();
    let outside = server.playground.datapath().parent().unwrap().join("outside");
    std::fs::write(&outside, "outside").unwrap();
    symlink("../outside", server.file("link")).unwrap();
    symlink("../nothing", server.file("dangling")).unwrap();
    for name in ["link", "dangling"] {
        for (method, headers) in [
            ("GET", &[][..]),
            ("GET", &["Range: bytes=0-1"]),
            ("HEAD", &[]),
            ("PUT", &[]),
            ("PUT", &["If-None-Match: *"]),
            ("PUT", &["X-Scal-Truncate: 0"]),
            ("DELETE", &[]),
        ] {
            let reply = server.ask(&format!("{method} /{name}"), headers, b"");
            assert_eq!(reply.status, 403, "{method} {headers:?}");
        }
        assert_eq!(server.ask(&format!("PUT /{name}"), &["Range: bytes=0-1"], b"ab").status, 403);
        assert_eq!(server.ask(&format!("GET /{name}?metadata"), &[], b"").status, 403);
    }
    assert_eq!(std::fs::read(&outside).unwrap(), b"outside");
    assert!(!outside.with_file_name("nothing").exists());
}
