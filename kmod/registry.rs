// SPDX-License-Identifier: GPL-2.0-only
//! What is attached, and what is under way with volumes.
//!
//! `REGISTRY` is held for looks and changes, never across a wait; callbacks run without it.

use crate::{
    device::Device,
    ffi::noio::recovery_mutex,
    lifecycle::LifecycleGuard,
    names::{DeviceName, VolumeName},
    proto::layout::MAX_DEVICES,
    urls,
};
use kernel::{
    prelude::*,
    sync::{Arc, UniqueArc},
};

struct Operation {
    number: u64,
    volume: VolumeName,
    /// For an attach: the name that will be taken.
    device: Option<DeviceName>,
}

struct Registry {
    /// By index; an entry is free or attached.
    devices: KVec<Option<Arc<Device>>>,
    operations: KVec<Operation>,
    next_number: u64,
}

recovery_mutex! {
    table: REGISTRY of Registry = Registry {
        devices: KVec::new(),
        operations: KVec::new(),
        next_number: 1,
    }, guard pub(super) RegistryGuard
}

/// # Safety
/// Called once, before anything else here.
pub(crate) unsafe fn init() {
    // SAFETY: The contract.
    unsafe { table::init() };
}

impl Registry {
    fn number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        number
    }

    fn attached(&self) -> impl Iterator<Item = &Arc<Device>> {
        self.devices.iter().flatten()
    }

    fn named(&self, name: &DeviceName) -> Option<Arc<Device>> {
        self.attached().find(|device| device.name() == name).cloned()
    }
}

/// Something under way with a volume. The command has it, and so has what it asks of the agent
/// ([`crate::calls`]): whoever is the last one to be done with the volume lets go of it.
pub(crate) type Operating = Arc<OperationGuard>;

/// Something under way with a volume; while it exists nothing else is begun with the same volume.
pub(crate) struct OperationGuard(u64);

impl Drop for OperationGuard {
    fn drop(&mut self) {
        table::lock().operations.retain(|operation| operation.number != self.0);
    }
}

fn begin(
    registry: &mut Registry,
    volume: &VolumeName,
    device: Option<DeviceName>,
) -> Result<Operating> {
    if registry.operations.iter().any(|operation| operation.volume == *volume) {
        return Err(EBUSY);
    }
    let number = registry.number();
    // First, for nothing may fail once the operation is in the list, under the lock that its end
    // takes.
    let slot = UniqueArc::new_uninit(GFP_KERNEL)?;
    registry.operations.push(Operation { number, volume: *volume, device }, GFP_KERNEL)?;
    Ok(slot.write(OperationGuard(number)).into())
}

/// Begins something with a volume that must not be attached. EBUSY: it is, or something else is
/// under way.
pub(crate) fn begin_detached(volume: &VolumeName) -> Result<Operating> {
    let mut registry = table::lock();
    if registry.attached().any(|device| device.volume() == volume) {
        return Err(EBUSY);
    }
    begin(&mut registry, volume, None)
}

/// Begins something with a volume, attached or not. EBUSY: something else is under way.
pub(crate) fn begin_any(volume: &VolumeName) -> Result<(Operating, Option<Arc<Device>>)> {
    let mut registry = table::lock();
    let device = registry.attached().find(|device| device.volume() == volume).cloned();
    Ok((begin(&mut registry, volume, None)?, device))
}

/// Begins to attach. EEXIST: the volume is attached, or the name is taken by another device or one
/// of its partitions.
pub(crate) fn begin_attach(volume: &VolumeName, name: &DeviceName) -> Result<Operating> {
    let mut registry = table::lock();
    let taken = registry
        .attached()
        .any(|device| device.volume() == volume || device.name().collides_with(name));
    let reserved = registry
        .operations
        .iter()
        .any(|operation| operation.device.is_some_and(|other| other.collides_with(name)));
    if taken || reserved {
        return Err(EEXIST);
    }
    begin(&mut registry, volume, Some(*name))
}

/// Begins to detach. ENOENT: no such device. EBUSY: something else is under way with its volume.
pub(crate) fn begin_detach(name: &DeviceName) -> Result<(Operating, Arc<Device>)> {
    let mut registry = table::lock();
    let device = registry.named(name).ok_or(ENOENT)?;
    Ok((begin(&mut registry, device.volume(), None)?, device))
}

/// Finds a free index and a number for a new attachment. ENOSPC: 4,096 devices are attached.
///
/// With [`insert`] under one guard, so that nobody takes the index between.
pub(crate) fn reserve_index(_: &LifecycleGuard) -> Result<(u32, u64)> {
    let mut registry = table::lock();
    let index = match registry.devices.iter().position(Option::is_none) {
        Some(index) => index,
        None if registry.devices.len() >= MAX_DEVICES => return Err(ENOSPC),
        None => {
            registry.devices.push(None, GFP_KERNEL)?;
            registry.devices.len().wrapping_sub(1)
        }
    };
    Ok((index as u32, registry.number()))
}

/// Enters a device at its index.
pub(crate) fn insert(device: Arc<Device>, _: &LifecycleGuard) {
    let index = device.index() as usize;
    if let Some(entry) = table::lock().devices.get_mut(index) {
        *entry = Some(device);
    }
}

/// Takes a device out.
pub(crate) fn remove(device: &Device, _: &LifecycleGuard) {
    let index = device.index() as usize;
    let taken = table::lock().devices.get_mut(index).and_then(Option::take);
    drop(taken);
}

/// The device with a name.
pub(crate) fn device_named(name: &DeviceName) -> Option<Arc<Device>> {
    table::lock().named(name)
}

/// The device at an index.
pub(crate) fn device_at(index: u32) -> Option<Arc<Device>> {
    table::lock().devices.get(index as usize)?.clone()
}

/// The first device at or above an index.
pub(crate) fn device_from(index: u32) -> Option<Arc<Device>> {
    table::lock().devices.iter().skip(index as usize).flatten().next().cloned()
}

/// Calls `f` with each device, without the lock.
pub(crate) fn for_each_device(mut f: impl FnMut(&Arc<Device>)) {
    let mut index = 0;
    while let Some(device) = device_from(index) {
        f(&device);
        index = device.index().wrapping_add(1);
    }
}

/// Whether any device is attached.
pub(crate) fn has_devices() -> bool {
    table::lock().attached().next().is_some()
}

/// Removes a URL. EBUSY: it is the last one, and a device is attached or about to be.
pub(crate) fn remove_url(url: &crate::proto::command::RepositoryUrl) -> Result {
    let registry = table::lock();
    let attaching = registry.operations.iter().any(|operation| operation.device.is_some());
    let needed = attaching || registry.attached().next().is_some();
    urls::remove(url, needed)
}

/// A number for a new session, which no session and no attachment ever had.
pub(crate) fn reserve_number(_: &LifecycleGuard) -> u64 {
    table::lock().number()
}

/// Frees the tables, at the module's end: nothing frees a static.
pub(crate) fn clear() {
    let mut registry = table::lock();
    registry.devices = KVec::new();
    registry.operations = KVec::new();
}
