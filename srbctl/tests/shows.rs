// SPDX-License-Identifier: GPL-2.0-only
//! What is shown: with an agent, without one, much of it, and to programs.

mod site;

use std::io::Read;
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use site::Site;

fn agents_status() -> Value {
    json!({
        "agent": { "version": "0.1.0", "abi": 1, "pid": 812, "uptime_secs": 11525, "session": 2,
            "queues": 4 },
        "settings": { "req_timeout_secs": 30 },
        "urls": [
            { "url": "http://a", "state": "up", "active": true, "requests": 1200, "errors": 3,
              "latency_us": 850, "last_error": "timed out" },
            { "url": "http://b", "state": "down", "reason": "connection refused", "requests": 9,
              "errors": 9 },
        ],
        "devices": [
            { "name": "disk1", "volume": "vol1", "size_bytes": 1, "attachment": 5, "in_flight": 2,
              "oldest_age_ms": 1500, "reads": 10, "writes": 20, "read_bytes": 40960,
              "written_bytes": 10485760, "errors": 1, "retries": 4,
              "read_latency": { "p99_us": 1200 }, "write_latency": { "p99_us": 2500 } },
        ],
    })
}

fn site_with_devices() -> Site {
    let site = Site::loaded();
    site.file("sys/class/srb/urls", "http://a,http://b,http://c\n");
    site.device("disk1", "vol1", 10 << 30);
    site.device("disk2", "another", 1536 << 20);
    site
}

#[test]
fn status_on_one_screen() {
    let site = site_with_devices();
    site.agent(vec![("/status", 200, agents_status())]);
    let outcome = site.run(&["status"]);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    assert_eq!(
        outcome.out,
        "\
module   0.1.0
         debug=6 req_timeout=30 nb_req_retries=3 server_conn_timeout=30
         thread_pool_size=8 agent_grace=-1 policy=fail
agent    0.1.0, pid 812, up 3h 12m, session 2, 4 queues
urls     3
  URL       STATE    IN-USE  REQUESTS  ERRORS  LATENCY  REASON
  http://a  up       yes         1200       3    850us  timed out
  http://b  down     no             9       9        -  connection refused
  http://c  unknown  -              -       -        -  -
devices  2
  DEVICE  VOLUME   SIZE  IN-FLIGHT  OLDEST  READ    P99  WRITTEN    P99  RETRIES  ERRORS
  disk1   vol1      10G          2    1.5s   40K  1.2ms      10M  2.5ms        4       1
  disk2   another  1.5G          -       -     -      -        -      -        -       -
"
    );
}

#[test]
fn status_without_an_agent() {
    let site = site_with_devices();
    let outcome = site.run(&["status"]);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    let socket = site.socket();
    for text in [
        "agent    not running, or not to be reached\n",
        "  http://a  unknown  -              -       -        -  -\n",
        "  disk1   vol1      10G          -       -     -    -        -    -        -       -\n",
        &format!(
            "note     srb-agent is not running (nothing answers at {}); start it: systemctl start \
             srb-agent\n",
            socket.display()
        ),
    ] {
        assert!(outcome.out.contains(text), "{text}\n{}", outcome.out);
    }
    let value = site.run(&["status", "--json"]).json();
    assert_eq!(value["agent"], Value::Null);
    assert_eq!(value["urls"], json!([{"url":"http://a"},{"url":"http://b"},{"url":"http://c"}]));
    assert_eq!(
        value["devices"][1],
        json!({ "name": "disk2", "volume": "another", "size_bytes": 1536 << 20,
            "urls": ["http://a/another", "http://b/another"], "log_level": 6,
            "policy": "fail", "agent_wait": "connected", "waiting": null })
    );
    assert_eq!(value["notes"].as_array().map(Vec::len), Some(1));
}

#[test]
fn status_tells_of_policies_that_hold_requests() {
    let site = site_with_devices();
    site.file("sys/block/disk2/srb_policy", "queue=30\n");
    let outcome = site.run(&["status"]);
    assert!(outcome.out.contains("\npolicy   disk2 queue=30\nnote"), "{}", outcome.out);
    assert!(!outcome.out.contains("policy   disk1"), "{}", outcome.out);
    let mut status = agents_status();
    status["devices"][0]["held"] = json!(12);
    site.agent(vec![("/status", 200, status)]);
    let outcome = site.run(&["status"]);
    let lines = "policy   disk1 fail; requests were held 12 times\npolicy   disk2 queue=30\n";
    assert!(outcome.out.ends_with(lines), "{}", outcome.out);
}

