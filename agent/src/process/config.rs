// SPDX-License-Identifier: GPL-2.0-only
//! The agent's configuration file and command line, which together become one [`Config`].
//!
//! Read once by the main thread at the start. What the module knows (URLs, time-outs, limits) is
//! not here: it is the module's to say, and changes while the agent runs.

use std::fs;
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use srb_proto::control::MAX_POLL_USECS;
use tracing::level_filters::LevelFilter;

use crate::base::tuning::{ReadChoice, RestConfig};
use srb_status::DEFAULT_SOCKET;

/// Where the configuration is, unless told otherwise.
pub const DEFAULT_PATH: &str = "/etc/srb/agent.toml";
/// Where the module is, unless told otherwise.
pub const DEFAULT_DEVICE: &str = "/dev/srb-control";

/// The command line.
#[derive(Clone, Debug, Default, clap::Parser)]
#[command(
    name = "srb-agent",
    version,
    about = "Serves the block devices of srb.ko from a REST repository"
)]
pub struct Arguments {
    /// Configuration file [default: /etc/srb/agent.toml, which may be absent]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Status socket [default: /run/srb/agent.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// The module's control device
    #[arg(long, value_name = "PATH", default_value = DEFAULT_DEVICE)]
    pub device: PathBuf,
    /// Take the place of a running agent, which finishes what it has in flight
    #[arg(long)]
    pub takeover: bool,
    /// Wait, with everything prepared, until the running agent has gone, and take its place
    #[arg(long, conflicts_with = "takeover")]
    pub standby: bool,
    /// Log at least info (-v) or debug (-vv); otherwise as the module's `debug` says
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Stay in the foreground, as it does in any case
    #[arg(long, hide = true)]
    pub foreground: bool,
}

/// The configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Text {
    socket: PathBuf,
    log: Option<Level>,
    lock_memory: bool,
    oom_score_adj: Within<-1000, 1000>,
    drain_secs: u64,
    probe: bool,
    idle_connections: usize,
    idle_timeout_secs: u64,
    read_choice: ReadChoice,
    hedge_reads_after_ms: Option<NonZeroU64>,
    settle_secs: u64,
    poll_usecs: Within<0, { MAX_POLL_USECS as i32 }>,
}

impl Default for Text {
    fn default() -> Self {
        let rest = RestConfig::default();
        Self {
            socket: DEFAULT_SOCKET.into(),
            log: None,
            lock_memory: true,
            oom_score_adj: Within(-1000),
            drain_secs: 2,
            probe: rest.probe,
            idle_connections: rest.idle_connections,
            idle_timeout_secs: rest.idle_timeout.as_secs(),
            read_choice: rest.read_choice,
            hedge_reads_after_ms: None,
            settle_secs: rest.settle.as_secs(),
            poll_usecs: Within(50),
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Level(LevelFilter);

impl TryFrom<String> for Level {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let known = ["error", "warn", "info", "debug", "trace"].contains(&&*name);
        let level = LevelFilter::from_str(&name).ok().filter(|_| known);
        level
            .map(Self)
            .ok_or_else(|| format!("`{name}` is none of error, warn, info, debug, trace"))
    }
}

/// A number within bounds, both included.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "i32")]
struct Within<const LEAST: i32, const MOST: i32>(i32);

impl<const LEAST: i32, const MOST: i32> TryFrom<i32> for Within<LEAST, MOST> {
    type Error = String;

    fn try_from(value: i32) -> Result<Self, String> {
        let valid = (LEAST..=MOST).contains(&value);
        valid.then_some(Self(value)).ok_or_else(|| format!("{value} is not from {LEAST} to {MOST}"))
    }
}

/// What governs this process.
#[derive(Clone, Debug)]
pub struct Config {
    /// Of the status socket.
    pub socket: PathBuf,
    /// Of the control device.
    pub device: PathBuf,
    /// Whether a running agent is replaced.
    pub takeover: bool,
    /// Whether a running agent is waited for to go.
    pub standby: bool,
    /// The least that is logged; nothing leaves it to the module.
    pub log: Option<LevelFilter>,
    /// Whether memory is locked.
    pub lock_memory: bool,
    /// How much the kernel should want to kill this process when memory is out.
    pub oom_score_adj: i32,
    /// How long requests in flight may take at the end.
    pub drain: Duration,
    /// Microseconds for which an idle worker looks for submissions before it goes to sleep, if
    /// the last ones came as soon as that.
    pub poll_usecs: u32,
    /// Of the HTTP side.
    pub rest: RestConfig,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// Of the file.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// The file says something that is not understood.
    #[error("{path}: {error}")]
    Parse {
        /// Of the file.
        path: PathBuf,
        /// What and where, with the line.
        error: Box<toml::de::Error>,
    },
}

fn read(path: &Path, must_exist: bool) -> Result<Text, ConfigError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => String::new(),
        Err(error) => return Err(ConfigError::Read { path: path.into(), error }),
    };
    toml::from_str(&text)
        .map_err(|error| ConfigError::Parse { path: path.into(), error: Box::new(error) })
}

