// SPDX-License-Identifier: GPL-2.0-only
//! An attached device, as the module describes it, and what is counted of it.
//!
//! Before: [`super::devices`] opens it. After: the workers that serve its queues, and the status.
//! Shared by all of them.

use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

use crossbeam_utils::CachePadded;
use srb_proto::control::DeviceInfo;

use super::counters::Counters;
use super::ended::Ended;
use super::session::Session;
use crate::volume::Volume;

/// An attached device; shared by the workers that serve its queues and by the status.
pub struct Device {
    /// The module's index.
    pub index: u32,
    /// Which attachment this is.
    pub attachment: u64,
    /// Name of the disk.
    pub name: String,
    /// Where its blocks are.
    pub volume: Volume,
    /// By queue: each is written by another thread.
    pub counters: Vec<CachePadded<Counters>>,
    size_bytes: AtomicU64,
    session: Arc<Session>,
}

impl Device {
    /// The device that `info` describes; `None` if its name is not one.
    pub fn new(info: &DeviceInfo, depth: usize, volume: Volume, session: Arc<Session>) -> Self {
        Self {
            index: info.index,
            attachment: info.attachment,
            name: field(&info.name),
            volume,
            counters: (0..info.queues).map(|_| Counters::new(depth).into()).collect(),
            size_bytes: AtomicU64::new(info.size_bytes),
            session,
        }
    }

    /// Bytes of the volume, as last heard.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes.load(Relaxed)
    }

    /// Asks the module for the size, which it changes when the volume is extended.
    ///
    /// # Errors
    /// [`Ended`].
    pub fn refresh_size(&self) -> Result<u64, Ended> {
        if let Some(info) = self.session.device(self.index)? {
            if info.attachment == self.attachment {
                self.size_bytes.store(info.size_bytes, Relaxed);
            }
        }
        Ok(self.size_bytes())
    }

    /// Whether the module keeps requests that no server has answered. Asks the module, which fails
    /// those that it has kept for long enough without giving them out again.
    #[must_use]
    pub fn holds(&self) -> bool {
        let info = self.session.device(self.index).ok().flatten();
        info.is_some_and(|info| info.attachment == self.attachment && info.policy_secs != 0)
    }

    pub(super) fn reaches(&self, end: u64) -> Result<bool, Ended> {
        Ok(end <= self.size_bytes() || end <= self.refresh_size()?)
    }
}

/// The text of a name field.
#[must_use]
pub fn field(bytes: &[u8]) -> String {
    let text = CStr::from_bytes_until_nul(bytes).map_or(bytes, CStr::to_bytes);
    String::from_utf8_lossy(text).into_owned()
}
