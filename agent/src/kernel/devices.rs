// SPDX-License-Identifier: GPL-2.0-only
//! The devices that the agent serves: opened and closed at the module's word.
//!
//! The hop before is the control worker; the hops after are the data workers, which get each
//! device's channels by [`Order`]s. Belongs to the control worker's thread.
//!
//! # Invariants
//! - Opening and closing happen one at a time, so that two never meet on one index.
//! - A device is on the list from when every worker serves it until the first one is told not to.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use nix::errno::Errno;
use srb_proto::control::DeviceInfo;
use srb_proto::layout::DATA;
use tokio::sync::{oneshot, Mutex};

use super::device::{field, Device};
use super::ended::Ended;
use super::session::Session;
use super::worker::{Handle, Order};
use crate::volume::Repository;

/// The devices being served.
pub struct Devices {
    session: Arc<Session>,
    repository: Arc<Repository>,
    workers: Rc<[Handle]>,
    open: RefCell<BTreeMap<u32, Arc<Device>>>,
    turn: Mutex<()>,
}

fn gone<T>(_: T) -> Ended {
    Ended::Thread("a worker is gone".into())
}

fn tell(worker: &Handle, order: Order) -> Result<(), Ended> {
    worker.send(order).then_some(()).ok_or_else(|| gone(()))
}

impl Devices {
    /// No devices yet, to be served by `workers`, one for each queue.
    #[must_use]
    pub fn new(session: Arc<Session>, repository: Arc<Repository>, workers: Rc<[Handle]>) -> Self {
        let (open, turn) = (RefCell::default(), Mutex::new(()));
        Self { session, repository, workers, open, turn }
    }

    /// Those that are served now, by index.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Device>> {
        self.open.borrow().values().cloned().collect()
    }

    /// Opens every device that the module has.
    ///
    /// # Errors
    /// [`Ended`]. A device that cannot be opened is logged and left out.
    pub async fn open_all(&self) -> Result<(), Ended> {
        let mut next = 0;
        while let Some(info) = self.session.device(next)? {
            if let Err(errno) = self.open(info.index).await? {
                // ENOENT: detached meanwhile.
                if errno != Errno::ENOENT {
                    tracing::error!("{}: cannot be served: {errno}", field(&info.name));
                }
            }
            next = info.index.saturating_add(1);
        }
        Ok(())
    }

    /// Serves a device; nothing to do if it is served already.
    ///
    /// # Errors
    /// [`Ended`]. Inside: ENOENT if there is no such device; why its channels cannot be mapped.
    pub async fn open(&self, index: u32) -> Result<Result<(), Errno>, Ended> {
        let _turn = self.turn.lock().await;
        let Some(info) = self.session.device(index)?.filter(|info| info.index == index) else {
            return Ok(Err(Errno::ENOENT));
        };
        let old = self.open.borrow().get(&index).map(|device| device.attachment);
        match old {
            Some(attachment) if attachment == info.attachment => return Ok(Ok(())),
            Some(_) => self.close_in_turn(index).await?,
            None => {}
        }
        let channels = match self.map(&info) {
            Ok(channels) => channels,
            Err(errno) => return Ok(Err(errno)),
        };
        let volume = self.repository.volume(&field(&info.volume));
        let session = Arc::clone(&self.session);
        let device = Arc::new(Device::new(&info, DATA.depth as usize, volume, session));
        let mut served = Vec::new();
        for ((worker, channel), number) in self.workers.iter().zip(channels).zip(0..) {
            let (done, is_done) = oneshot::channel();
            let device = Arc::clone(&device);
            tell(worker, Order::Open { device, number, channel, done })?;
            served.push(is_done);
        }
        for is_done in served {
            is_done.await.map_err(gone)?;
        }
        tracing::info!("{}: serving volume {}", device.name, device.volume.name());
        self.open.borrow_mut().insert(index, device);
        Ok(Ok(()))
    }

    fn map(&self, info: &DeviceInfo) -> Result<Vec<super::mapping::Channel>, Errno> {
        if info.queues as usize > self.workers.len() {
            tracing::error!("{} has {} queues", field(&info.name), info.queues);
            return Err(Errno::EPROTO);
        }
        let channel = |queue| {
            let channel = self.session.channel(info.index, queue)?;
            // Detached and attached anew since the module was asked: another Open is on its way.
            let same = channel.attachment() == info.attachment;
            same.then_some(channel).ok_or(Errno::ENOENT)
        };
        (0..info.queues).map(channel).collect()
    }

    /// Stops serving a device; nothing to do if it is not served.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn close(&self, index: u32) -> Result<(), Ended> {
        let _turn = self.turn.lock().await;
        self.close_in_turn(index).await
    }

    async fn close_in_turn(&self, index: u32) -> Result<(), Ended> {
        let Some(device) = self.open.borrow_mut().remove(&index) else {
            return Ok(());
        };
        let mut closed = Vec::new();
        for worker in &*self.workers {
            let (done, is_done) = oneshot::channel();
            tell(worker, Order::Close { index, done })?;
            closed.push(is_done);
        }
        for is_done in closed {
            is_done.await.map_err(gone)?;
        }
        tracing::info!("{}: not served any more", device.name);
        Ok(())
    }
}
