// SPDX-License-Identifier: GPL-2.0-only
//! One agent's connection to the module: how it begins, and what is asked on it.
//!
//! The hop before is `main`, which begins a session; the hops after are the workers, each of which
//! owns one [`Port`], and the control worker, which asks for parameters and devices. Two modules
//! exist: the kernel's behind `/dev/srb-control` ([`KernelDevice`]), and the simulated one of the
//! tests (`sim`).
//!
//! # Errors
//! [`Ended`] says that the session cannot go on, most often because the module has cut the agent
//! off and taken its memory away. Whoever sees it must not touch shared memory any more.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};

use nix::errno::Errno;
use nix::libc;
use srb_proto::command::RepositoryUrl;
use srb_proto::control::{
    ActiveUrl, Config, DeviceInfo, Enter, Hello, Join, ACTIVE_URL, CONFIG, DEVICE, ENTER, HELLO,
    HELLO_TAKEOVER, JOIN, URLS_CAPACITY,
};
use srb_proto::layout::{Mapping, ABI_VERSION, CONTROL, CONTROL_WORKER, DATA, MAGIC, MAX_QUEUES};
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};

use crate::mapping::{Channel, Doorbell, Mapped};

/// Where agents connect.
pub trait ControlDevice {
    /// Opens the device once more.
    ///
    /// # Errors
    /// Those of open(2).
    fn open(&self) -> io::Result<Box<dyn ControlFile>>;
    /// How messages name the device.
    fn name(&self) -> String;
}

/// An open file of the control device. Each method is the request of that name in
/// `srb_proto::control`, which lists its errors. poll(2) says readable while the worker's submit
/// set has members; it wakes a sleeper only if the worker's `sleeping` word was set.
pub trait ControlFile: AsFd + Send + Sync {
    /// Begins a session.
    fn hello(&self, hello: &mut Hello) -> Result<(), Errno>;
    /// Makes the file a worker's.
    fn join(&self, join: &mut Join) -> Result<(), Errno>;
    /// Reads parameters, and URLs into `urls`.
    fn config(&self, config: &mut Config, urls: &mut [u8]) -> Result<(), Errno>;
    /// Reads the first device at or above the index.
    fn device(&self, info: &mut DeviceInfo) -> Result<(), Errno>;
    /// Lets the module reap completions, then look for submissions, and sleep until the worker's
    /// submit set has members, as [`Enter`] says. How many completions it applied.
    fn enter(&self, how: Enter) -> Result<u32, Errno>;
    /// Says which URL is in use.
    fn active_url(&self, active: &mut ActiveUrl) -> Result<(), Errno>;
    /// Maps memory of the session.
    fn map(&self, mapping: Mapping) -> Result<Mapped, Errno>;
}

/// The module in the kernel.
#[derive(Debug)]
pub struct KernelDevice {
    /// Of the character device.
    pub path: PathBuf,
}

impl ControlDevice for KernelDevice {
    fn open(&self) -> io::Result<Box<dyn ControlFile>> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).custom_flags(libc::O_CLOEXEC).open(&self.path)?;
        Ok(Box::new(KernelFile { file }))
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

struct KernelFile {
    file: File,
}

impl KernelFile {
    fn ioctl<T>(&self, number: u32, argument: &mut T) -> Result<(), Errno> {
        let argument: *mut T = argument;
        // SAFETY: Each request of the module reads and writes one `T` (`srb_proto::control` says
        // which) at the address, which is exclusively borrowed.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), number.into(), argument) };
        Errno::result(result).map(drop)
    }
}

