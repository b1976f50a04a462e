// SPDX-License-Identifier: GPL-2.0-only
//! The status socket of a whole agent: what `srbctl` and Prometheus rely on.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use srb_agent::sim::{Request, RunningAgent, SimModule};
use srb_playground::Playground;
use srb_proto::descriptor::Op;
use srb_proto::layout::ABI_VERSION;
use srb_status::{
    DeviceStatus, Devices, Errors, InFlight, Refused, Status, UrlState, Urls, Volumes,
};
use tempfile::TempDir;

fn ask(socket: &Path, method: &str, path: &str) -> (u16, String, String) {
    let mut stream = UnixStream::connect(socket).expect("somebody listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let request = format!("{method} {path} HTTP/1.1\r\nHost: agent\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, head.to_lowercase(), body.to_owned())
}

fn read<T: DeserializeOwned>(socket: &Path, path: &str) -> T {
    let (status, head, body) = ask(socket, "GET", path);
    assert_eq!(status, 200, "{body}");
    assert!(head.contains("content-type: application/json"), "{head}");
    serde_json::from_str(&body).expect("of that type")
}

struct Setup {
    module: SimModule,
    _server: Playground,
    url: String,
    folder: TempDir,
    agent: RunningAgent,
}

fn start() -> Setup {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Playground::start(srb_playground::Config::ephemeral(folder.path().join("data")));
    let server = server.expect("a server");
    let url = server.url().trim_end_matches('/').to_owned();
    let module = SimModule::new(2);
    module.configure(|parameters| parameters.urls = vec![url.clone()]);
    let agent = RunningAgent::start(&module, RunningAgent::config(folder.path()));
    assert_eq!(module.control(Op::Create, 1 << 20, b"vol").status, 0);
    Setup { module, _server: server, url, folder, agent }
}

#[test]
fn the_status_tells_of_process_settings_urls_and_devices() {
    let setup = start();
    let Setup { module, agent, url, .. } = &setup;
    let disk = module.attach("disk1", "vol", 1 << 20).expect("attached");
    for i in 0..10 {
        assert_eq!(module.write(disk, i % 2, 0, vec![7; 4096]).status, 0);
    }
    assert_eq!(module.read(disk, 0, 0, 8192).status, 0);
    let status: Status = read(agent.socket(), "/status");
    assert_eq!(status.agent.pid, std::process::id());
    assert_eq!((status.agent.abi, status.agent.queues), (ABI_VERSION, 2));
    assert!(status.agent.session.is_some());
    assert_eq!((status.settings.nb_req_retries, status.settings.req_timeout_secs), (3, 5));
    assert_eq!(status.urls, read::<Urls>(agent.socket(), "/urls").urls);
    assert_eq!((&status.urls[0].url, status.urls[0].state), (url, UrlState::Up));
    assert!(status.urls[0].active && status.urls[0].requests >= 11);
    let device = &status.devices[0];
    assert_eq!((&*device.name, &*device.volume, device.size_bytes), ("disk1", "vol", 1 << 20));
    assert_eq!((device.writes, device.written_bytes), (10, 40_960));
    assert_eq!((device.reads, device.read_bytes), (1, 8192));
    assert_eq!((device.errors, device.in_flight, device.oldest_age_ms), (0, 0, None));
    assert!(device.write_latency.p50_us > 0);
    assert!(device.write_latency.p50_us <= device.write_latency.max_us);
    module.resize(disk, 2 << 20);
    let devices: Devices = read(agent.socket(), "/devices");
    assert_eq!(devices.devices[0].size_bytes, 2 << 20);
    assert_eq!(module.detach(disk).status, 0);
    assert_eq!(read::<Devices>(agent.socket(), "/devices"), Devices::default());
}

