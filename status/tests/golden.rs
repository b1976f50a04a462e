// SPDX-License-Identifier: GPL-2.0-only
//! The JSON of each answer, letter by letter: programs of others read it, so a field that is
//! renamed, or changes its type or place, is seen here first.
//!
//! After a change that is meant: `SRB_BLESS=1 cargo test -p srb-status --test golden`, and look at
//! what `git diff` says.

use std::path::Path;
use std::{env, fs};

use serde_json::{json, to_value, Value};
use srb_status::{
    AgentStatus, DeviceStatus, Devices, ErrorInfo, Errors, Failure, InFlight, Latency, Refused,
    RequestStatus, Settings, Status, UrlState, UrlStatus, Urls, VolumeStatus, Volumes,
};

fn url() -> UrlStatus {
    UrlStatus {
        url: "http://127.0.0.1:8080/".into(),
        state: UrlState::Down,
        reason: Some("no answer".into()),
        active: true,
        requests: 1,
        errors: 2,
        latency_us: Some(3),
        read_latency_us: Some(4),
        probes: 5,
        hedged: 6,
        hedge_wins: 7,
        connections_opened: 8,
        last_error: Some("late".into()),
    }
}

fn device() -> DeviceStatus {
    DeviceStatus {
        name: "disk1".into(),
        volume: "vol1".into(),
        size_bytes: 1 << 30,
        attachment: 2,
        in_flight: 3,
        oldest_age_ms: Some(4),
        reads: 5,
        writes: 6,
        read_bytes: 7,
        written_bytes: 8,
        errors: 9,
        held: 10,
        retries: 11,
        read_latency: Latency { mean_us: 12, p50_us: 13, p99_us: 14, max_us: 15 },
        write_latency: Latency::default(),
    }
}

fn status() -> Status {
    let agent = AgentStatus {
        version: "0.1.0".into(),
        abi: 3,
        pid: 4,
        uptime_secs: 5,
        session: Some(6),
        queues: 7,
    };
    let settings = Settings {
        debug: 6,
        req_timeout_secs: 30,
        nb_req_retries: 3,
        server_conn_timeout_secs: 30,
        thread_pool_size: 32,
    };
    Status { agent, settings, urls: vec![url()], devices: vec![device()] }
}

fn inflight() -> InFlight {
    let request = RequestStatus {
        device: "disk1".into(),
        queue: 1,
        tag: 2,
        op: "read".into(),
        offset: 3,
        len: 4,
        age_us: 5,
        tries: 6,
        url: Some("http://127.0.0.1:8080/".into()),
        last: None,
    };
    InFlight { requests: vec![request] }
}

fn errors() -> Errors {
    let failure = Failure {
        unix_ms: 1,
        what: "stat".into(),
        volume: None,
        message: "late".into(),
        errno: 110,
        url: None,
    };
    Errors { errors: vec![failure] }
}

fn volumes() -> Volumes {
    let known = VolumeStatus { name: "vol1".into(), size_bytes: Some(1 << 30) };
    let unknown = VolumeStatus { name: "vol2".into(), size_bytes: None };
    Volumes { volumes: vec![known, unknown] }
}

fn refused() -> Refused {
    Refused { error: ErrorInfo { errno: 2, name: "ENOENT".into(), message: "no".into() } }
}

fn answers() -> serde_json::Result<Value> {
    Ok(json!({
        "/status": to_value(status())?,
        "/urls": to_value(Urls { urls: vec![url()] })?,
        "/devices": to_value(Devices { devices: vec![device()] })?,
        "/inflight": to_value(inflight())?,
        "/volumes": to_value(volumes())?,
        "/errors": to_value(errors())?,
        "refused": to_value(refused())?,
    }))
}

#[test]
fn answers_are_as_they_were() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden.json");
    let text = serde_json::to_string_pretty(&answers().expect("writable")).expect("writable");
    if env::var_os("SRB_BLESS").is_some() {
        fs::write(&path, format!("{text}\n")).expect("written");
    }
    let golden = fs::read_to_string(&path).expect("the golden file");
    assert_eq!(text.trim_end(), golden.trim_end());
}
