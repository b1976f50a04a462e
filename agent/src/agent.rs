// SPDX-License-Identifier: GPL-2.0-only
//! The life of an agent: begins a session, serves until it ends or somebody asks for the end.
//!
//! The hop before is `main`, or a test with a simulated module; the hops after are the data
//! workers, each on a thread of its own, and on this thread the control worker and the status
//! socket.

use std::future::Future;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::base::clock::Clock;
use crate::base::failures::Failures;
use crate::kernel::bell::Port;
use crate::kernel::control_channel::ControlWorker;
use crate::kernel::devices::Devices;
use crate::kernel::ended::{BeginError, Ended};
use crate::kernel::office::Office;
use crate::kernel::session::Begun;
use crate::kernel::worker::{self, Order, Shared};
use crate::parting;
use crate::process::config::Config;
use crate::process::logging::Log;
use crate::process::notify::{keep_alive, notify, NotifyState};
use crate::status::socket::StatusSocket;
use crate::status::view::View;
use crate::volume::{Prober, Repository, Volumes};

/// For what was begun on volumes and cannot be left half done, at the end.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);
/// Between attempts to have the status socket.
const LISTEN_PERIOD: Duration = Duration::from_secs(1);

/// Why an agent is not running.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It never began to.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// Its session is over.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// The system refused something that nothing goes without.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// The control channel cannot be used.
    #[error("cannot map the control channel: {0}")]
    ControlChannel(Errno),
}

/// Why an agent stops although nothing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// Its user wants it to.
    Asked,
    /// Another agent takes over.
    Replaced,
}

/// All that an agent can have before it has a session; its threads end when it is dropped.
pub struct Prepared {
    clock: Clock,
    started: SystemTime,
    repository: Arc<Repository>,
    failures: Arc<Failures>,
    idle: Vec<worker::Idle>,
    ended: mpsc::UnboundedReceiver<Result<(), Ended>>,
}

impl Prepared {
    /// For devices of so many `queues`. Each thread has `heap_bytes` of memory ready.
    ///
    /// # Errors
    /// Those of making a thread.
    pub fn new(config: &Config, queues: u32, heap_bytes: usize) -> io::Result<Self> {
        let (clock, started) = (Clock::start(), SystemTime::now());
        let repository = Repository::new(config.rest.clone());
        let failures = Arc::new(Failures::default());
        let shared = Shared {
            repository: Arc::clone(&repository),
            failures: Arc::clone(&failures),
            clock,
            poll_usecs: config.poll_usecs,
            heap_bytes,
        };
        let (end, ended) = mpsc::unbounded_channel();
        let start = |number| worker::spawn(number, shared.clone(), end.clone());
        let idle = (0..queues).map(start).collect::<io::Result<_>>()?;
        Ok(Self { clock, started, repository, failures, idle, ended })
    }

    /// Where requests will go.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.repository
    }
}

/// The data workers, joined on drop.
struct Workers {
    handles: Rc<[worker::Handle]>,
    ended: mpsc::UnboundedReceiver<Result<(), Ended>>,
}

impl Workers {
    fn start(
        idle: Vec<worker::Idle>,
        ports: Vec<Port>,
        ended: mpsc::UnboundedReceiver<Result<(), Ended>>,
    ) -> Self {
        let handles = idle.into_iter().zip(ports).map(|(idle, port)| idle.serve(port)).collect();
        Self { handles, ended }
    }

    /// The first end of a worker that nobody asked for.
    async fn failure(&mut self) -> Ended {
        match self.ended.recv().await {
            Some(Err(ended)) => ended,
            Some(Ok(())) | None => Ended::Thread("a worker has stopped".into()),
        }
    }

    /// Lets the workers finish what is in flight.
    async fn drain(&mut self, stop: Stop) -> Result<(), Ended> {
        for handle in &*self.handles {
            let order = match stop {
                Stop::Asked => Order::Drain,
                Stop::Replaced => Order::Finish,
            };
            // A worker that is gone has said why.
            let _ = handle.send(order);
        }
        for _ in &*self.handles {
            if let Some(result) = self.ended.recv().await {
                result?;
            }
        }
        Ok(())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for handle in &*self.handles {
            handle.abandon();
        }
        for handle in &*self.handles {
            handle.join();
        }
    }
}