#[test]
fn volumes_come_from_the_server_and_failures_from_memory() {
    let setup = start();
    let Setup { module, agent, .. } = &setup;
    let volumes: Volumes = read(agent.socket(), "/volumes");
    assert_eq!(volumes.volumes.iter().map(|v| &*v.name).collect::<Vec<_>>(), ["vol"]);
    assert_eq!(read::<Errors>(agent.socket(), "/errors"), Errors::default());
    assert_eq!(module.control(Op::Stat, 0, b"gone").status, -nix::libc::ENOENT);
    let disk = module.attach("disk1", "gone", 1 << 20).expect("attached");
    assert_eq!(module.read(disk, 0, 8, 4096).status, -nix::libc::ENOENT);
    let errors = read::<Errors>(agent.socket(), "/errors").errors;
    assert_eq!(errors.len(), 2);
    assert_eq!((&*errors[0].what, errors[0].volume.as_deref()), ("read", Some("gone")));
    assert_eq!((&*errors[1].what, errors[1].errno), ("stat", nix::libc::ENOENT));
    assert!(errors[0].message.contains("gone"), "{}", errors[0].message);
    module.configure(|parameters| parameters.urls.clear());
    thread::sleep(Duration::from_millis(50));
    let (status, _, body) = ask(agent.socket(), "GET", "/volumes");
    let refused: Refused = serde_json::from_str(&body).expect("a refusal");
    assert_eq!((status, &*refused.error.name), (502, "EDESTADDRREQ"));
}

#[test]
fn requests_in_flight_show_their_age() {
    let setup = start();
    let Setup { module, agent, .. } = &setup;
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("bound"));
    module.configure(|parameters| parameters.urls = vec![url]);
    let disk = module.attach("disk1", "vol", 1 << 20).expect("attached");
    let (replies, _answers) = mpsc::channel();
    module.submit(disk, 1, (0..3).map(|i| Request::new(Op::Read, i * 8, 4096, &replies)));
    thread::sleep(Duration::from_millis(120));
    let devices = read::<Devices>(agent.socket(), "/devices").devices;
    assert_eq!(devices[0].in_flight, 3);
    assert!((100..5000).contains(&devices[0].oldest_age_ms.expect("an age")));
    assert_eq!(module.detach(disk).status, 0);
}

#[test]
fn each_request_in_flight_is_told() {
    let setup = start();
    let Setup { module, agent, .. } = &setup;
    assert_eq!(read::<InFlight>(agent.socket(), "/inflight"), InFlight::default());
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("bound"));
    module.configure(|parameters| parameters.urls = vec![url.clone()]);
    let disk = module.attach("disk1", "vol", 1 << 20).expect("attached");
    let (replies, _answers) = mpsc::channel();
    module.submit(disk, 1, [Request::new(Op::Read, 8, 8192, &replies)]);
    thread::sleep(Duration::from_millis(60));
    let write = Request::new(Op::Write, 256, 512, &replies).with_payload(vec![1; 512]);
    module.submit(disk, 0, [write]);
    thread::sleep(Duration::from_millis(60));
    let found = read::<InFlight>(agent.socket(), "/inflight").requests;
    let told: Vec<_> =
        found.iter().map(|it| (&*it.device, it.queue, &*it.op, it.offset, it.len)).collect();
    assert_eq!(told, [("disk1", 1, "read", 4096, 8192), ("disk1", 0, "write", 131_072, 512)]);
    let tries: Vec<_> =
        found.iter().map(|it| (it.tries, it.url.as_deref(), it.last.as_deref())).collect();
    assert_eq!(tries, [(1, Some(&*url), None), (1, Some(&*url), None)]);
    assert!((100_000..5_000_000).contains(&found[0].age_us), "{found:?}");
    assert!((50_000..found[0].age_us).contains(&found[1].age_us), "{found:?}");
    assert_eq!(module.detach(disk).status, 0);
    assert_eq!(read::<InFlight>(agent.socket(), "/inflight"), InFlight::default());
}

/// Answers each connection but the last one with 503, and keeps that one waiting.
fn busy_server(answers: usize) -> (String, thread::JoinHandle<UnansweredConnection>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let serving = thread::spawn(move || {
        for _ in 0..answers {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).expect("a request");
            let text = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            stream.write_all(text.as_bytes()).expect("answered");
        }
        let (stream, _) = listener.accept().expect("a client");
        UnansweredConnection { _stream: stream, _listener: listener }
    });
    (url, serving)
}

struct UnansweredConnection {
    _stream: TcpStream,
    _listener: TcpListener,
}

