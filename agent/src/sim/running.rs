// SPDX-License-Identifier: GPL-2.0-only
//! A whole agent on a thread of this process, connected to a simulated module.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::LocalSet;

use super::{SimModule, PATIENCE};
use crate::agent::{self, AgentError};
use crate::base::tuning::RestConfig;
use crate::kernel::session::{Entrance, Entry, Session, Standby};
use crate::kernel::worker;
use crate::process::config::Config;
use crate::process::logging::Log;
use crate::standby;

/// An agent that serves a simulated module until it is stopped, cut off or dropped.
pub struct RunningAgent {
    socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), AgentError>>>,
}

impl RunningAgent {
    /// A configuration for tests: the socket in `folder`, and nothing that touches the process.
    #[must_use]
    pub fn config(folder: &Path) -> Config {
        Config {
            socket: folder.join("agent.sock"),
            device: PathBuf::new(),
            takeover: false,
            standby: false,
            log: None,
            lock_memory: false,
            oom_score_adj: 0,
            drain: Duration::from_secs(2),
            poll_usecs: 50,
            rest: RestConfig::default(),
        }
    }

    /// Starts an agent; returns when it has a session and has opened its status socket, or is over.
    #[must_use]
    pub fn start(module: &SimModule, config: Config) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (module, socket) = (module.clone(), config.socket.clone());
        let body = move || {
            let begun = Session::begin(&module, Entry::IfFree)?;
            let runtime = worker::runtime()?;
            LocalSet::new().block_on(&runtime, async {
                let stop = async move { drop(stopped.await) };
                agent::run(&config, begun, Log::foreign(), stop).await
            })
        };
        let thread = thread::spawn(body);
        let deadline = Instant::now() + PATIENCE;
        while std::os::unix::net::UnixStream::connect(&socket).is_err()
            && !thread.is_finished()
            && Instant::now() < deadline
        {
            thread::sleep(Duration::from_millis(1));
        }
        Self { socket, stop: Some(stop), thread: Some(thread) }
    }

    /// Starts an agent that stands by; returns when it has been told that another one is there.
    #[must_use]
    pub fn stand_by(module: &SimModule, config: Config) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (module, socket) = (module.clone(), config.socket.clone());
        let (entered, has_entered) = mpsc::channel();
        let body = move || {
            let entrance = Standby::enter(&module)?;
            // The test that waits for it is there.
            let _ = entered.send(());
            let runtime = worker::runtime()?;
            LocalSet::new().block_on(&runtime, async {
                let stop = async move { drop(stopped.await) };
                let log = Log::foreign();
                match entrance {
                    Entrance::Begun(begun) => agent::run(&config, begun, log, stop).await,
                    Entrance::Occupied(it) => standby::run(&config, it, log, stop).await,
                }
            })
        };
        let thread = thread::spawn(body);
        // One that failed to is seen by who waits for its end.
        let _ = has_entered.recv_timeout(PATIENCE);
        Self { socket, stop: Some(stop), thread: Some(thread) }
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Of its status.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks it to end, as SIGTERM does, and waits.
    ///
    /// # Errors
    /// What it ended with, if that was not the request.
    pub fn stop(mut self) -> Result<(), AgentError> {
        drop(self.stop.take());
        self.wait()
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// What it ended with.
    pub fn wait(mut self) -> Result<(), AgentError> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

impl Drop for RunningAgent {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A test that cares has waited.
            let _ = thread.join();
        }
    }
}