impl AsFd for KernelFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl ControlFile for KernelFile {
    fn hello(&self, hello: &mut Hello) -> Result<(), Errno> {
        self.ioctl(HELLO, hello)
    }
    fn join(&self, join: &mut Join) -> Result<(), Errno> {
        self.ioctl(JOIN, join)
    }
    fn config(&self, config: &mut Config, urls: &mut [u8]) -> Result<(), Errno> {
        config.urls = urls.as_mut_ptr().expose_provenance() as u64;
        config.urls_capacity = u32::try_from(urls.len()).unwrap_or(u32::MAX);
        self.ioctl(CONFIG, config)
    }
    fn device(&self, info: &mut DeviceInfo) -> Result<(), Errno> {
        self.ioctl(DEVICE, info)
    }
    fn enter(&self, how: Enter) -> Result<u32, Errno> {
        // SAFETY: The request takes its argument by value and touches no memory of the caller.
        let reaped = unsafe { libc::ioctl(self.file.as_raw_fd(), ENTER.into(), how.to_bits()) };
        Errno::result(reaped).map(i32::unsigned_abs)
    }
    fn active_url(&self, active: &mut ActiveUrl) -> Result<(), Errno> {
        self.ioctl(ACTIVE_URL, active)
    }
    fn map(&self, mapping: Mapping) -> Result<Mapped, Errno> {
        Mapped::new(self.file.as_fd(), mapping.offset(), mapping.bytes())
    }
}

/// Why no session began; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The module is not there.
    #[error("{device} does not exist: load srb.ko first")]
    NotLoaded {
        /// Name of the control device.
        device: String,
    },
    /// Only root may.
    #[error("cannot open {device}: permission denied; srb-agent must run as root")]
    NotPermitted {
        /// Name of the control device.
        device: String,
    },
    /// One agent at a time.
    #[error("another agent is connected to the module; stop it first, or use --takeover")]
    Busy,
    /// Module and agent speak different versions.
    #[error(
        "the module speaks version {module} and this agent version {agent}: \
         install both from one release"
    )]
    Version {
        /// The module's.
        module: u32,
        /// This agent's.
        agent: u32,
    },
    /// Same version, other sizes.
    #[error(
        "the module's channels have {depth} tags of {window_bytes} bytes, this agent's do not"
    )]
    Geometry {
        /// Tags of the module's channels.
        depth: u32,
        /// Bytes of its windows.
        window_bytes: u32,
    },
    /// Anything else.
    #[error("cannot {doing}: {errno}")]
    Failed {
        /// The step.
        doing: String,
        /// Its error.
        errno: Errno,
    },
}

fn failed(doing: impl Into<String>) -> impl FnOnce(Errno) -> BeginError {
    let doing = doing.into();
    move |errno| BeginError::Failed { doing, errno }
}

/// Why nothing can go on. Devices wait for the next agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// The module has cut the agent off; memory must not be touched any more.
    #[error("the module has ended the session; its log says why")]
    CutOff,
    /// The module refused what it should not, or said what makes no sense.
    #[error("the module makes no sense: {0}")]
    Nonsense(String),
    /// A thread of the agent is gone.
    #[error("{0}")]
    Thread(String),
}

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

fn ended(doing: &str, errno: Errno) -> Ended {
    match errno {
        Errno::ESHUTDOWN => Ended::CutOff,
        errno => Ended::Nonsense(format!("{doing}: {errno}")),
    }
}

/// A worker's file and doorbell page. Made where the session begins, used by its worker's thread.
pub struct Port {
    file: Box<dyn ControlFile>,
    doorbell: Arc<Doorbell>,
}

impl Port {
    fn join(file: Box<dyn ControlFile>, session: u64, worker: u32) -> Result<Self, BeginError> {
        let mut join = Join { session, worker, reserved: 0 };
        file.join(&mut join).map_err(failed(format!("join as worker {worker}")))?;
        let doorbell = file
            .map(Mapping::Doorbell { worker })
            .and_then(|memory| Doorbell::new(memory).ok_or(Errno::EPROTO))
            .map_err(failed(format!("map the doorbell of worker {worker}")))?;
        Ok(Self { file, doorbell: Arc::new(doorbell) })
    }

    /// The page, for whoever must wake the worker.
    #[must_use]
    pub fn doorbell(&self) -> Arc<Doorbell> {
        Arc::clone(&self.doorbell)
    }

    /// Lets the calling thread's runtime watch the file.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn watch(self) -> io::Result<Bell> {
        let interest = Interest::READABLE | Interest::ERROR;
        let file = Watched(self.file);
        // SAFETY: The descriptor is the one that `file` owns, always the same, and it is closed
        // when `file` is dropped, which the registration outlives by nothing.
        let file = unsafe { AsyncFd::register_with_interest(file, interest) }?;
        Ok(Bell { file, doorbell: self.doorbell })
    }
}

