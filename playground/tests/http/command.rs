// SPDX-License-Identifier: GPL-2.0-only
//! The command as a user starts and ends it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use crate::client::Client;

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_srb-playground"))
}

fn first_line(child: &mut Child) -> String {
    lines(child, 1).remove(0)
}

fn lines(child: &mut Child, count: usize) -> Vec<String> {
    let output = BufReader::new(child.stdout.take().unwrap());
    output.lines().take(count).map(Result::unwrap).collect()
}

#[test]
fn it_says_where_it_listens_serves_and_ends_at_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut child = command()
            .current_dir(&folder)
            .args(["--port", "0", "--path", "/store", "--sync", "-v"])
            .args(["--quirk", "size-as-string", "--quirk", "close-after=2"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let line = first_line(&mut child);
        let rest = line.strip_prefix("listening on http://").unwrap();
        let (address, rest) = rest.split_once('/').unwrap();
        assert!(address.starts_with("127.0.0.1:") && !address.ends_with(":0"), "{line}");
        assert!(rest.starts_with("store/ with data in /"), "{line}");
        let mut client = Client::connect(address.parse().unwrap());
        assert_eq!(client.ask("PUT /store/v", &[], b"12").status / 100, 2);
        assert!(client.ask("GET /store/v?metadata", &[], b"").text().contains(r#":"2""#));
        assert_eq!(client.rest(), b"");
        assert!(folder.path().join("playground_data/v").exists());
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn faults_are_there_from_the_start_and_can_be_ended() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = command()
        .current_dir(&folder)
        .args(["--port", "0", "--admin-port", "0"])
        .args(["--faults", "seed=5 control:100%:status=503"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = lines(&mut child, 2);
    let address = |line: &str, before| {
        let rest = line.strip_prefix(before).unwrap();
        rest.split_once('/').unwrap().0.parse().unwrap()
    };
    let data = address(&lines[0], "listening on http://");
    let admin = address(&lines[1], "admin on http://");
    let ask = |address, line: &str| Client::connect(address).ask(line, &[], b"");
    assert_eq!(ask(data, "GET /").status, 503);
    let report = ask(admin, "DELETE /faults").json();
    assert_eq!((&report["plan"], &report["faulty"]), (&serde_json::Value::Null, &1.into()));
    assert_eq!(ask(data, "GET /").status, 200);
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn it_fails_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let fail = |arguments: &[&str], code, part: &str| {
        let output = command().current_dir(&folder).args(arguments).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
        assert!(message.contains(part) && output.stdout.is_empty(), "{message}");
    };
    fail(&["--port", "0", "--datapath", "file"], 1, "cannot use the folder file for data");
    fail(&["--port", "0", "--listen", "192.0.2.1"], 1, "cannot listen on 192.0.2.1:0");
    fail(&["--port", "0", "--path", "a//b"], 1, "the repository's path \"a//b\"");
    fail(&["--port", "65536"], 2, "65536");
    fail(&["--quirk", "odd"], 2, "close-after=N");
    fail(&["--faults", "all:1%:odd"], 2, r#""all:1%:odd": kinds are"#);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    fail(&["--port", "0", "--admin-port", &port], 1, "which --admin-port asks for");
}
