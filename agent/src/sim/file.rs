// SPDX-License-Identifier: GPL-2.0-only
//! An open file of the simulated control device.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock};

use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use srb_proto::control::{ActiveUrl, Config, DeviceInfo, Enter, Hello, Join};
use srb_proto::layout::{Mapping, DATA, MAGIC};

use super::session::{SimSession, Wakeup};
use super::{lock, SimModule};
use crate::kernel::control_device::ControlFile;
use crate::kernel::mapping::Mapped;

/// What a file has become.
enum Role {
    /// It began the session, which ends with it.
    Owner(Arc<SimSession>),
    /// It is a worker's.
    Worker(Arc<SimSession>, u32),
}

pub(super) struct SimFile {
    module: SimModule,
    polled: OwnedFd,
    wakeup: Arc<Mutex<Option<Wakeup>>>,
    role: OnceLock<Role>,
}

impl SimFile {
    pub(super) fn new(module: SimModule) -> io::Result<Self> {
        let (wakeup, polled) = Wakeup::new()?;
        let wakeup = Arc::new(Mutex::new(Some(wakeup)));
        lock(&module.inner.fresh).push(Arc::downgrade(&wakeup));
        Ok(Self { module, polled, wakeup, role: OnceLock::new() })
    }

    fn session(&self) -> Result<&Arc<SimSession>, Errno> {
        let (Role::Owner(session) | Role::Worker(session, _)) =
            self.role.get().ok_or(Errno::EINVAL)?;
        if session.has_ended() {
            return Err(Errno::ESHUTDOWN);
        }
        Ok(session)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if let Some(Role::Owner(session)) = self.role.get() {
            self.module.end(session);
        }
    }
}

impl AsFd for SimFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.polled.as_fd()
    }
}

impl ControlFile for SimFile {
    fn hello(&self, hello: &mut Hello) -> Result<(), Errno> {
        let spoken = self.module.inner.abi_version;
        if hello.magic != MAGIC || hello.abi_version != spoken {
            hello.abi_version = spoken;
            return Err(Errno::EPROTO);
        }
        if self.role.get().is_some() {
            return Err(Errno::EINVAL);
        }
        hello.queues = self.module.inner.queues;
        hello.depth = DATA.depth;
        hello.window_bytes = DATA.window_bytes;
        let session = self.module.begin().inspect_err(|_| {
            lock(&self.wakeup).as_ref().inspect(|wakeup| wakeup.calm());
            hello.session = self.module.table().session.as_ref().map_or(0, |old| old.number);
        })?;
        hello.session = session.number;
        self.role.set(Role::Owner(session)).map_err(|_| Errno::EINVAL)
    }

    fn join(&self, join: &mut Join) -> Result<(), Errno> {
        let session = self.module.table().session.clone().ok_or(Errno::ESTALE)?;
        if session.number != join.session {
            return Err(Errno::ESTALE);
        }
        let wakeup = lock(&self.wakeup).take().ok_or(Errno::EINVAL)?;
        session.join(join.worker, wakeup)?;
        self.role.set(Role::Worker(session, join.worker)).map_err(|_| Errno::EINVAL)
    }

    fn config(&self, config: &mut Config, urls: &mut [u8]) -> Result<(), Errno> {
        if self.role.get().is_some() {
            self.session()?;
        }
        self.module.config(config, urls)
    }

    fn device(&self, info: &mut DeviceInfo) -> Result<(), Errno> {
        self.session()?;
        self.module.device(info)
    }

    /// Looks for submissions once, however long it is to look.
    fn enter(&self, how: Enter) -> Result<u32, Errno> {
        let session = self.session()?;
        let Some(Role::Worker(_, worker)) = self.role.get() else {
            return Err(Errno::EINVAL);
        };
        let reaped = self.module.reap(session, *worker)?;
        if how.wait {
            let mut polled = [PollFd::new(self.polled.as_fd(), PollFlags::POLLIN)];
            // Once, and only while it is marked as asleep, as in the module.
            if session.is_asleep(*worker) && !session.has_work(*worker) && !session.has_ended() {
                poll(&mut polled, PollTimeout::NONE)?;
                session.calm(*worker);
            }
        }
        self.session().map(|_| reaped)
    }

    fn active_url(&self, active: &mut ActiveUrl) -> Result<(), Errno> {
        self.session()?;
        self.module.set_active_url(active.version, active.index)
    }

    fn map(&self, mapping: Mapping) -> Result<Mapped, Errno> {
        let session = self.session()?;
        match mapping {
            Mapping::Doorbell { worker } => session.map_doorbell(worker),
            Mapping::Control => self.module.inner.control.map(session),
            Mapping::Channel { device, queue } => {
                let found = self.module.table().devices.get(&device).cloned();
                let device = found.ok_or(Errno::ENOENT)?;
                device.lanes.get(queue as usize).ok_or(Errno::ENOENT)?.map(session)
            }
        }
    }
}