#[test]
fn tries_in_flight_are_told_and_why_the_last_one_failed() {
    let setup = start();
    let Setup { module, agent, .. } = &setup;
    let (url, serving) = busy_server(2);
    module.configure(|parameters| {
        parameters.urls = vec![url.clone()];
        parameters.thread_pool_size = 1;
    });
    let disk = module.attach("disk1", "vol", 1 << 20).expect("attached");
    let (replies, _answers) = mpsc::channel();
    module.submit(disk, 0, (0..2).map(|i| Request::new(Op::Read, i * 8, 4096, &replies)));
    let _unanswered = serving.join().expect("the last try");
    let found = read::<InFlight>(agent.socket(), "/inflight").requests;
    let mut tries: Vec<_> =
        found.iter().map(|it| (it.tries, it.url.as_deref(), it.last.as_deref())).collect();
    tries.sort();
    let third = (3, Some(&*url), Some("server failed (503)"));
    assert_eq!(tries, [(0, None, None), third], "one at a server, one waits for its turn");
    assert_eq!(module.detach(disk).status, 0);
}

#[test]
fn what_the_policy_holds_is_no_error() {
    let setup = start();
    let Setup { module, agent, .. } = &setup;
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    module.configure(|parameters| {
        parameters.urls = vec![format!("http://{gone}")];
        parameters.nb_req_retries = 0;
    });
    let disk = module.attach("disk1", "vol", 1 << 20).expect("attached");
    let status =
        || -> DeviceStatus { read::<Devices>(agent.socket(), "/devices").devices.swap_remove(0) };
    module.set_policy(disk, -1);
    assert_eq!(module.read(disk, 0, 0, 512).status, -nix::libc::ECONNREFUSED);
    assert_eq!((status().held, status().errors), (1, 0));
    assert_eq!(read::<Errors>(agent.socket(), "/errors"), Errors::default());
    let (_, _, page) = ask(agent.socket(), "GET", "/metrics");
    let line = r#"srb_requests_held_total{device="disk1",volume="vol",op="read"} 1"#;
    assert!(page.lines().any(|found| found == line), "{page}");
    module.set_policy(disk, 0);
    assert_eq!(module.read(disk, 0, 0, 512).status, -nix::libc::ECONNREFUSED);
    assert_eq!((status().held, status().errors), (1, 1));
    assert_eq!(read::<Errors>(agent.socket(), "/errors").errors.len(), 1);
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let setup = start();
    let Setup { module, agent, .. } = &setup;
    let disk = module.attach("disk1", "vol", 1 << 20).expect("attached");
    assert_eq!(module.write(disk, 0, 0, vec![1; 512]).status, 0);
    let (status, head, page) = ask(agent.socket(), "GET", "/metrics");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    let labels = r#"device="disk1",volume="vol",op="write""#;
    for line in [
        format!("srb_device_requests_total{{{labels},result=\"success\"}} 1"),
        format!("srb_device_requests_total{{{labels},result=\"error\"}} 0"),
        format!("srb_device_bytes_total{{{labels}}} 512"),
        format!("srb_device_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} 1"),
        format!("srb_device_request_duration_seconds_count{{{labels}}} 1"),
        r#"srb_device_in_flight_requests{device="disk1",volume="vol"} 0"#.into(),
        r#"srb_device_retries_total{device="disk1",volume="vol"} 0"#.into(),
    ] {
        assert!(page.lines().any(|found| found == line), "{line}\n{page}");
    }
    well_formed(&page);
}

/// Each sample follows the HELP and TYPE of its metric, has a number, and stands there once.
fn well_formed(page: &str) {
    let (mut metric, mut seen) = ("", BTreeSet::new());
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            metric = help.split(' ').next().expect("a name");
            assert!(seen.insert(line), "{metric} twice");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a type");
            assert_eq!(name, metric);
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        } else {
            let (sample, value) = line.rsplit_once(' ').expect("a value");
            assert!(sample.starts_with(metric), "{sample} below {metric}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(seen.insert(sample), "{sample} twice");
        }
    }
    assert!(page.ends_with('\n'));
}

