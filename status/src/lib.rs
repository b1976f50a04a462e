// SPDX-License-Identifier: GPL-2.0-only
//! What the agent's socket answers: the types that it writes as JSON and that `srbctl` reads.
//!
//! | request | answer |
//! |---|---|
//! | `GET /status` | [`Status`] |
//! | `GET /urls` | [`Urls`] |
//! | `GET /devices` | [`Devices`] |
//! | `GET /inflight` | [`InFlight`] |
//! | `GET /volumes` | [`Volumes`], after asking a server |
//! | `GET /errors` | [`Errors`], from memory |
//!
//! Anything that fails is a [`Refused`] with an HTTP status of 400 or above. Fields are only ever
//! added: a reader takes a missing one for its default and skips one that it does not know, so
//! agent and `srbctl` may differ in age. Nothing here holds a credential.

use serde::{Deserialize, Serialize};

/// Where the agent listens, unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/srb/agent.sock";

/// Path of [`Status`].
pub const STATUS_PATH: &str = "/status";
/// Path of [`Urls`].
pub const URLS_PATH: &str = "/urls";
/// Path of [`Devices`].
pub const DEVICES_PATH: &str = "/devices";
/// Path of [`InFlight`].
pub const INFLIGHT_PATH: &str = "/inflight";
/// Path of [`Volumes`].
pub const VOLUMES_PATH: &str = "/volumes";
/// Path of [`Errors`].
pub const ERRORS_PATH: &str = "/errors";

/// Failures that the agent remembers; older ones are forgotten first.
pub const MAX_FAILURES: usize = 256;

/// Everything at a glance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The process.
    pub agent: AgentStatus,
    /// The module's parameters, as the agent last read them.
    pub settings: Settings,
    /// In the order of the module's list.
    pub urls: Vec<UrlStatus>,
    /// Attached devices that the agent serves.
    pub devices: Vec<DeviceStatus>,
}

/// The agent's process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentStatus {
    /// Version of the package.
    pub version: String,
    /// Version of the boundary between module and agent.
    pub abi: u32,
    /// Process number.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_secs: u64,
    /// Number of its session with the module; none while it has no session.
    pub session: Option<u64>,
    /// Queues of each device, hence data workers.
    pub queues: u32,
}

/// Parameters of the module that the agent heeds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Log level, 0 to 7.
    pub debug: u32,
    /// For a request.
    pub req_timeout_secs: u32,
    /// Tries after the first one.
    pub nb_req_retries: u32,
    /// For connecting.
    pub server_conn_timeout_secs: u32,
    /// Requests at the servers at a time, for each device.
    pub thread_pool_size: u32,
}

/// Answer to `GET /urls`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Urls {
    /// In the order of the module's list.
    pub urls: Vec<UrlStatus>,
}

/// What the agent thinks of a URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UrlState {
    /// It answers, and is fit to be used.
    Up,
    /// It is not used until it answers again.
    Down,
    /// Not tried yet, or a state that this reader does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

/// One path to the repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UrlStatus {
    /// In canonical form.
    pub url: String,
    /// Whether it is fit to be used.
    pub state: UrlState,
    /// Why it is in that state, for people.
    pub reason: Option<String>,
    /// Whether requests go there now.
    pub active: bool,
    /// Requests sent since the agent started.
    pub requests: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// Mean time to an answer, recent requests weighing more; none before the first one.
    pub latency_us: Option<u64>,
    /// The same of reads, up to the head of the answer.
    pub read_latency_us: Option<u64>,
    /// Probes sent while it was down; not among the requests.
    pub probes: u64,
    /// Reads that it got because another URL was slow.
    pub hedged: u64,
    /// Those of them that it answered first.
    pub hedge_wins: u64,
    /// Connections that were opened since the agent knows the URL.
    pub connections_opened: u64,
    /// The last thing that went wrong, for people.
    pub last_error: Option<String>,
}

/// Answer to `GET /devices`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Devices {
    /// In the order of their names.
    pub devices: Vec<DeviceStatus>,
}