/// Serves the session that has `begun` until `stop` is ready. Must be run inside a `LocalSet` on a
/// current-thread runtime.
///
/// # Errors
/// See [`AgentError`].
pub async fn run(
    config: &Config,
    begun: Begun,
    log: Log,
    stop: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    let prepared = Prepared::new(config, begun.session.queues(), 0)?;
    tokio::select! {
        result = serve(config, prepared, begun, log, stop) => result,
        never = keep_alive(config.takeover) => match never {},
    }
}

/// As [`run`], with what is prepared, and without signs of life for the supervisor.
pub(crate) async fn serve(
    config: &Config,
    prepared: Prepared,
    begun: Begun,
    log: Log,
    stop: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    let Begun { session, control, data } = begun;
    let channel = session.control_channel().map_err(AgentError::ControlChannel)?;
    tracing::info!("session {} with {} queues", session.number(), session.queues());

    let Prepared { clock, started, repository, failures, idle, ended } = prepared;
    let mut workers = Workers::start(idle, data, ended);
    let handles = Rc::clone(&workers.handles);
    let office = Rc::new(Office {
        volumes: Volumes::new(Arc::clone(&repository)),
        devices: Devices::new(Arc::clone(&session), Arc::clone(&repository), handles),
        session,
        repository,
        failures,
        log,
    });
    // Before anything is taken: a command may have waited for this agent.
    office.read_config()?;
    let mut control = ControlWorker::new(control.watch()?, channel, Rc::clone(&office));
    let view = Rc::new(View { office: Rc::clone(&office), clock, started });

    let stopped = tokio::select! {
        retired = control.run() => retired.map(|()| Stop::Replaced),
        ended = workers.failure() => Err(ended),
        ended = serve_devices(config, &office, view) => Err(ended),
        () = stop => Ok(Stop::Asked),
    };
    let stop = stopped?;
    match stop {
        Stop::Asked => {
            match parting::words(&office.devices.list()) {
                Some(words) => {
                    notify(&[NotifyState::Stopping, NotifyState::Status(&words)]);
                    // Loud, whatever the level of the log: it is the last occasion.
                    tracing::error!("{words}");
                }
                None => {
                    notify(&[NotifyState::Stopping]);
                    tracing::info!("stopping");
                }
            }
        }
        // The supervisor has been told of the other one.
        Stop::Replaced => tracing::info!("another agent takes over"),
    }
    let drain = async { tokio::try_join!(control.drain(), workers.drain(stop)) };
    match timeout(config.drain, drain).await {
        Ok(drained) => drained.map(drop)?,
        Err(_) => tracing::warn!("requests are left in flight: the next agent gets them"),
    }
    drop(control);
    if timeout(SETTLE_TIMEOUT, office.volumes.settle()).await.is_err() {
        tracing::warn!("what was begun on a volume may be half done");
    }
    Ok(())
}

/// All that is done on this thread beside the control channel. Ends with the session alone.
async fn serve_devices(config: &Config, office: &Rc<Office>, view: Rc<View>) -> Ended {
    if let Err(ended) = office.devices.open_all().await {
        return ended;
    }
    let socket = StatusSocket::bind(&config.socket);
    let session = format!("session {}", office.session.number());
    notify(&[NotifyState::Ready, NotifyState::Status(&session)]);
    let status = async {
        listening(&config.socket, socket).await.serve(view).await;
        std::future::pending::<Ended>().await
    };
    let prober = Prober::new(Arc::clone(&office.repository));
    tokio::select! {
        ended = office.follow_active_url() => ended,
        never = prober.run() => match never {},
        ended = status => ended,
    }
}

/// The status socket, once it can be had: an agent that did not let itself be replaced in time may
/// listen there until it has noticed. Serving devices comes first, and does not wait for it.
async fn listening(path: &Path, first: io::Result<StatusSocket>) -> StatusSocket {
    let (mut result, mut complained) = (first, false);
    loop {
        let error = match result {
            Ok(socket) => return socket,
            Err(error) => error,
        };
        if !std::mem::replace(&mut complained, true) {
            let path = path.display();
            tracing::error!("cannot listen at {path}: {error}; there is no status meanwhile");
        }
        sleep(LISTEN_PERIOD).await;
        result = StatusSocket::bind(path);
    }
}
