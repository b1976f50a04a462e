// SPDX-License-Identifier: GPL-2.0-only
//! What a playground is told at its start; the command line and tests both fill this in.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use crate::faults::plan::Plan;
use crate::quirks::Quirks;

/// A server's settings. The defaults are those of the command line.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder of the volumes, made if missing.
    pub datapath: PathBuf,
    /// The address to listen on.
    pub listen: IpAddr,
    /// The port to listen on; 0 takes any free one.
    pub port: u16,
    /// The repository's path in its URL, `/` or a prefix such as `/store/one`.
    pub path: String,
    /// Data are on the disk before a change is answered.
    pub sync: bool,
    /// A ranged PUT goes by its first byte and its body's own length.
    pub lenient: bool,
    /// Deviations of servers in the field, to be imitated.
    pub quirks: Quirks,
    /// Faults that requests meet from the start on.
    pub faults: Option<Plan>,
    /// The port of 127.0.0.1 on which faults can be changed and counted; 0 takes any free one.
    pub admin_port: Option<u16>,
    /// Bounds on what a client can make the server hold or wait for.
    pub limits: Limits,
}

/// Bounds on what a client can make the server hold or wait for.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at one time; more wait in the listen queue.
    pub connections: usize,
    /// Volumes kept open between requests.
    pub open_volumes: usize,
    /// How long a request's head may take, which is also how long an idle connection is kept.
    pub head_timeout: Duration,
    /// How long the next piece of a body may take, in either direction.
    pub body_timeout: Duration,
    /// How long the requests under way may take to end once the server was told to stop.
    pub drain_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            datapath: PathBuf::from("playground_data"),
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 80,
            path: String::from("/"),
            sync: false,
            lenient: false,
            quirks: Quirks::default(),
            faults: None,
            admin_port: None,
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// Settings for a test: the volumes in `datapath`, on any free port of 127.0.0.1.
    pub fn ephemeral(datapath: impl Into<PathBuf>) -> Self {
        Self { datapath: datapath.into(), port: 0, ..Self::default() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // With `open_volumes` below the usual limit of 1,024 open files.
            connections: 768,
            open_volumes: 128,
            head_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(5),
        }
    }
}
