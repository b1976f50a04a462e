// SPDX-License-Identifier: GPL-2.0-only
//! Devices and a session: how the one's channels are linked to the other.

use super::Session;
use crate::{
    channel::Channel,
    device::Device,
    ffi::barrier,
    lifecycle::LifecycleGuard,
    memory::Memory,
    proto::layout::{Mapping, DATA, MAX_DEVICES},
};
use kernel::{
    alloc::{allocator::KVmalloc, flags::__GFP_NOWARN},
    new_spinlock,
    prelude::*,
    sync::{Arc, SpinLock},
};

/// The channels that a worker serves, by device.
#[pin_data]
pub(super) struct Served {
    #[pin]
    channels: SpinLock<Vec<Option<Arc<Channel>>, KVmalloc>>,
}

impl Served {
    /// Room for the channels of all devices that there may be.
    pub(super) fn new() -> Result<Pin<KBox<Self>>> {
        let flags = GFP_KERNEL | __GFP_NOWARN;
        let mut channels = Vec::<_, KVmalloc>::with_capacity(MAX_DEVICES, flags)?;
        for _ in 0..MAX_DEVICES {
            channels.push(None, GFP_KERNEL)?;
        }
        KBox::pin_init(
            pin_init!(Self { channels <- new_spinlock!(channels, "srb::worker_channels") }),
            GFP_KERNEL,
        )
    }

    /// The channel of a device.
    pub(super) fn channel(&self, device: usize) -> Option<Arc<Channel>> {
        self.channels.lock().get(device).cloned().flatten()
    }

    fn set(&self, device: &Device, channel: Option<Arc<Channel>>) {
        if let Some(entry) = self.channels.lock().get_mut(device.index() as usize) {
            *entry = channel;
        }
    }

    /// Forgets all channels.
    pub(super) fn clear(&self) {
        self.channels.lock().iter_mut().for_each(|entry| *entry = None);
    }
}

impl Session {
    /// Links a device's channels to this session.
    pub(crate) fn adopt(&self, device: &Device, _: &LifecycleGuard) -> Result {
        for channel in device.channels() {
            let mapping = Mapping::Channel { device: device.index(), queue: channel.queue() };
            let memory = Memory::channel(mapping, DATA, device.attachment(), self.peer.space())?;
            self.served(channel.queue()).ok_or(EINVAL)?.set(device, Some(channel.clone()));
            channel.link(self.peer.clone(), memory);
        }
        device.fate().set_failing(false);
        device.kick();
        Ok(())
    }

    /// Parts a device from this session and takes its memory away from the agent.
    pub(crate) fn part(&self, device: &Device, _: &LifecycleGuard) {
        for channel in device.channels() {
            channel.unlink();
            if let Some(served) = self.served(channel.queue()) {
                served.set(device, None);
            }
        }
        barrier::synchronize_rcu();
        device.channels().iter().for_each(|channel| channel.retire());
    }
}