#[test]
fn status_counts_the_agents_that_stand_by() {
    let site = site_with_devices();
    assert!(!site.run(&["status"]).out.contains("standby"), "a module that does not tell");
    for (count, line) in [("0", None), ("1", Some("1 agent takes")), ("2", Some("2 agents take"))] {
        site.file("sys/class/srb/standbys", &format!("{count}\n"));
        let outcome = site.run(&["status"]);
        let found = outcome.out.lines().find_map(|line| line.strip_prefix("standby  "));
        let line = line.map(|line| format!("{line} its place when it is gone"));
        assert_eq!(found, line.as_deref(), "{}", outcome.out);
        let value = site.run(&["status", "--json"]).json();
        assert_eq!(value["module"]["standbys"].to_string(), count);
    }
}

#[test]
fn status_without_an_agent_tells_for_how_long_devices_wait() {
    let site = site_with_devices();
    for (word, line) in [
        ("47", "disk2 for an agent, 47s more, then its requests fail; 5 requests wait"),
        ("90", "disk2 for an agent, 1m 30s more, then its requests fail; 5 requests wait"),
        ("forever", "disk2 for an agent, for ever; 5 requests wait"),
        ("failing", "disk2 no more: no agent came in time, its requests fail"),
    ] {
        site.file("sys/block/disk2/srb_agent_wait", &format!("{word}\n"));
        kernel_counts(&site, "disk2", 6, "       0        1\n");
        let outcome = site.run(&["status"]);
        assert!(outcome.out.contains(&format!("\nwaits    {line}\nnote")), "{}", outcome.out);
        assert!(!outcome.out.contains("waits    disk1"), "{}", outcome.out);
        let disk = &site.run(&["status", "--json"]).json()["devices"][1];
        assert_eq!((&disk["agent_wait"], &disk["waiting"]), (&json!(word), &json!(5)));
    }
}

#[test]
fn devices_with_their_policies() {
    let site = site_with_devices();
    site.file("sys/block/disk2/srb_policy", "queue\n");
    let outcome = site.run(&["device", "list"]);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    assert_eq!(outcome.out, "disk1  vol1      10G  fail\ndisk2  another  1.5G  queue\n");
    let value = site.run(&["device", "list", "--json"]).json();
    assert_eq!(
        (&value["devices"][1]["policy"], &value["devices"][1]["volume"]),
        (&json!("queue"), &json!("another"))
    );
    assert_eq!(site.run(&["device", "policy", "disk2"]).out, "queue\n");
    let value = site.run(&["--json", "device", "policy", "disk1"]).json();
    assert_eq!(value, json!({ "device": "disk1", "policy": "fail" }));
}

/// `all`: what was asked and not answered; `submitted`: reads and writes.
fn kernel_counts(site: &Site, device: &str, all: u32, submitted: &str) {
    let stat = format!("   10 0 80 1 20 0 160 2 {all} 3 4 0 0 0 0 0 0\n");
    site.file(&format!("sys/block/{device}/stat"), &stat);
    site.file(&format!("sys/block/{device}/inflight"), submitted);
}

#[test]
fn requests_in_flight() {
    let site = site_with_devices();
    kernel_counts(&site, "disk1", 7, "       1        1\n");
    kernel_counts(&site, "disk2", 1, "       0        1\n");
    let request = |device: &str, age_us: u64, tries: u32| {
        json!({ "device": device, "queue": 1, "tag": 63, "op": "write", "offset": 4096,
            "len": 1 << 20, "age_us": age_us, "tries": tries })
    };
    let mut oldest = request("disk1", 61_200_000, 3);
    oldest["url"] = json!("http://a");
    oldest["last"] = json!("503");
    let requests = json!({ "requests": [oldest, request("disk2", 1_500, 0),
        request("disk1", 900, 1)] });
    site.agent(vec![("/inflight", 200, requests)]);
    let outcome = site.run(&["inflight"]);
    assert_eq!(outcome.code, Some(0));
    assert_eq!(
        outcome.out,
        "disk1  1  63  write  4096  1M  61.2s  3  http://a  503\n\
         disk2  1  63  write  4096  1M  1.5ms  0  -         -\n\
         disk1  1  63  write  4096  1M  900us  1  -         -\n"
    );
    let note = "srbctl: disk1: 5 more, which the agent does not have, wait in the kernel\n";
    assert_eq!(outcome.err, note);
    assert_eq!(site.run(&["inflight", "--older-than", "1"]).out.lines().count(), 1);
    let value = site.run(&["inflight", "disk2", "--json"]).json();
    assert_eq!(value["requests"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&value["requests"][0]["age_us"], &value["requests"][0]["url"]),
        (&json!(1500), &Value::Null)
    );
    let counted = json!([{ "name": "disk2", "reads": 0, "writes": 1, "waiting": 0 }]);
    assert_eq!((&value["devices"], &value["notes"]), (&counted, &json!([])));
}

