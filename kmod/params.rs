// SPDX-License-Identifier: GPL-2.0-only
//! The module's parameters: `/sys/module/srb/parameters/*`, and the words after `insmod srb.ko`.
//! What follows from a change is [`crate::commands::apply_parameters`]'s.

use crate::{ffi::param::parameter, proto::command::Policy};
use kernel::sync::atomic::{Atomic, Relaxed};

/// Time that an agent has for a request beyond its tries: for the pauses between them and for being
/// busy.
const DEADLINE_MARGIN_SECS: u32 = 30;

static DEBUG: Atomic<u32> = Atomic::new(6);
static REQ_TIMEOUT: Atomic<u32> = Atomic::new(30);
static NB_REQ_RETRIES: Atomic<u32> = Atomic::new(3);
static SERVER_CONN_TIMEOUT: Atomic<u32> = Atomic::new(30);
static THREAD_POOL_SIZE: Atomic<u32> = Atomic::new(32);
static AGENT_GRACE: Atomic<i32> = Atomic::new(60);
/// [`Policy::to_secs`].
static POLICY: Atomic<i64> = Atomic::new(0);

parameter!(
    debug: UintRange(0, 7), DEBUG, 0o644,
    "log level: 0 emergency, 1 alert, 2 critical, 3 error, 4 warning, 5 notice, 6 info, 7 debug"
);
parameter!(srb_log: UintRange(0, 7), DEBUG, 0o644, "the same as debug");
parameter!(
    req_timeout: UintRange(1, 3600), REQ_TIMEOUT, 0o644,
    "seconds in which a server must answer a request"
);
parameter!(
    nb_req_retries: UintRange(0, 100), NB_REQ_RETRIES, 0o644,
    "how often a failed request is tried again"
);
parameter!(
    server_conn_timeout: UintRange(1, 3600), SERVER_CONN_TIMEOUT, 0o644,
    "seconds in which a server must take a connection"
);
parameter!(
    thread_pool_size: UintRange(1, 1024), THREAD_POOL_SIZE, 0o444,
    "requests that are at the servers at a time, for each device"
);
parameter!(
    agent_grace: IntRange(-1, 86400), AGENT_GRACE, 0o644,
    "seconds that devices wait for an agent before requests fail; 0: not at all, -1: for ever"
);
parameter!(
    policy: PolicyWord, POLICY, 0o644,
    "srb_policy of devices to come: fail, queue or queue=SECONDS, when no server answers"
);

/// What becomes of requests of new devices that no server has answered.
pub(crate) fn policy() -> Policy {
    Policy::from_secs(POLICY.load(Relaxed))
}

/// Log level of the module.
pub(crate) fn debug() -> u32 {
    DEBUG.load(Relaxed)
}

/// Seconds for an answer.
pub(crate) fn req_timeout_secs() -> u32 {
    REQ_TIMEOUT.load(Relaxed)
}

/// Tries after the first.
pub(crate) fn nb_req_retries() -> u32 {
    NB_REQ_RETRIES.load(Relaxed)
}

/// Seconds for a connection.
pub(crate) fn server_conn_timeout_secs() -> u32 {
    SERVER_CONN_TIMEOUT.load(Relaxed)
}

/// Requests at the servers, for each device.
pub(crate) fn thread_pool_size() -> u32 {
    THREAD_POOL_SIZE.load(Relaxed)
}

/// Seconds that devices wait for an agent; negative: for ever.
pub(crate) fn agent_grace() -> i32 {
    AGENT_GRACE.load(Relaxed)
}

/// The longest that an agent which works takes for one request.
pub(crate) fn request_deadline_secs() -> u32 {
    let once = req_timeout_secs().saturating_add(server_conn_timeout_secs()).saturating_add(2);
    once.saturating_mul(nb_req_retries().saturating_add(1)).saturating_add(DEADLINE_MARGIN_SECS)
}

/// The longest that a command waits: none takes more than four requests, undoing included.
pub(crate) fn command_timeout_msecs() -> u32 {
    request_deadline_secs().saturating_mul(4).saturating_mul(1000)
}