#[test]
fn anything_else_is_refused_with_the_reason() {
    let setup = start();
    let Setup { agent, .. } = &setup;
    assert_eq!(ask(agent.socket(), "GET", "/healthz").2, "ok\n");
    for (method, path, expected, errno) in
        [("GET", "/nothing", 404, "ENOENT"), ("POST", "/status", 405, "EINVAL")]
    {
        let (status, _, body) = ask(agent.socket(), method, path);
        let refused: Refused = serde_json::from_str(&body).expect("a refusal");
        assert_eq!((status, &*refused.error.name), (expected, errno));
    }
    let (status, head, body) = ask(agent.socket(), "HEAD", "/status");
    assert_eq!((status, &*body), (200, ""));
    assert!(head.contains("content-length"));
}

#[test]
fn silent_clients_do_not_keep_others_waiting() {
    let setup = start();
    let Setup { agent, .. } = &setup;
    let silent: Vec<_> =
        (0..15).map(|_| UnixStream::connect(agent.socket()).expect("connected")).collect();
    assert_eq!(ask(agent.socket(), "GET", "/healthz").0, 200);
    drop(silent);
}

#[test]
fn the_socket_is_for_root_alone_and_goes_with_the_agent() {
    let setup = start();
    let socket = setup.folder.path().join("agent.sock");
    let mode = fs::metadata(&socket).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    setup.agent.stop().expect("an end without error");
    assert!(!socket.exists());
}

#[test]
fn a_stale_socket_is_replaced_and_a_folder_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = RunningAgent::config(folder.path());
    config.socket = folder.path().join("run/srb/agent.sock");
    fs::create_dir_all(folder.path().join("run/srb")).expect("made");
    drop(UnixListener::bind(&config.socket).expect("bound"));
    let module = SimModule::new(1);
    let agent = RunningAgent::start(&module, config.clone());
    assert_eq!(ask(&config.socket, "GET", "/healthz").0, 200);
    agent.stop().expect("an end without error");
    fs::remove_dir_all(folder.path().join("run")).expect("removed");
    let agent = RunningAgent::start(&module, config.clone());
    assert_eq!(ask(&config.socket, "GET", "/healthz").0, 200);
    agent.stop().expect("an end without error");
}

#[test]
fn without_its_socket_the_agent_serves_and_takes_it_when_it_can() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = RunningAgent::config(folder.path());
    let taken = UnixListener::bind(&config.socket).expect("bound");
    let module = SimModule::new(1);
    module.configure(|parameters| parameters.urls = vec!["null:".into()]);
    let agent = RunningAgent::start(&module, config);
    let disk = module.attach("disk1", "v", 1 << 20).expect("attached");
    assert_eq!(module.read(disk, 0, 0, 512).status, 0);
    assert!(folder.path().join("agent.sock").exists(), "it is somebody else's");
    drop(taken);
    let deadline = Instant::now() + Duration::from_secs(10);
    while UnixStream::connect(agent.socket()).is_err() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(ask(agent.socket(), "GET", "/healthz").0, 200);
    agent.stop().expect("an end without error");
}

#[test]
fn an_idle_agent_sees_that_a_server_is_back() {
    let setup = start();
    let Setup { module, agent, url, folder, .. } = &setup;
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("bound").port();
    drop(free);
    let dead = format!("http://127.0.0.1:{port}");
    module.configure(|parameters| parameters.urls = vec![dead.clone(), url.clone()]);
    thread::sleep(Duration::from_millis(50));
    let disk = module.attach("disk1", "vol", 1 << 20).expect("attached");
    assert_eq!(module.read(disk, 0, 0, 4096).status, 0);
    let first = || read::<Urls>(agent.socket(), "/urls").urls.swap_remove(0);
    let down = first();
    assert_eq!((down.url.as_str(), down.state, down.active), (&*dead, UrlState::Down, false));
    let mut config = srb_playground::Config::ephemeral(folder.path().join("data"));
    config.port = port;
    let _server = Playground::start(config).expect("the same port");
    let patience = std::time::Instant::now() + Duration::from_secs(20);
    while first().state != UrlState::Up {
        assert!(std::time::Instant::now() < patience, "{:?}", first());
        thread::sleep(Duration::from_millis(20));
    }
    let back = first();
    assert!(back.active && back.probes > 0 && back.requests == down.requests, "{back:?}");
}