#[test]
fn without_an_agent_the_kernels_counts_are_shown() {
    let site = site_with_devices();
    kernel_counts(&site, "disk1", 7, "       1        2\n");
    let outcome = site.run(&["inflight"]);
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(0), "disk1  1  2  4\n"));
    assert!(outcome.err.starts_with("srbctl: srb-agent is not running"), "{}", outcome.err);
    assert!(outcome.err.ends_with("this is what the kernel counts\n"), "{}", outcome.err);
    let value = site.run(&["inflight", "--json"]).json();
    assert_eq!(value["requests"], Value::Null);
    let counted = json!([{ "name": "disk1", "reads": 1, "writes": 2, "waiting": 4 }]);
    assert_eq!(value["devices"], counted);
    assert_eq!(value["notes"].as_array().map(Vec::len), Some(1));
}

#[test]
fn status_of_a_module_just_loaded() {
    let outcome = Site::loaded().run(&["status"]);
    assert!(outcome.out.contains("urls     none (srbctl url add http://"), "{}", outcome.out);
    assert!(outcome.out.contains("devices  none (srbctl attach VOLUME DEVICE)"));
}

#[test]
fn status_as_json_has_the_documented_fields() {
    let site = site_with_devices();
    site.agent(vec![("/status", 200, agents_status())]);
    let value = site.run(&["--json", "status"]).json();
    assert_eq!(value["module"]["version"], "0.1.0");
    assert_eq!(
        value["module"]["parameters"][5],
        json!({ "name": "agent_grace", "value": -1, "writable": true, "description":
            "seconds devices wait for an agent: 0 fails at once, -1 waits for ever" })
    );
    assert_eq!(value["agent"]["session"], 2);
    assert_eq!(
        value["urls"][1],
        json!({ "url": "http://b", "state": "down", "reason": "connection refused",
            "active": false, "requests": 9, "errors": 9, "latency_us": null,
            "read_latency_us": null,
            "probes": 0, "hedged": 0, "hedge_wins": 0,
            "connections_opened": 0, "last_error": null })
    );
    let disk = &value["devices"][0];
    // The module has the last word on what both of them know.
    assert_eq!(disk["size_bytes"], json!(10u64 << 30));
    assert_eq!(disk["urls"], json!(["http://a/vol1", "http://b/vol1"]));
    assert_eq!(disk["read_latency"]["p99_us"], 1200);
    let mut fields: Vec<_> = disk.as_object().expect("an object").keys().cloned().collect();
    fields.sort();
    assert_eq!(
        fields.join(" "),
        "agent_wait attachment errors held in_flight log_level name oldest_age_ms policy \
         read_bytes read_latency reads retries size_bytes urls volume waiting write_latency writes \
         written_bytes"
    );
    assert_eq!(value["notes"], json!([]));
}

#[test]
fn an_agent_that_hangs_delays_status_by_seconds_at_most() {
    let site = site_with_devices();
    let _silent = UnixListener::bind(site.socket()).expect("bound");
    let begun = Instant::now();
    let outcome = site.run(&["status"]);
    assert!(begun.elapsed() < Duration::from_secs(8));
    assert_eq!(outcome.code, Some(0));
    assert!(outcome.out.contains("note     srb-agent does not answer"), "{}", outcome.out);
}

#[test]
fn an_agent_of_nonsense_is_survived() {
    let site = site_with_devices();
    site.agent(vec![("/status", 200, json!(["no", "status"]))]);
    let outcome = site.run(&["status"]);
    assert_eq!(outcome.code, Some(0));
    assert!(outcome.out.contains("an answer that makes no sense"), "{}", outcome.out);
    let outcome = site.run(&["volume", "list"]);
    assert!(outcome.err.contains("status 404 for /volumes"), "{}", outcome.err);
}

#[test]
fn url_list() {
    let site = site_with_devices();
    let outcome = site.run(&["url", "list"]);
    assert_eq!(outcome.code, Some(0));
    assert_eq!(outcome.out.lines().next(), Some("http://a  unknown  -  -  -  -  -"));
    assert!(outcome.err.starts_with("srbctl: srb-agent is not running"), "{}", outcome.err);

    site.agent(vec![("/status", 200, agents_status())]);
    let outcome = site.run(&["url", "list"]);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    let first = outcome.out.lines().next().expect("a line");
    assert_eq!(first, "http://a  up       yes  1200  3  850us  timed out");
    let value = site.run(&["url", "list", "--json"]).json();
    assert_eq!(value["urls"][0]["latency_us"], 850);
    assert_eq!(value["urls"][2], json!({ "url": "http://c" }));
    assert_eq!(value["notes"], json!([]));
}