/// One attached device; counters start at zero with the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceStatus {
    /// Name of the disk.
    pub name: String,
    /// Name of the volume.
    pub volume: String,
    /// Of the volume.
    pub size_bytes: u64,
    /// Number of this attachment, never used again.
    pub attachment: u64,
    /// Requests that the agent has taken and not completed.
    pub in_flight: u64,
    /// Since the agent took the oldest of them; none if there is none.
    pub oldest_age_ms: Option<u64>,
    /// Reads completed.
    pub reads: u64,
    /// Writes completed.
    pub writes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Requests that were failed.
    pub errors: u64,
    /// Times that a request went back to the module to be held, for no server answered.
    pub held: u64,
    /// Tries beyond the first one of each request.
    pub retries: u64,
    /// Of the reads.
    pub read_latency: Latency,
    /// Of the writes.
    pub write_latency: Latency,
}

/// How long requests took, from the ring and back to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Latency {
    /// Arithmetic mean.
    pub mean_us: u64,
    /// Half of them took no longer.
    pub p50_us: u64,
    /// 99 of 100 took no longer.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// Answer to `GET /inflight`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InFlight {
    /// Those that the agent has taken from the module and not completed, the oldest first. What it
    /// completes at once is not among them.
    pub requests: Vec<RequestStatus>,
}

/// One request on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RequestStatus {
    /// Name of the disk.
    pub device: String,
    /// Queue of the device, the number of its worker.
    pub queue: u32,
    /// Tag in the queue.
    pub tag: u16,
    /// `read` or `write`.
    pub op: String,
    /// Where on the volume, in bytes.
    pub offset: u64,
    /// Bytes.
    pub len: u32,
    /// Since the agent took it.
    pub age_us: u64,
    /// Tries so far, the one under way included. 0: it waits for its turn, behind others or behind
    /// a write to the same blocks that may still land.
    pub tries: u32,
    /// The URL that is tried, or was tried last; none before the first try, or if the list of URLs
    /// has changed since.
    pub url: Option<String>,
    /// Why the try before failed, for people; none if none has.
    pub last: Option<String>,
}

/// Answer to `GET /volumes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Volumes {
    /// In the order of their names.
    pub volumes: Vec<VolumeStatus>,
}

/// One volume of the repository, attached or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeStatus {
    /// As the server has it.
    pub name: String,
    /// Of the volume; none where the listing did not say and nobody asked.
    pub size_bytes: Option<u64>,
}

/// Answer to `GET /errors`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Errors {
    /// At most [`MAX_FAILURES`], the newest first.
    pub errors: Vec<Failure>,
}

/// Something that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// When it was given up, in milliseconds since the epoch.
    pub unix_ms: u64,
    /// The operation: `list`, `stat`, `create`, `extend`, `destroy`, `open`, `read`, `write`,
    /// `probe`.
    pub what: String,
    /// Volume that it was about.
    pub volume: Option<String>,
    /// Which URL answered what and after how many tries, for people.
    pub message: String,
    /// What the module was told, as a positive number.
    pub errno: i32,
    /// The URL that was tried last.
    pub url: Option<String>,
}

/// Answer to anything that the agent could not do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Why.
    pub error: ErrorInfo,
}

/// Body of [`Refused`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorInfo {
    /// As a positive number.
    pub errno: i32,
    /// Such as `ETIMEDOUT`.
    pub name: String,
    /// For people.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_agent_leaves_fields_out_and_a_newer_one_adds_some() {
        let text = r#"{"agent":{"version":"9","new":1},"x":[],
            "urls":[{"url":"http://a","state":"limping"}]}"#;
        let status: Status = serde_json::from_str(text).expect("readable");
        assert_eq!(status.agent.version, "9");
        assert_eq!(status.agent.session, None);
        assert_eq!(status.urls[0].state, UrlState::Unknown);
        assert_eq!(status.devices, []);
    }

    #[test]
    fn what_is_written_is_read() {
        let refused = Refused {
            error: ErrorInfo { errno: 110, name: "ETIMEDOUT".into(), message: "late".into() },
        };
        let text = serde_json::to_string(&refused).expect("writable");
        assert_eq!(text, r#"{"error":{"errno":110,"name":"ETIMEDOUT","message":"late"}}"#);
        assert_eq!(serde_json::from_str::<Refused>(&text).expect("readable"), refused);
        // A reply of another kind is not taken for a refusal.
        assert!(serde_json::from_str::<Refused>(r#"{"volumes":[]}"#).is_err());
    }

    #[test]
    fn states_are_words() {
        let url = UrlStatus { state: UrlState::Down, ..UrlStatus::default() };
        let value = serde_json::to_value(url).expect("writable");
        assert_eq!(value["state"], "down");
        assert_eq!(value["latency_us"], serde_json::Value::Null);
    }
}
