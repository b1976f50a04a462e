// SPDX-License-Identifier: GPL-2.0-only
//! Connections: kept, many, slow, dropped; and the server's end under them.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use srb_playground::{Config, Playground, StartError};

use crate::client::{pattern, Client, Server, PATIENCE};

#[test]
fn a_connection_serves_many_requests_and_a_pipeline() {
    let server = Server::start();
    server.volume(b"0123456789");
    let mut client = server.connect();
    for _ in 0..200 {
        assert_eq!(client.ask("GET /v", &["Range: bytes=1-2"], b"").body, b"12");
    }
    let get = |range: &str| format!("GET /v HTTP/1.1\r\nHost: h\r\nRange: bytes={range}\r\n\r\n");
    client.send(get("0-0") + &get("1-1") + &get("99-99") + &get("2-2"));
    let statuses: Vec<u16> = (0..4).map(|_| client.reply(false).status).collect();
    assert_eq!(statuses, [206, 206, 416, 206]);
}

#[test]
fn writers_side_by_side_keep_their_places() {
    const WRITERS: usize = 8;
    const BLOCK: usize = 5000;
    let server = Server::start();
    assert_eq!(server.ask("PUT /v", &["If-None-Match: *"], &[0; WRITERS * BLOCK * 10]).status, 201);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.connect();
                for turn in 0..10 {
                    let first = (turn * WRITERS + writer) * BLOCK;
                    let range = format!("bytes={first}-{}", first + BLOCK - 1);
                    let data = [writer as u8 + 1; BLOCK];
                    let put = client.ask("PUT /v", &[&format!("Range: {range}")], &data);
                    assert_eq!(put.status, 204);
                    let get = client.ask("GET /v", &[&format!("Range: {range}")], b"");
                    assert_eq!(get.body, data);
                }
            });
        }
    });
    for (index, block) in server.content().chunks(BLOCK).enumerate() {
        assert!(block.iter().all(|&byte| usize::from(byte) == index % WRITERS + 1), "{index}");
    }
}

#[test]
fn one_of_many_creators_wins() {
    let server = Server::start();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let create = || server.ask("PUT /v", &["If-None-Match: *"], b"x").status;
        let creators: Vec<_> = (0..16).map(|_| scope.spawn(create)).collect();
        creators.into_iter().map(|creator| creator.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|&&status| status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|&&status| status == 412).count(), 15, "{statuses:?}");
}

#[test]
fn more_volumes_than_are_kept_open() {
    let server = Server::with(|config| config.limits.open_volumes = 2);
    let mut client = server.connect();
    for round in 0..2 {
        for volume in 0..7_u8 {
            let line = format!("PUT /v{volume}");
            assert_eq!(client.ask(&line, &[], &[volume; 8]).status, 201 + 3 * round);
            let get = client.ask(&format!("GET /v{volume}"), &["Range: bytes=3-4"], b"");
            assert_eq!(get.body, [volume; 2]);
        }
    }
}

#[test]
fn a_volume_made_anew_is_not_the_old_one() {
    let server = Server::start();
    let second = Playground::start(Config::ephemeral(server.playground.datapath())).unwrap();
    let mut other = Client::connect(second.address());
    let mut client = server.connect();
    for round in 0..3_u8 {
        assert_eq!(client.ask("PUT /v", &["If-None-Match: *"], &[round; 4]).status, 201);
        for client in [&mut client, &mut other] {
            assert_eq!(client.ask("GET /v", &["Range: bytes=0-3"], b"").body, [round; 4]);
        }
        assert_eq!(other.ask("DELETE /v", &[], b"").status, 204);
        assert_eq!(client.ask("GET /v", &["Range: bytes=0-3"], b"").status, 404);
    }
}

