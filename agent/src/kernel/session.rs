// SPDX-License-Identifier: GPL-2.0-only
//! One agent's connection to the module: how it begins, and what is asked on it.
//!
//! The hop before is `main`, which begins a session; the hops after are the workers, each of which
//! owns one [`Port`], and the control worker, which asks for parameters and devices.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use nix::errno::Errno;
use srb_proto::command::RepositoryUrl;
use srb_proto::control::{ActiveUrl, Config, DeviceInfo, Hello, HELLO_TAKEOVER, URLS_CAPACITY};
use srb_proto::layout::{Mapping, ABI_VERSION, CONTROL, CONTROL_WORKER, DATA, MAGIC, MAX_QUEUES};
use tokio::io::unix::AsyncFd;
use tokio::io::Interest;

use super::bell::Port;
use super::control_device::{ControlDevice, ControlFile};
use super::ended::{ended, failed, BeginError, Ended};
use super::mapping::Channel;

/// How a session begins when another agent has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It does not: [`BeginError::Busy`].
    IfFree,
    /// In its place, once it has finished what it has in flight, or after a few seconds.
    TakeOver,
}

/// A session, on the file that began it.
pub struct Session {
    file: Box<dyn ControlFile>,
    number: u64,
    queues: u32,
}

/// What beginning a session gives: the session and a port for each worker.
pub struct Begun {
    /// The session itself.
    pub session: Arc<Session>,
    /// Of the control worker.
    pub control: Port,
    /// Of the data workers, by queue.
    pub data: Vec<Port>,
}

fn open(device: &dyn ControlDevice) -> Result<Box<dyn ControlFile>, BeginError> {
    device.open().map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT | Errno::ENXIO | Errno::ENODEV) => {
            BeginError::NotLoaded { device: device.name() }
        }
        Some(Errno::EACCES | Errno::EPERM) => BeginError::NotPermitted { device: device.name() },
        errno => failed(format!("open {}", device.name()))(errno.unwrap_or(Errno::EIO)),
    })
}

/// Asks for a session on `file`; what the module says is in `hello`, also if the answer is no.
fn ask(
    file: &dyn ControlFile,
    name: &str,
    entry: Entry,
    hello: &mut Hello,
) -> Result<(), BeginError> {
    let flags = match entry {
        Entry::IfFree => 0,
        Entry::TakeOver => HELLO_TAKEOVER,
    };
    *hello = Hello { magic: MAGIC, abi_version: ABI_VERSION, flags, ..Hello::default() };
    let answer = file.hello(hello);
    match answer {
        Ok(()) | Err(Errno::EBUSY) => {}
        Err(Errno::EPROTO) => {
            let (module, agent) = (hello.abi_version, ABI_VERSION);
            return Err(BeginError::Version { module, agent });
        }
        Err(Errno::EPERM | Errno::EACCES) => {
            return Err(BeginError::NotPermitted { device: name.to_owned() });
        }
        Err(errno) => return Err(failed("begin a session")(errno)),
    }
    let Hello { depth, window_bytes, queues, .. } = *hello;
    if (depth, window_bytes) != (DATA.depth, DATA.window_bytes) {
        return Err(BeginError::Geometry { depth, window_bytes });
    }
    if queues == 0 || queues as usize > MAX_QUEUES {
        return Err(failed(format!("serve {queues} queues"))(Errno::EPROTO));
    }
    answer.map_err(|_| BeginError::Busy)
}

impl Begun {
    /// Joins the session that was begun on `file` with every worker, on files that `open` gives.
    fn join(
        file: Box<dyn ControlFile>,
        hello: &Hello,
        mut open: impl FnMut() -> Result<Box<dyn ControlFile>, BeginError>,
    ) -> Result<Self, BeginError> {
        let session = Arc::new(Session { file, number: hello.session, queues: hello.queues });
        let mut join = |worker| Port::join(open()?, session.number, worker);
        let control = join(CONTROL_WORKER)?;
        let data = (0..session.queues).map(join).collect::<Result<_, _>>()?;
        Ok(Self { session, control, data })
    }
}

/// What came of the wish for a session.
pub enum Entrance {
    /// Here it is.
    Begun(Begun),
    /// Another agent has one.
    Occupied(Standby),
}

/// An agent that waits until it can have the session: all files that it will need are open, so that
/// it needs no right any more and nothing has to be looked up.
pub struct Standby {
    name: String,
    file: Box<dyn ControlFile>,
    /// One for each worker.
    spare: Vec<Box<dyn ControlFile>>,
    queues: u32,
    /// Number of the session that another agent had first.
    occupant: u64,
    superseded: bool,
}

impl Standby {
    /// Begins a session on `device`, or prepares to do so later.
    ///
    /// # Errors
    /// See [`BeginError`]; never [`BeginError::Busy`].
    pub fn enter(device: &dyn ControlDevice) -> Result<Entrance, BeginError> {
        let (file, name, mut hello) = (open(device)?, device.name(), Hello::default());
        match ask(&*file, &name, Entry::IfFree, &mut hello) {
            Ok(()) => Begun::join(file, &hello, || open(device)).map(Entrance::Begun),
            Err(BeginError::Busy) => {
                let Hello { queues, session: occupant, .. } = hello;
                let spare = (0..=queues).map(|_| open(device)).collect::<Result<_, _>>()?;
                let superseded = false;
                Ok(Entrance::Occupied(Self { name, file, spare, queues, occupant, superseded }))
            }
            Err(error) => Err(error),
        }
    }

