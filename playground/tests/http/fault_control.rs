// SPDX-License-Identifier: GPL-2.0-only
//! Faults of a running server: plans put in force and ended, freezing, counts, the admin API.

use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::client::{Client, Reply, Server, PATIENCE};

const GET: (&str, &[&str]) = ("GET /v", &["Range: bytes=0-1"]);

fn server() -> Server {
    let server = Server::with(|config| config.admin_port = Some(0));
    server.volume(b"0123456789");
    server
}

fn admin(server: &Server, line: &str, body: &str) -> Reply {
    let address = server.playground.admin_address().unwrap();
    assert!(address.ip().is_loopback());
    Client::connect(address).ask(line, &[], body.as_bytes())
}

fn report(server: &Server) -> Value {
    admin(server, "GET /faults", "").json()
}

#[test]
fn a_seed_gives_the_same_answers_again() {
    let statuses = |seed: u64| -> Vec<u16> {
        let server = server();
        let plan = format!("seed={seed} read:20%:status=503 read:10%:busy=1").parse().unwrap();
        server.playground.faults().set(plan);
        let mut client = server.connect();
        let ask = |client: &mut Client| client.ask(GET.0, GET.1, b"").status;
        (0..200).map(|_| ask(&mut client)).collect()
    };
    let first = statuses(7);
    assert_eq!(first, statuses(7));
    assert_ne!(first, statuses(8));
    for status in [206, 429, 503] {
        assert!(first.contains(&status), "{status}");
    }
}

#[test]
fn counts_are_of_the_plan_and_of_all_plans() {
    let server = server();
    let fresh = report(&server);
    assert_eq!(fresh["plan"], Value::Null);
    assert_eq!((&fresh["requests"], &fresh["faulty"]), (&json!(0), &json!(0)));
    let put = admin(&server, "PUT /faults", "seed=3 read:100%:busy=1 control:0%:full");
    assert_eq!((put.status, put.header("content-type")), (200, Some("application/json")));
    for _ in 0..3 {
        assert_eq!(server.ask(GET.0, GET.1, b"").status, 429);
        assert_eq!(server.ask("GET /v", &[], b"").status, 200);
    }
    let counted = report(&server);
    assert_eq!(counted["plan"], "seed=3 read:100%:busy=1 control:0%:full");
    assert_eq!(counted["seed"], 3);
    assert_eq!((&counted["requests"], &counted["faulty"]), (&json!(6), &json!(3)));
    assert_eq!(counted["rules"][0], json!({"rule": "read:100%:busy=1", "hits": 3}));
    assert_eq!(counted["rules"][1]["hits"], 0);
    assert_eq!((&counted["kinds"]["busy"], &counted["kinds"]["full"]), (&json!(3), &json!(0)));
    assert_eq!(counted["kinds"].as_object().unwrap().len(), srb_playground::Kind::ALL.len());
    admin(&server, "PUT /faults", "all:100%:status=500");
    assert_eq!(server.ask(GET.0, GET.1, b"").status, 500);
    let second = report(&server);
    assert_eq!((&second["requests"], &second["faulty"]), (&json!(1), &json!(4)));
    assert_eq!(admin(&server, "DELETE /faults", "").json()["plan"], Value::Null);
    assert_eq!(server.ask(GET.0, GET.1, b"").status, 206);
    assert_eq!(report(&server)["faulty"], 4);
}

