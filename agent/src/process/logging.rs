// SPDX-License-Identifier: GPL-2.0-only
//! The log on stderr, and its level: what the user asked for or the module's `debug`, whichever
//! says more.
//!
//! Set up by the main thread; the control worker changes the level whenever it reads the
//! parameters.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, reload, Registry};

/// Changes the level of the log.
#[derive(Clone, Debug)]
pub struct Log {
    floor: LevelFilter,
    handle: Option<reload::Handle<LevelFilter, Registry>>,
}

impl Log {
    /// Starts logging to stderr, without colours and times where systemd adds its own.
    ///
    /// `asked` is the level that the user wants at least; nothing lets the module decide alone.
    #[must_use]
    pub fn start(asked: Option<LevelFilter>) -> Self {
        let (filter, handle) = reload::Layer::new(asked.unwrap_or(LevelFilter::INFO));
        let journal = std::env::var_os("JOURNAL_STREAM").is_some();
        let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
        let registry = tracing_subscriber::registry().with(filter);
        let started = if journal {
            registry.with(lines.with_ansi(false).without_time()).try_init()
        } else {
            let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            registry.with(lines.with_ansi(terminal)).try_init()
        };
        let handle = started.is_ok().then_some(handle);
        Self { floor: asked.unwrap_or(LevelFilter::OFF), handle }
    }

    /// A log that somebody else set up, with a level of its own.
    #[must_use]
    pub fn foreign() -> Self {
        Self { floor: LevelFilter::OFF, handle: None }
    }

    /// Puts the module's `debug`, 0 to 7, in force.
    pub fn follow(&self, debug: u32) {
        if let Some(handle) = &self.handle {
            let level = level_of(debug).max(self.floor);
            if handle.reload(level).is_err() {
                tracing::warn!("cannot change the level of the log to {level}");
            }
        }
    }
}

/// The level that corresponds to a level of the kernel's log.
fn level_of(debug: u32) -> LevelFilter {
    match debug {
        0..=3 => LevelFilter::ERROR,
        4 => LevelFilter::WARN,
        5 | 6 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        let levels = [0, 3, 4, 5, 6, 7, 99].map(level_of);
        let (error, warn, info) = (LevelFilter::ERROR, LevelFilter::WARN, LevelFilter::INFO);
        let debug = LevelFilter::DEBUG;
        assert_eq!(levels, [error, error, warn, info, info, debug, debug]);
        assert_eq!(level_of(3).max(LevelFilter::OFF), error);
    }
}