impl Config {
    /// Reads the file that `arguments` name, or the default one, and lets `arguments` overrule it.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(arguments: &Arguments) -> Result<Self, ConfigError> {
        let text = match &arguments.config {
            Some(path) => read(path, true)?,
            None => read(Path::new(DEFAULT_PATH), false)?,
        };
        let asked = match arguments.verbose {
            0 => text.log.map(|level| level.0),
            1 => Some(LevelFilter::INFO),
            _ => Some(LevelFilter::DEBUG),
        };
        let socket = arguments.socket.clone().unwrap_or(text.socket);
        let settling_file = Some(socket.with_extension("settling"));
        Ok(Self {
            socket,
            device: arguments.device.clone(),
            takeover: arguments.takeover,
            standby: arguments.standby,
            log: asked,
            lock_memory: text.lock_memory,
            oom_score_adj: text.oom_score_adj.0,
            drain: Duration::from_secs(text.drain_secs),
            poll_usecs: text.poll_usecs.0.unsigned_abs(),
            rest: RestConfig {
                probe: text.probe,
                idle_connections: text.idle_connections,
                idle_timeout: Duration::from_secs(text.idle_timeout_secs),
                read_choice: text.read_choice,
                hedge_reads_after: text
                    .hedge_reads_after_ms
                    .map(|millis| Duration::from_millis(millis.get())),
                settle: Duration::from_secs(text.settle_secs),
                settling_file,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("agent.toml");
        fs::write(&path, text).expect("written");
        Config::load(&Arguments { config: Some(path), ..Arguments::default() })
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let config = load("").expect("valid");
        assert_eq!(config.socket, Path::new(DEFAULT_SOCKET));
        assert_eq!((config.lock_memory, config.oom_score_adj), (true, -1000));
        assert_eq!((config.log, config.drain), (None, Duration::from_secs(2)));
        assert_eq!(config.poll_usecs, 50);
        assert!(config.rest.probe);
        assert_eq!(config.rest.read_choice, ReadChoice::Latency);
        assert_eq!(config.rest.hedge_reads_after, None);
    }

    #[test]
    fn every_key() {
        let text = "socket = '/tmp/s'\nlog = 'debug'\nlock_memory = false\noom_score_adj = 7\n\
                    drain_secs = 1\nprobe = false\nidle_connections = 3\nidle_timeout_secs = 4\n\
                    read_choice = 'order'\nhedge_reads_after_ms = 50\nsettle_secs = 5\n\
                    poll_usecs = 6";
        let config = load(text).expect("valid");
        assert_eq!(config.socket, Path::new("/tmp/s"));
        assert_eq!((config.lock_memory, config.oom_score_adj), (false, 7));
        assert_eq!(config.log, Some(LevelFilter::DEBUG));
        assert_eq!((config.drain, config.rest.probe), (Duration::from_secs(1), false));
        assert_eq!(config.rest.idle_connections, 3);
        assert_eq!(config.rest.idle_timeout, Duration::from_secs(4));
        assert_eq!(config.rest.read_choice, ReadChoice::Order);
        assert_eq!(config.rest.hedge_reads_after, Some(Duration::from_millis(50)));
        assert_eq!(config.rest.settle, Duration::from_secs(5));
        assert_eq!(config.poll_usecs, 6);
        assert_eq!(config.rest.settling_file.as_deref(), Some(Path::new("/tmp/s.settling")));
    }

    #[test]
    fn errors_name_the_file_the_line_and_the_key() {
        for (text, expected) in [
            ("\nsockt = '/tmp'\n", "unknown field `sockt`"),
            ("\nlog = 'loud'\n", "none of error, warn"),
            ("\nlog = 'off'\n", "none of error, warn"),
            ("\noom_score_adj = 2000\n", "not from -1000 to 1000"),
            ("\nprobe = 1\n", "expected a boolean"),
            ("\nprobe\n", "key"),
            ("\nread_choice = 'random'\n", "expected `latency` or `order`"),
            ("\nhedge_reads_after_ms = 0\n", "nonzero"),
            ("\npoll_usecs = 1001\n", "1001 is not from 0 to 1000"),
        ] {
            let error = load(text).expect_err("invalid").to_string();
            assert!(error.contains("agent.toml"), "{error}");
            assert!(error.contains("line 2"), "{error}");
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_file_that_was_named_must_exist() {
        let config = Some("/nonexistent/agent.toml".into());
        let error = Config::load(&Arguments { config, ..Arguments::default() }).expect_err("gone");
        assert!(error.to_string().starts_with("cannot read /nonexistent/agent.toml: "), "{error}");
        assert!(read(Path::new("/nonexistent"), false).is_ok());
    }

    #[test]
    fn the_command_line_overrules_the_file() {
        use clap::Parser;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("agent.toml");
        fs::write(&path, "socket = '/a'\nlog = 'error'").expect("written");
        let line =
            ["srb-agent", "--config", path.to_str().expect("UTF-8"), "--socket", "/b", "-vv"];
        let config = Config::load(&Arguments::parse_from(line)).expect("valid");
        assert_eq!(config.socket, Path::new("/b"));
        assert_eq!(config.log, Some(LevelFilter::DEBUG));
        assert_eq!(config.device, Path::new(DEFAULT_DEVICE));
    }
}