#[test]
fn volume_list_from_the_agent() {
    let site = site_with_devices();
    let volumes = json!({ "volumes": [
        { "name": "vol1" }, { "name": "spare", "size_bytes": 4096 }, { "name": "x\u{1b}[2J" },
    ]});
    site.agent(vec![("/volumes", 200, volumes)]);
    let outcome = site.run(&["volume", "list"]);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    assert_eq!(outcome.out, "spare       -\nvol1        disk1\nx\\u{1b}[2J  -\n");
    assert_eq!(
        site.run(&["volume", "list", "--json"]).json(),
        json!({ "volumes": [
            { "name": "spare", "device": null, "size_bytes": 4096 },
            { "name": "vol1", "device": "disk1", "size_bytes": 10u64 << 30 },
            { "name": "x\u{1b}[2J", "device": null, "size_bytes": null },
        ], "notes": [] })
    );
}

#[test]
fn volume_list_from_the_module() {
    let site = site_with_devices();
    site.file("sys/class/srb/volumes", "vol1\nvol2\n... and 9998 more: srbctl volume list\n");
    let outcome = site.run(&["volume", "list"]);
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(0), "vol1  disk1\nvol2  -\n"));
    assert!(outcome.err.contains("and 9998 more"), "{}", outcome.err);
    assert!(outcome.err.contains("this is the module's own listing"), "{}", outcome.err);
    let value = site.run(&["volume", "list", "--json"]).json();
    assert_eq!(value["notes"].as_array().map(Vec::len), Some(2));
}

#[test]
fn volume_list_refused() {
    let site = site_with_devices();
    let refused = json!({ "error": { "errno": 111, "name": "ECONNREFUSED",
        "message": "http://a: connection refused (4 tries)" } });
    site.agent(vec![("/volumes", 502, refused)]);
    let outcome = site.run(&["volume", "list", "--json"]);
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(1), ""));
    assert_eq!(
        outcome.error(),
        json!({ "errno": 111, "name": "ECONNREFUSED",
            "message": "cannot list the volumes: every server refused the connection",
            "hint": "srbctl url list: do the servers run, are the ports right?",
            "agent": "http://a: connection refused (4 tries)" })
    );
}

fn ten_thousand() -> Value {
    let volumes: Vec<_> = (0..10_000)
        .map(|at| json!({ "name": format!("volume-with-a-longer-name-{at:05}") }))
        .collect();
    json!({ "volumes": volumes })
}

#[test]
fn ten_thousand_volumes() {
    let site = Site::loaded();
    site.agent(vec![("/volumes", 200, ten_thousand())]);
    let outcome = site.run(&["volume", "list"]);
    assert_eq!(outcome.code, Some(0));
    assert_eq!(outcome.out.lines().count(), 10_000);
    assert_eq!(outcome.out.lines().last(), Some("volume-with-a-longer-name-09999  -"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let site = Site::loaded();
    site.agent(vec![("/volumes", 200, ten_thousand())]);
    for words in [&["volume", "list"][..], &["volume", "list", "--json"]] {
        let mut command = site.command(words);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
        let mut few = [0; 10];
        let mut stdout = child.stdout.take().expect("piped");
        stdout.read_exact(&mut few).expect("some output");
        drop(stdout);
        let output = child.wait_with_output().expect("ended");
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let site = site_with_devices();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("opened");
    let output = site.command(&["status"]).stdout(full).output().expect("started");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("cannot write the output: No space left on device"), "{stderr}");
}

#[test]
fn params_shown() {
    let site = Site::loaded();
    site.file("sys/module/srb/parameters/later", "x\n");
    let outcome = site.run(&["params"]);
    assert_eq!(outcome.code, Some(0));
    let lines: Vec<_> = outcome.out.lines().collect();
    let first = "debug                   6  any time  log level, 0 (emergency) to 7 (debug)";
    assert_eq!(lines[0], first);
    assert!(lines[4].starts_with("thread_pool_size        8  at load"), "{}", lines[4]);
    let policy =
        "policy               fail  any time  policy of devices to come, for when no server";
    assert!(lines[6].starts_with(policy), "{}", lines[6]);
    assert_eq!(lines[7], "later                   x  any time  -");
    let value = site.run(&["params", "--json", "req_timeout"]).json();
    assert_eq!(
        value,
        json!({ "parameters": [{ "name": "req_timeout", "value": 30, "writable": true,
            "description": "seconds in which a server must answer a request" }] })
    );
}

#[test]
fn help_and_completion() {
    let site = Site::bare();
    let help = site.run(&["--help"]);
    assert_eq!(help.code, Some(0));
    for text in ["Examples:", "Exit status:", "srbctl attach vol1 disk1", "\"errno\":107"] {
        assert!(help.out.contains(text), "{text}\n{}", help.out);
    }
    assert!(!help.out.contains("sysfs-root"));
    assert!(help.out.lines().all(|line| line.chars().count() <= 100), "{}", help.out);
    let script = site.run(&["completion", "bash"]);
    assert_eq!(script.code, Some(0));
    assert!(script.out.contains("_srbctl"));
    assert_eq!(site.run(&["--version"]).out, "srbctl 0.1.0\n");
}
