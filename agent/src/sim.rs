// SPDX-License-Identifier: GPL-2.0-only
//! A module in memory, for tests and benches: what `/dev/srb-control` does, without a kernel.
//!
//! The hop before is a test, which attaches devices and submits requests as users of block devices
//! and sysfs would; the hop after is an agent, which gets files, ioctls, mappings and wake-ups as
//! from the kernel. Memory is shared through memfds with the layout of `srb_proto`, the rings are
//! driven by its code, and a sleeping worker is woken by an edge on a pipe and only if it said that
//! it sleeps. May be used from any thread.
//!
//! # Lock order
//! The table of devices → a lane → a worker's pipe.
//!
//! # Invariants
//! - A request is answered once: by an agent, or by the detaching of its device.
//! - What an agent leaves behind is submitted to the next one, marked as repeated.

#![cfg_attr(
    not(test),
    expect(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        reason = "plays the module in tests alone, with small numbers"
    )
)]

mod file;
mod lane;
mod running;
mod session;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use nix::errno::Errno;
use srb_proto::control::{Config, DeviceInfo};
use srb_proto::descriptor::{Generation, Op, Tag, SUBMISSION_WORDS};
use srb_proto::layout::{CONFIG_CHANGED, CONTROL, CONTROL_READY, CONTROL_WORKER, DATA};

use self::file::SimFile;
use self::lane::{Lane, Link};
pub use self::lane::{Reply, Request};
pub use self::running::RunningAgent;
use self::session::{SimSession, Wakeup};
use crate::kernel::control_device::{ControlDevice, ControlFile};

/// For an agent to answer in tests.
const PATIENCE: Duration = Duration::from_secs(20);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the module is configured to.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// In canonical form.
    pub urls: Vec<String>,
    /// As the module's parameter of that name, in seconds.
    pub req_timeout_secs: u32,
    /// As the module's parameter of that name, in seconds.
    pub server_conn_timeout_secs: u32,
    /// As the module's parameter of that name.
    pub nb_req_retries: u32,
    /// As the module's parameter of that name.
    pub thread_pool_size: u32,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            req_timeout_secs: 5,
            server_conn_timeout_secs: 5,
            nb_req_retries: 3,
            thread_pool_size: 32,
        }
    }
}

/// An attached device.
struct SimDevice {
    info: Mutex<DeviceInfo>,
    lanes: Vec<Lane>,
}

struct Table {
    parameters: Parameters,
    version: u64,
    active_url: Option<(u64, u32)>,
    devices: BTreeMap<u32, Arc<SimDevice>>,
    session: Option<Arc<SimSession>>,
}

struct Inner {
    queues: u32,
    abi_version: u32,
    numbers: AtomicU64,
    table: Mutex<Table>,
    control: Lane,
    /// What wakes those who wait on files that are no worker's.
    fresh: Mutex<Vec<Weak<Mutex<Option<Wakeup>>>>>,
}

impl Inner {
    fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Relaxed)
    }
}

/// The module. Clones are handles of one.
#[derive(Clone)]
pub struct SimModule {
    inner: Arc<Inner>,
}

impl SimModule {
    /// A module whose devices have so many queues.
    #[must_use]
    pub fn new(queues: u32) -> Self {
        Self::with_version(queues, srb_proto::layout::ABI_VERSION)
    }

