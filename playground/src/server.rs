// SPDX-License-Identifier: GPL-2.0-only
//! The server's life: start, the accepting of connections, and the end.
//!
//! A [`Playground`] has threads of its own, so it serves whatever its starter does meanwhile: a
//! test that blocks its only thread, or one with another runtime.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::{watch, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::config::{Config, Limits};
use crate::connection;
use crate::faults::{admin, Faults};
use crate::routes::Routes;
use crate::store::Store;
use crate::target::{Prefix, PrefixError};

/// How long a disk may hold up the end, once the connections are closed.
const LAST_WRITES: Duration = Duration::from_secs(1);

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be made or opened.
    #[error("cannot use the folder {} for data: {source}", path.display())]
    Datapath {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}{}", advice(source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The admin API's port cannot be listened on.
    #[error("cannot listen on {address}, which --admin-port asks for: {source}")]
    Admin {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The repository's path is none.
    #[error("the repository's path {path:?} {source}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        source: PrefixError,
    },
    /// No threads.
    #[error("cannot start the server's threads: {0}")]
    Threads(io::Error),
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (another server has the port: choose another by --port)",
        io::ErrorKind::PermissionDenied => {
            " (ports below 1024 are for root: choose another by --port)"
        }
        io::ErrorKind::AddrNotAvailable => " (--listen takes an address of this machine)",
        _ => "",
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    No,
    Drained,
    Now,
}

/// A server that runs until it is shut down, killed or dropped; a drop is a shutdown.
#[derive(Debug)]
pub struct Playground {
    address: SocketAddr,
    admin_address: Option<SocketAddr>,
    url: String,
    datapath: PathBuf,
    faults: Faults,
    stop: watch::Sender<Stop>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Playground {
    /// Starts a server; it accepts connections when this returns.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let prefix = Prefix::parse(&config.path)
            .map_err(|source| StartError::Path { path: config.path.clone(), source })?;
        let store = Store::open(&config.datapath, config.sync, config.limits.open_volumes)
            .map_err(|source| StartError::Datapath { path: config.datapath.clone(), source })?;
        let datapath = store.path().to_owned();
        let address = SocketAddr::new(config.listen, config.port);
        let (listener, address) =
            listen(address).map_err(|source| StartError::Listen { address, source })?;
        let url = format!("http://{address}{prefix}");
        let admin = config.admin_port.map(|port| {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            listen(address).map_err(|source| StartError::Admin { address, source })
        });
        let (admin, admin_address) = admin.transpose()?.unzip();

        let (stop, stopped) = watch::channel(Stop::No);
        let faults = Faults::new(config.faults.clone());
        let routes = Arc::new(Routes::new(store, prefix, &config));
        let service =
            Service { routes, faults: faults.clone(), limits: config.limits, stop: stopped };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("playground")
            .enable_all()
            .build()
            .map_err(StartError::Threads)?;
        let thread = thread::Builder::new()
            .name(String::from("playground"))
            .spawn(move || run(runtime, listener, admin, service))
            .map_err(StartError::Threads)?;
        Ok(Self { address, admin_address, url, datapath, faults, stop, thread: Some(thread) })
    }

    /// The repository's URL, with a `/` at its end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The address listened on, with the port that was chosen if the configuration left it open.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the admin API, if the configuration asked for one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// What goes wrong on purpose, to be changed and counted while the server runs.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The absolute path of the data folder.
    pub fn datapath(&self) -> &Path {
        &self.datapath
    }

    /// Stops listening, lets the requests under way end within the configured time, and returns
    /// once all connections are closed. It blocks the thread.
    pub fn shutdown(mut self) {
        self.end(Stop::Drained);
    }

    /// Drops all connections and requests at once, as the death of the process would, and returns
    /// once that is done. A write to a file that has begun may still end. It blocks the thread.
    pub fn kill(mut self) {
        self.end(Stop::Now);
    }

    fn end(&mut self, how: Stop) {
        self.stop.send_replace(how);
        if let Some(thread) = self.thread.take() {
            // It has no result, and a panic there has been reported by the panic's own message.
            let _ = thread.join();
        }
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        self.end(Stop::Drained);
    }
}

/// What every connection needs.
#[derive(Debug, Clone)]
struct Service {
    routes: Arc<Routes>,
    faults: Faults,
    limits: Limits,
    stop: watch::Receiver<Stop>,
}

fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn run(runtime: Runtime, listener: TcpListener, admin: Option<TcpListener>, service: Service) {
    let mut stop = service.stop.clone();
    runtime.block_on(async {
        if let Some(admin) = admin {
            // Ends with the runtime: what is held can be let go while the server drains.
            tokio::spawn(admin::serve(admin, service.faults.clone()));
        }
        let mut connections = JoinSet::new();
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => {
                tokio::select! {
                    () = accept(&listener, &service, &mut connections) => {}
                    () = told_to_stop(&mut stop) => {}
                }
            }
            Err(error) => tracing::error!(%error, "the listening socket is unusable"),
        }
        // The listener is closed: a client that comes now is refused by the kernel.
        if *stop.borrow() != Stop::Now {
            let ended = async { while connections.join_next().await.is_some() {} };
            if timeout(service.limits.drain_timeout, ended).await.is_err() {
                warn!(left = connections.len(), "requests did not end in time");
            }
        }
        connections.shutdown().await;
    });
    runtime.shutdown_timeout(LAST_WRITES);
}

async fn accept(
    listener: &tokio::net::TcpListener,
    service: &Service,
    connections: &mut JoinSet<()>,
) {
    let room = Arc::new(Semaphore::new(service.limits.connections));
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Most likely too many open files: those in use have to be closed first.
                warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if let Err(error) = prepare(&stream, &service.limits) {
            debug!(%peer, %error, "connection gone before it began");
            continue;
        }
        let Service { routes, faults, limits, mut stop } = service.clone();
        connections.spawn(async move {
            let stop = told_to_stop(&mut stop);
            connection::serve(stream, peer, routes, faults, limits.head_timeout, stop).await;
            drop(place);
        });
    }
}

fn prepare(stream: &TcpStream, limits: &Limits) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // Bounds the wait for a client that takes nothing of its answer.
    let wait = u32::try_from(limits.body_timeout.as_millis()).unwrap_or(u32::MAX);
    setsockopt(&stream.as_fd(), sockopt::TcpUserTimeout, &wait)?;
    Ok(())
}

async fn told_to_stop(stop: &mut watch::Receiver<Stop>) {
    // An error means that the handle is gone, which sends its message first.
    let _ = stop.wait_for(|stop| *stop != Stop::No).await;
}