#[test]
fn a_bad_plan_is_refused_and_the_old_one_stays() {
    let server = server();
    admin(&server, "PUT /faults", "all:100%:status=500");
    for (text, part) in [
        ("all:1%:explode", r#""all:1%:explode": kinds are"#),
        ("", "at least one rule"),
        ("all:60%:full any:60%:full", "above 100%"),
    ] {
        let refused = admin(&server, "PUT /faults", text);
        assert_eq!(refused.status, 400);
        assert!(refused.json()["error"].as_str().unwrap().contains(part), "{}", refused.text());
    }
    let long = admin(&server, "PUT /faults", &" ".repeat(100_000));
    assert_eq!(long.status, 400);
    assert_eq!(report(&server)["plan"], "seed=0 all:100%:status=500");
}

#[test]
fn other_paths_and_methods_of_the_admin_api() {
    let server = server();
    for path in ["/", "/fault", "/faults/", "/late", "/late/flush/now"] {
        assert_eq!(admin(&server, &format!("GET {path}"), "").status, 404, "{path}");
    }
    for (line, allow) in [
        ("POST /faults", "GET, PUT, DELETE"),
        ("GET /freeze", "POST"),
        ("PUT /thaw", "POST"),
        ("DELETE /late/flush", "POST"),
    ] {
        let reply = admin(&server, line, "");
        assert_eq!((reply.status, reply.header("allow")), (405, Some(allow)), "{line}");
    }
    assert_eq!(Server::start().playground.admin_address(), None);
}

#[test]
fn a_frozen_server_takes_requests_and_goes_on_when_thawed() {
    let server = server();
    assert_eq!(admin(&server, "POST /freeze", "").json()["frozen"], true);
    let put = "PUT /v HTTP/1.1\r\nHost: h\r\nRange: bytes=2-3\r\nContent-Length: 2\r\n\r\n";
    let mut gone = server.connect();
    gone.send(format!("{put}ab"));
    let mut patient = server.connect();
    patient.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    // To ask for its body would be an answer.
    let mut awaited = server.connect();
    awaited.send(put.replace("Host", "Expect: 100-continue\r\nHost"));
    let deadline = Instant::now() + PATIENCE;
    while report(&server)["held"] != 3 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(gone);
    std::thread::sleep(Duration::from_millis(100));
    assert!(patient.is_silent() && awaited.is_silent());
    assert_eq!(server.content(), b"0123456789");
    assert_eq!(admin(&server, "POST /thaw", "").json()["frozen"], false);
    assert_eq!(patient.reply(false).status, 200);
    while server.content() != b"01ab456789" {
        assert!(Instant::now() < deadline, "a stopped server has what its client sent");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(awaited.head().status, 100);
    awaited.send("cd");
    assert_eq!(awaited.reply(false).status, 204);
    assert_eq!(server.content(), b"01cd456789");
    assert_eq!(report(&server)["held"], 0);
}

#[test]
fn late_writes_are_flushed() {
    let server = server();
    admin(&server, "PUT /faults", "write:100%:late=3600000");
    for first in [0, 4] {
        let mut client = server.connect();
        let range = format!("Range: bytes={first}-{}\r\nContent-Length: 2\r\n\r\nxy", first + 1);
        client.send(format!("PUT /v HTTP/1.1\r\nHost: h\r\n{range}"));
        assert_eq!(client.rest(), b"");
    }
    assert_eq!(report(&server)["late_pending"], 2);
    assert_eq!(server.content(), b"0123456789");
    let flushed = admin(&server, "POST /late/flush", "");
    assert_eq!((flushed.status, &flushed.json()["late_pending"]), (200, &json!(0)));
    assert_eq!(server.content(), b"xy23xy6789");
}

#[test]
fn a_server_ends_with_requests_held_and_late() {
    let server = Server::with(|config| config.limits.drain_timeout = Duration::from_millis(100));
    server.volume(b"0123456789");
    let file = server.file("v");
    let faults = server.playground.faults().clone();
    faults.set("write:100%:late=3600000".parse().unwrap());
    let put = "PUT /v HTTP/1.1\r\nHost: h\r\nRange: bytes=0-1\r\nContent-Length: 2\r\n\r\nxy";
    let mut client = server.connect();
    client.send(put);
    assert_eq!(client.rest(), b"");
    faults.freeze();
    let mut held = server.connect();
    held.send(put);
    std::thread::sleep(Duration::from_millis(50));
    let began = Instant::now();
    server.playground.shutdown();
    assert!(began.elapsed() < PATIENCE / 4, "{:?}", began.elapsed());
    assert_eq!(held.rest(), b"");
    assert_eq!(std::fs::read(file).unwrap(), b"0123456789");
}
