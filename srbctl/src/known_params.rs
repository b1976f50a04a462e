// SPDX-License-Identifier: GPL-2.0-only
//! What this program knows of the module's parameters beforehand, for help and for advice.

/// What is known of a parameter beforehand.
pub(crate) struct Known {
    /// Name of the file.
    pub(crate) name: &'static str,
    /// For people.
    pub(crate) description: &'static str,
    /// For advice alone: it is the module that refuses what lies outside.
    range: &'static str,
}

const fn known(name: &'static str, description: &'static str, range: &'static str) -> Known {
    Known { name, description, range }
}

/// The one that is no number.
pub(crate) const POLICY: &str = "policy";
const LOG_LEVELS: &str = "0 to 7";
const SECONDS: &str = "1 to 3600 seconds";

/// In the order of the manual.
pub(crate) const KNOWN: [Known; 8] = [
    known("debug", "log level, 0 (emergency) to 7 (debug)", LOG_LEVELS),
    known("srb_log", "the same as debug", LOG_LEVELS),
    known("req_timeout", "seconds in which a server must answer a request", SECONDS),
    known("nb_req_retries", "tries of a request after the first one", "0 to 100"),
    known("server_conn_timeout", "seconds in which a server must take a connection", SECONDS),
    known("thread_pool_size", "requests at the servers, per device", "1 to 1024"),
    known(
        "agent_grace",
        "seconds devices wait for an agent: 0 fails at once, -1 waits for ever",
        "-1 to 86400 seconds",
    ),
    known(
        POLICY,
        "policy of devices to come, for when no server answers",
        "fail or queue[=SECONDS]",
    ),
];

/// What the module takes for a parameter, as far as is known.
pub(crate) fn range(name: &str) -> Option<&'static str> {
    KNOWN.iter().find(|known| known.name == name).map(|known| known.range)
}