struct Watched(Box<dyn ControlFile>);

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// A [`Port`] in its worker's runtime: how the worker learns of submissions and announces
/// completions.
pub struct Bell {
    file: AsyncFd<Watched>,
    doorbell: Arc<Doorbell>,
}

impl Bell {
    /// The shared page.
    #[must_use]
    pub fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }

    /// Lets the module reap what was announced in the complete set, and then look for submissions
    /// for so many microseconds.
    ///
    /// # Errors
    /// [`Ended`].
    pub fn enter(&self, poll_usecs: u32) -> Result<u32, Ended> {
        let how = Enter { wait: false, poll_usecs };
        loop {
            match self.file.get_ref().0.enter(how) {
                Err(Errno::EINTR) => {}
                result => return result.map_err(|errno| ended("enter", errno)),
            }
        }
    }

    /// As [`Self::enter`], then sleeps in the module until the submit set has members or seems to
    /// ([`Doorbell::knock`]), or the thread gets a signal. The thread's runtime stands still
    /// meanwhile.
    ///
    /// Whoever wants to wake the thread knocks and then sends it a signal. A thread that is not
    /// asleep yet sees the knock, in `prepare` or in the module's own looks at the set; one that is
    /// asleep gets the signal. The module makes itself ready to be woken before it looks, so
    /// nothing is between.
    ///
    /// # Errors
    /// [`Ended`].
    pub fn enter_and_sleep(&self, poll_usecs: u32) -> Result<(), Ended> {
        let sleeper = self.doorbell.sleeper();
        if !sleeper.prepare(&self.doorbell.submit()) {
            return self.enter(0).map(drop);
        }
        match self.file.get_ref().0.enter(Enter { wait: true, poll_usecs }) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(ended("enter", errno)),
        }
        sleeper.awake();
        Ok(())
    }

    /// Sleeps until the submit set has members or `others` is ready; may also return for nothing.
    ///
    /// # No wake-up is lost
    /// The module wakes once per sleep, and epoll reports that wake-up as an edge, which tokio
    /// keeps as the file's readiness until it is cleared. A submission comes at one of three times:
    /// - before `prepare` looks at the set: `prepare` sees it and there is no sleep;
    /// - after that look: the module sees `sleeping` (Dekker, see `srb_proto::doorbell`) and wakes
    ///   the file. Until the worker takes the set, poll(2) keeps saying readable, so epoll's look
    ///   at it confirms the edge, and the readiness is set anew even if an older one was cleared:
    ///   only this thread runs its reactor, so nothing is set between the sight of a readiness and
    ///   its clearing below;
    /// - after the return, with `sleeping` withdrawn: no wake-up, but the caller takes the set, or
    ///   at the latest the next `prepare` looks at it.
    ///
    /// So a readiness is cleared before the set is taken, never after, and what it stood for is in
    /// the set. One left over from an earlier sleep costs a turn for nothing and no more.
    ///
    /// # Errors
    /// [`Ended`]: the module has hung up. Shared memory was not touched after that was seen.
    pub async fn sleep(
        &self,
        mut others: impl FnMut(&mut Context<'_>) -> Poll<()>,
    ) -> Result<(), Ended> {
        let sleeper = self.doorbell.sleeper();
        if !sleeper.prepare(&self.doorbell.submit()) {
            return Ok(());
        }
        std::future::poll_fn(|cx| {
            let file = self.poll_file(cx)?;
            Poll::Ready(match (file, others(cx)) {
                (Poll::Pending, Poll::Pending) => return Poll::Pending,
                _ => Ok(()),
            })
        })
        .await?;
        sleeper.awake();
        Ok(())
    }

    fn poll_file(&self, cx: &mut Context<'_>) -> Result<Poll<()>, Ended> {
        match self.file.poll_read_ready(cx) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Err(error)) => Err(Ended::Nonsense(format!("poll: {error}"))),
            Poll::Ready(Ok(mut guard)) => {
                let ready: Ready = guard.ready();
                if ready.is_read_closed() || ready.is_error() {
                    return Err(Ended::CutOff);
                }
                guard.clear_ready();
                Ok(Poll::Ready(()))
            }
        }
    }
}