#[test]
fn a_volume_cut_while_it_is_read_gives_a_short_body() {
    let server = Server::start();
    assert_eq!(
        server.ask("PUT /v", &["If-None-Match: *", "X-Scal-Truncate: 67108864"], b"").status,
        201
    );
    let mut client = server.connect();
    client.send("GET /v HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.head().header("content-length"), Some("67108864"));
    assert_eq!(server.ask("PUT /v", &["X-Scal-Truncate: 0"], b"").status, 200);
    assert!(client.rest().len() < 67_108_864);
}

#[test]
fn bounds_on_heads() {
    let server = Server::with(|config| config.limits.head_timeout = Duration::from_millis(100));
    let mut slow = server.connect();
    slow.send("GET / HTTP/1.1\r\nHost:");
    slow.rest();
    let mut large = server.connect();
    large.send(format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(200_000)));
    assert_eq!(large.reply(false).status, 200);
    let mut larger = server.connect();
    larger.send(format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}", "x".repeat(270_000)));
    assert_eq!(larger.head().status, 431);
    let mut many = server.connect();
    many.send(format!("GET / HTTP/1.1\r\n{}\r\n", "X: x\r\n".repeat(101)));
    assert_eq!(many.reply(false).status, 431);
    let mut none = server.connect();
    none.send("nonsense\r\n\r\n");
    assert_eq!(none.reply(false).status, 400);
}

#[test]
fn connections_beyond_the_limit_wait() {
    let server = Server::with(|config| config.limits.connections = 1);
    let mut first = server.connect();
    assert_eq!(first.ask("GET /", &[], b"").status, 200);
    let mut second = server.connect();
    second.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    std::thread::sleep(Duration::from_millis(50));
    drop(first);
    assert_eq!(second.reply(false).status, 200);
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_is_dropped() {
    let server = Server::with(|config| {
        config.limits.connections = 1;
        config.limits.body_timeout = Duration::from_millis(200);
    });
    let headers = ["If-None-Match: *", "X-Scal-Truncate: 67108864", "Connection: close"];
    assert_eq!(server.ask("PUT /v", &headers, b"").status, 201);
    let mut stuck = server.connect();
    stuck.send("GET /v HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(stuck.head().status, 200);
    // There is room for one connection: this answer says that the other one is gone.
    assert_eq!(server.ask("GET /", &[], b"").status, 200);
    assert!(stuck.rest().len() < 67_108_864);
}

#[test]
fn shutdown_closes_idle_connections_and_bounds_the_others() {
    let server = Server::with(|config| config.limits.drain_timeout = Duration::from_millis(200));
    server.volume(b"0123456789");
    let mut idle = server.connect();
    assert_eq!(idle.ask("GET /", &[], b"").status, 200);
    let mut stuck = server.connect();
    stuck.send("PUT /v HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nRange: bytes=2-6\r\n\r\nab");
    std::thread::sleep(Duration::from_millis(50));
    let address = server.playground.address();
    let began = Instant::now();
    server.playground.shutdown();
    assert!(began.elapsed() < PATIENCE / 4, "{:?}", began.elapsed());
    assert_eq!((idle.rest(), stuck.rest()), (Vec::new(), Vec::new()));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn shutdown_lets_a_request_end() {
    let server = Server::start();
    let data = pattern(32 * 1024 * 1024);
    server.volume(&data);
    let mut client = server.connect();
    client.send("GET /v HTTP/1.1\r\nHost: h\r\n\r\n");
    let head = client.head();
    assert_eq!(head.status, 200);
    let reader = std::thread::spawn(move || client.rest());
    server.playground.shutdown();
    assert!(reader.join().unwrap() == data);
}

#[test]
fn kill_drops_connections_and_the_port_is_free_again() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::ephemeral(folder.path());
    let server = Playground::start(config.clone()).unwrap();
    let address = server.address();
    let mut client = Client::connect(address);
    client.send("PUT /v HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab");
    let began = Instant::now();
    server.kill();
    assert!(began.elapsed() < PATIENCE / 4);
    client.rest();
    let again = Playground::start(Config { port: address.port(), ..config }).unwrap();
    assert_eq!(Client::connect(again.address()).ask("GET /v", &[], b"").status, 404);
}

#[test]
fn what_cannot_start_says_why() {
    let server = Server::start();
    let config = Config::ephemeral(server.playground.datapath());
    let taken = Config { port: server.playground.address().port(), ..config.clone() };
    let error = Playground::start(taken).unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }));
    assert!(error.to_string().contains("--port"), "{error}");
    let elsewhere = Config { listen: "192.0.2.1".parse().unwrap(), ..config.clone() };
    assert!(matches!(Playground::start(elsewhere), Err(StartError::Listen { .. })));
    server.volume(b"");
    let file = Config { datapath: server.file("v"), ..config.clone() };
    assert!(matches!(Playground::start(file), Err(StartError::Datapath { .. })));
    let path = Config { path: String::from("/a/../b"), ..config };
    assert!(matches!(Playground::start(path), Err(StartError::Path { .. })));
}