    /// A module that speaks another version.
    #[must_use]
    pub fn with_version(queues: u32, abi_version: u32) -> Self {
        let table = Table {
            parameters: Parameters::default(),
            version: 1,
            active_url: None,
            devices: BTreeMap::new(),
            session: None,
        };
        let numbers = AtomicU64::new(1);
        let control = Lane::new(CONTROL, CONTROL_WORKER, CONTROL_READY);
        let table = Mutex::new(table);
        let fresh = Mutex::default();
        Self { inner: Arc::new(Inner { queues, abi_version, numbers, table, control, fresh }) }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.inner.table)
    }

    /// Changes the configuration, and tells the agent.
    pub fn configure(&self, change: impl FnOnce(&mut Parameters)) {
        let mut table = self.table();
        change(&mut table.parameters);
        table.version += 1;
        if let Some(session) = &table.session {
            session.announce(CONTROL_WORKER, CONFIG_CHANGED);
        }
    }

    /// The URL that the agent said it uses, if that was after the last change.
    #[must_use]
    pub fn active_url(&self) -> Option<String> {
        let table = self.table();
        let (version, index) = table.active_url?;
        let current = version == table.version;
        table.parameters.urls.get(index as usize).filter(|_| current).cloned()
    }

    /// Whether an agent is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.table().session.is_some()
    }

    /// Makes a device without telling the agent to open it.
    ///
    /// # Errors
    /// Those of memfd_create(2) and mmap(2).
    pub fn add_device(&self, name: &str, volume: &str, size_bytes: u64) -> io::Result<u32> {
        let mut table = self.table();
        let index = (0..).find(|index| !table.devices.contains_key(index)).unwrap_or(0);
        let mut info = DeviceInfo { index, queues: self.inner.queues, ..DeviceInfo::default() };
        info.size_bytes = size_bytes;
        info.attachment = self.inner.next_number();
        for (field, text) in [(&mut info.name[..], name), (&mut info.volume[..], volume)] {
            for (place, byte) in field.iter_mut().zip(text.bytes()) {
                *place = byte;
            }
        }
        let lane = |queue| Lane::new(DATA, queue, index as usize);
        let lanes: Vec<_> = (0..self.inner.queues).map(lane).collect();
        if let Some(session) = &table.session {
            for lane in &lanes {
                lane.link(Link::new(Arc::clone(session), DATA, info.attachment)?);
            }
        }
        table.devices.insert(index, Arc::new(SimDevice { info: Mutex::new(info), lanes }));
        Ok(index)
    }

    /// Attaches a volume as a device, as sysfs's `attach` does.
    ///
    /// # Errors
    /// What the agent answers, or the system's.
    pub fn attach(&self, name: &str, volume: &str, size_bytes: u64) -> io::Result<u32> {
        let index = self.add_device(name, volume, size_bytes)?;
        match self.control(Op::Open, index.into(), &[]) {
            Reply { status: 0, .. } => Ok(index),
            Reply { status, .. } => Err(io::Error::from_raw_os_error(status.wrapping_neg())),
        }
    }

    /// Detaches a device, as sysfs's `detach` does; what is in flight is answered with -ENODEV.
    pub fn detach(&self, device: u32) -> Reply {
        let reply = self.control(Op::Close, device.into(), &[]);
        let removed = self.table().devices.remove(&device);
        for lane in removed.iter().flat_map(|device| &device.lanes) {
            lane.unlink();
            lane.fail_all(Errno::ENODEV);
        }
        reply
    }

    /// Changes a device's size, as after an extend.
    pub fn resize(&self, device: u32, size_bytes: u64) {
        if let Some(device) = self.table().devices.get(&device) {
            lock(&device.info).size_bytes = size_bytes;
        }
    }

    /// Sets what the module says of a device's policy, as [`Policy::to_secs`] has it. It holds
    /// nothing: whoever submitted a request is told that it would be.
    ///
    /// [`Policy::to_secs`]: srb_proto::command::Policy::to_secs
    pub fn set_policy(&self, device: u32, secs: i64) {
        if let Some(device) = self.table().devices.get(&device) {
            lock(&device.info).policy_secs = secs;
        }
    }

    /// Asks the agent for a control operation and waits.
    #[must_use]
    pub fn control(&self, op: Op, arg: u64, payload: &[u8]) -> Reply {
        let (replies, answer) = mpsc::channel();
        self.begin_control(op, arg, payload, &replies);
        wait(&answer)
    }

    /// Asks the agent for a control operation. Gives what an [`Op::Cancel`] of it takes.
    pub fn begin_control(&self, op: Op, arg: u64, payload: &[u8], replies: &Sender<Reply>) -> u64 {
        let request = Request::new(op, arg, payload.len() as u32, replies)
            .with_payload(payload.to_vec())
            .wanting_bytes();
        let tag = self.inner.control.submit([request]);
        tag.map_or(u64::MAX, |(tag, generation)| {
            srb_proto::descriptor::Submission::cancel_arg(tag, generation)
        })
    }

    /// Submits requests to one queue of a device, in one batch.
    pub fn submit(&self, device: u32, queue: u32, requests: impl IntoIterator<Item = Request>) {
        let found = self.table().devices.get(&device).cloned();
        if let Some(lane) = found.as_ref().and_then(|device| device.lanes.get(queue as usize)) {
            lane.submit(requests);
        }
    }

    /// Reads `len` bytes and waits.
    #[must_use]
    pub fn read(&self, device: u32, queue: u32, sector: u64, len: u32) -> Reply {
        let (replies, answer) = mpsc::channel();
        let request = Request::new(Op::Read, sector, len, &replies).wanting_bytes();
        self.submit(device, queue, [request]);
        wait(&answer)
    }

    /// Writes `bytes` and waits.
    #[must_use]
    pub fn write(&self, device: u32, queue: u32, sector: u64, bytes: Vec<u8>) -> Reply {
        let (replies, answer) = mpsc::channel();
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let request = Request::new(Op::Write, sector, len, &replies).with_payload(bytes);
        self.submit(device, queue, [request]);
        wait(&answer)
    }

    /// Submits words that `forge` makes for a tag, and waits for its completion.
    #[must_use]
    pub fn forge(
        &self,
        device: u32,
        queue: u32,
        forge: impl FnOnce(Tag, Generation) -> [u64; SUBMISSION_WORDS] + Send + 'static,
    ) -> Option<Reply> {
        let (replies, answer) = mpsc::channel();
        let request = Request::new(Op::Read, 0, 512, &replies).forged(Box::new(forge));
        self.submit(device, queue, [request]);
        answer.recv_timeout(Duration::from_millis(500)).ok()
    }

    /// Puts the tail of a queue's submission ring far ahead of its entries.
    pub fn overrun(&self, device: u32, queue: u32) {
        let found = self.table().devices.get(&device).cloned();
        if let Some(lane) = found.as_ref().and_then(|device| device.lanes.get(queue as usize)) {
            lane.overrun();
        }
    }

    /// Ends the session as the module does with an agent that misbehaves.
    pub fn cut_off(&self) {
        let session = self.table().session.clone();
        if let Some(session) = session {
            self.end(&session);
        }
    }

    /// Completions that came for tags which were not in flight.
    #[must_use]
    pub fn late_completions(&self) -> u64 {
        let devices = self.table().devices.values().cloned().collect::<Vec<_>>();
        let lanes = devices.iter().flat_map(|device| &device.lanes);
        lanes.chain([&self.inner.control]).map(Lane::late).sum()
    }

    fn begin(&self) -> Result<Arc<SimSession>, Errno> {
        let mut table = self.table();
        if table.session.is_some() {
            return Err(Errno::EBUSY);
        }
        let failed = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(0));
        let session = SimSession::new(self.inner.next_number(), self.inner.queues);
        let session = Arc::new(session.map_err(failed)?);
        let link = |geometry, attachment| Link::new(Arc::clone(&session), geometry, attachment);
        for device in table.devices.values() {
            let attachment = lock(&device.info).attachment;
            for lane in &device.lanes {
                lane.link(link(DATA, attachment).map_err(failed)?);
            }
        }
        self.inner.control.link(link(CONTROL, 0).map_err(failed)?);
        table.session = Some(Arc::clone(&session));
        Ok(session)
    }

    fn end(&self, session: &Arc<SimSession>) {
        let mut table = self.table();
        if !session.end() {
            return;
        }
        for lane in table.devices.values().flat_map(|device| &device.lanes) {
            lane.unlink();
        }
        self.inner.control.unlink();
        self.inner.control.fail_all(Errno::ENOTCONN);
        table.session = None;
        table.active_url = None;
        drop(table);
        lock(&self.inner.fresh).retain(|fresh| {
            let Some(fresh) = fresh.upgrade() else { return false };
            lock(&fresh).as_ref().inspect(|wakeup| wakeup.wake());
            true
        });
    }

    fn reap(&self, session: &Arc<SimSession>, worker: u32) -> Result<u32, Errno> {
        let mut outcome = Ok(0u32);
        let mut count = |reaped: Result<u32, Errno>| {
            outcome = outcome.and_then(|sum| reaped.map(|more| sum.wrapping_add(more)));
        };
        session.take_completed(worker, |member| {
            if worker == CONTROL_WORKER {
                return count(self.inner.control.reap());
            }
            let device = self.table().devices.get(&(member as u32)).cloned();
            if let Some(lane) = device.as_ref().and_then(|d| d.lanes.get(worker as usize)) {
                count(lane.reap());
            }
        });
        if outcome.is_err() {
            self.end(session);
        }
        outcome.map_err(|_| Errno::ESHUTDOWN)
    }

    fn config(&self, config: &mut Config, buffer: &mut [u8]) -> Result<(), Errno> {
        let table = self.table();
        let text: String = table.parameters.urls.iter().map(|url| format!("{url}\n")).collect();
        let Parameters { req_timeout_secs, server_conn_timeout_secs, .. } = table.parameters;
        let Parameters { nb_req_retries, thread_pool_size, .. } = table.parameters;
        *config = Config {
            version: table.version,
            urls_bytes: text.len() as u32,
            req_timeout_secs,
            nb_req_retries,
            server_conn_timeout_secs,
            thread_pool_size,
            debug: 7,
            ..*config
        };
        buffer.get_mut(..text.len()).ok_or(Errno::ENOSPC)?.copy_from_slice(text.as_bytes());
        Ok(())
    }

    fn device(&self, info: &mut DeviceInfo) -> Result<(), Errno> {
        let table = self.table();
        let (_, device) = table.devices.range(info.index..).next().ok_or(Errno::ENOENT)?;
        *info = *lock(&device.info);
        Ok(())
    }

    fn set_active_url(&self, version: u64, index: u32) -> Result<(), Errno> {
        let mut table = self.table();
        if version != table.version {
            return Err(Errno::ESTALE);
        }
        if index as usize >= table.parameters.urls.len() {
            return Err(Errno::EINVAL);
        }
        table.active_url = Some((version, index));
        Ok(())
    }
}

/// The next answer; one that does not come in time is -ETIME.
#[must_use]
pub fn wait(answer: &Receiver<Reply>) -> Reply {
    let late = Reply { cookie: 0, status: -(Errno::ETIME as i32), len: 0, bytes: Vec::new() };
    answer.recv_timeout(PATIENCE).unwrap_or(late)
}

impl ControlDevice for SimModule {
    fn open(&self) -> io::Result<Box<dyn ControlFile>> {
        Ok(Box::new(SimFile::new(self.clone())?))
    }

    fn name(&self) -> String {
        "the simulated module".into()
    }
}