    /// Begins the session if it can be had.
    ///
    /// # Errors
    /// As [`Self::enter`]. Being out of memory is none: it may be those who wait for the session
    /// that have it.
    pub fn begin(mut self, entry: Entry) -> Result<Entrance, BeginError> {
        let mut hello = Hello::default();
        match ask(&*self.file, &self.name, entry, &mut hello) {
            Ok(()) => {
                let (mut spare, name) = (self.spare.into_iter(), self.name);
                let none = || failed(format!("open {name} once more"))(Errno::EMFILE);
                Begun::join(self.file, &hello, || spare.next().ok_or_else(none))
                    .map(Entrance::Begun)
            }
            Err(BeginError::Busy) => {
                let another = hello.session != 0 && hello.session != self.occupant;
                self.superseded |= another && hello.flags & HELLO_TAKEOVER != 0;
                Ok(Entrance::Occupied(self))
            }
            Err(BeginError::Failed { errno: Errno::ENOMEM, .. }) => Ok(Entrance::Occupied(self)),
            Err(error) => Err(error),
        }
    }

    /// Queues of each device.
    #[must_use]
    pub fn queues(&self) -> u32 {
        self.queues
    }

    /// Whether an agent has taken over meanwhile. It may be of another version than this one.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        self.superseded
    }

    /// Parameters and URLs.
    ///
    /// # Errors
    /// As [`Session::config`].
    pub fn config(&self) -> Result<(Config, Vec<RepositoryUrl>), Ended> {
        read_config(&*self.file)
    }

    /// Waits until a session could begin; another agent may be faster.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub async fn vacancy(&self) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::ERROR;
        let file = Lent(self.file.as_fd());
        // SAFETY: The descriptor is that of `file`, always the same, and stays open as long as it
        // is borrowed, which is longer than it is registered.
        let file = unsafe { AsyncFd::register_with_interest(file, interest) }?;
        file.ready(interest).await.map(drop)
    }
}

struct Lent<'a>(BorrowedFd<'a>);

impl AsRawFd for Lent<'_> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn read_config(file: &dyn ControlFile) -> Result<(Config, Vec<RepositoryUrl>), Ended> {
    let (mut config, mut buffer) = (Config::default(), vec![0; URLS_CAPACITY]);
    file.config(&mut config, &mut buffer).map_err(|errno| ended("config", errno))?;
    let text = buffer.get(..config.urls_bytes as usize).unwrap_or_default();
    let urls = text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            RepositoryUrl::parse(line).map_err(|error| {
                Ended::Nonsense(format!("config gave a bad URL: {}", error.reason()))
            })
        })
        .collect::<Result<_, _>>()?;
    Ok((config, urls))
}

impl Session {
    /// Begins a session on `device` and joins it with every worker. If another agent has one,
    /// `entry` says what becomes of it.
    ///
    /// # Errors
    /// See [`BeginError`].
    pub fn begin(device: &dyn ControlDevice, entry: Entry) -> Result<Begun, BeginError> {
        let (file, mut hello) = (open(device)?, Hello::default());
        ask(&*file, &device.name(), entry, &mut hello)?;
        Begun::join(file, &hello, || open(device))
    }

    /// The module's number for it.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Data workers, and queues of each device.
    #[must_use]
    pub fn queues(&self) -> u32 {
        self.queues
    }

    /// Parameters and URLs. A URL that the module let pass and this agent cannot read is an error:
    /// both parse with the same code.
    ///
    /// # Errors
    /// [`Ended`], also for an answer that makes no sense.
    pub fn config(&self) -> Result<(Config, Vec<RepositoryUrl>), Ended> {
        read_config(&*self.file)
    }

    /// The first device whose index is `index` or more.
    ///
    /// # Errors
    /// [`Ended`].
    pub fn device(&self, index: u32) -> Result<Option<DeviceInfo>, Ended> {
        let mut info = DeviceInfo { index, ..DeviceInfo::default() };
        match self.file.device(&mut info) {
            Ok(()) if info.index >= index => Ok(Some(info)),
            Ok(()) => Err(Ended::Nonsense(format!("asked for device {index}, got {}", info.index))),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(ended("device", errno)),
        }
    }

    /// Tells the module which URL is in use; stale news are dropped, for newer are on their way.
    ///
    /// # Errors
    /// [`Ended`].
    pub fn set_active_url(&self, version: u64, index: u32, fit_urls: u32) -> Result<(), Ended> {
        let mut active = ActiveUrl { version, index, fit_urls };
        match self.file.active_url(&mut active) {
            Ok(()) | Err(Errno::ESTALE | Errno::EINVAL) => Ok(()),
            Err(errno) => Err(ended("active_url", errno)),
        }
    }

    /// Maps the channel of one queue of a device.
    ///
    /// # Errors
    /// Those of mmap(2); EPROTO for a channel of another layout.
    pub fn channel(&self, device: u32, queue: u32) -> Result<Channel, Errno> {
        let memory = self.file.map(Mapping::Channel { device, queue })?;
        Channel::new(memory, DATA).map_err(|error| {
            tracing::error!("device {device}, queue {queue}: {error}");
            Errno::EPROTO
        })
    }

    /// Maps the control channel.
    ///
    /// # Errors
    /// Those of mmap(2); EPROTO for a channel of another layout.
    pub fn control_channel(&self) -> Result<Channel, Errno> {
        let memory = self.file.map(Mapping::Control)?;
        Channel::new(memory, CONTROL).map_err(|error| {
            tracing::error!("control channel: {error}");
            Errno::EPROTO
        })
    }
}
