// SPDX-License-Identifier: GPL-2.0-only
//! A session of the simulated module: the doorbell pages of its workers, and the pipes that wake
//! them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::Mutex;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::memfd::{memfd_create, MFdFlags};
use nix::unistd::{pipe2, read, write};
use srb_proto::layout::{Mapping, CONTROL_WORKER};

use super::lock;
use crate::kernel::mapping::{Doorbell, Mapped};

/// Memory that two sides map.
pub(super) struct Memory {
    file: OwnedFd,
    bytes: usize,
}

impl Memory {
    pub(super) fn new(bytes: usize) -> io::Result<Self> {
        let file = memfd_create("srb-sim", MFdFlags::MFD_CLOEXEC)?;
        nix::unistd::ftruncate(&file, i64::try_from(bytes).unwrap_or(i64::MAX))?;
        Ok(Self { file, bytes })
    }

    pub(super) fn map(&self) -> Result<Mapped, Errno> {
        Mapped::new(self.file.as_fd(), 0, self.bytes)
    }
}

/// Both ends of what a worker's file polls. Its reading end becomes readable anew with each
/// wake-up, and hangs up when this is dropped.
pub(super) struct Wakeup {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Wakeup {
    /// And the reading end for the file.
    pub(super) fn new() -> io::Result<(Self, OwnedFd)> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let polled = reader.try_clone()?;
        Ok((Self { reader, writer }, polled))
    }

    pub(super) fn wake(&self) {
        // Emptied first, so that the byte always is an edge and the pipe never is full.
        self.calm();
        let _ = write(&self.writer, &[1]);
    }

    pub(super) fn calm(&self) {
        while read(&self.reader, &mut [0; 64]).is_ok_and(|count| count > 0) {}
    }
}

struct Worker {
    number: u32,
    doorbell: Doorbell,
    memory: Memory,
    wakeup: Mutex<Option<Wakeup>>,
}

pub(super) struct SimSession {
    pub(super) number: u64,
    workers: Vec<Worker>,
    ended: AtomicBool,
}

impl SimSession {
    pub(super) fn new(number: u64, queues: u32) -> io::Result<Self> {
        let worker = |number| {
            let memory = Memory::new(Mapping::Doorbell { worker: number }.bytes())?;
            let doorbell = Doorbell::new(memory.map()?).ok_or(io::ErrorKind::InvalidData)?;
            Ok(Worker { number, doorbell, memory, wakeup: Mutex::new(None) })
        };
        let workers = (0..queues).chain([CONTROL_WORKER]).map(worker).collect::<io::Result<_>>()?;
        Ok(Self { number, workers, ended: AtomicBool::new(false) })
    }

    fn worker(&self, number: u32) -> Option<&Worker> {
        self.workers.iter().find(|worker| worker.number == number)
    }

    pub(super) fn join(&self, number: u32, wakeup: Wakeup) -> Result<(), Errno> {
        let mut place = lock(&self.worker(number).ok_or(Errno::EINVAL)?.wakeup);
        if place.is_some() {
            return Err(Errno::EBUSY);
        }
        *place = Some(wakeup);
        Ok(())
    }

    /// Tells a worker that a member of its submit set has something, and wakes it if it sleeps.
    pub(super) fn announce(&self, worker: u32, member: usize) {
        let Some(worker) = self.worker(worker) else { return };
        worker.doorbell.submit().insert(member);
        if worker.doorbell.sleeper().must_wake() {
            if let Some(wakeup) = &*lock(&worker.wakeup) {
                wakeup.wake();
            }
        }
    }

    pub(super) fn is_asleep(&self, worker: u32) -> bool {
        self.worker(worker).is_some_and(|worker| worker.doorbell.sleeper().is_asleep())
    }

    pub(super) fn has_work(&self, worker: u32) -> bool {
        self.worker(worker).is_some_and(|worker| !worker.doorbell.submit().is_empty())
    }

    /// Takes a worker's wake-up back, once it is awake.
    pub(super) fn calm(&self, worker: u32) {
        if let Some(worker) = self.worker(worker) {
            lock(&worker.wakeup).as_ref().inspect(|wakeup| wakeup.calm());
        }
    }

    pub(super) fn take_completed(&self, worker: u32, visit: impl FnMut(usize)) {
        if let Some(worker) = self.worker(worker) {
            worker.doorbell.complete().take(visit);
        }
    }

    pub(super) fn map_doorbell(&self, worker: u32) -> Result<Mapped, Errno> {
        self.worker(worker).ok_or(Errno::EINVAL)?.memory.map()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(SeqCst)
    }

    /// Hangs up on every worker; false if that was done before.
    pub(super) fn end(&self) -> bool {
        let first = !self.ended.swap(true, SeqCst);
        for worker in &self.workers {
            lock(&worker.wakeup).take();
        }
        first
    }
}
