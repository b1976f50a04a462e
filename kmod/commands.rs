// SPDX-License-Identifier: GPL-2.0-only
//! What the control files do: each command from its text to its end, and undone if it fails
//! half-way.
//!
//! Before: [`crate::class_files`], in the context of the process that writes. After: the agent by
//! [`calls::call`], the device by [`Device`]. No lock is held while anybody is waited for; what
//! must not run twice at a time is held off by the volume's operation in the registry.
//!
//! # Errors
//! As docs/ABI lists them for each file. Every failure is logged here, once.

use crate::{
    calls::{self, Failure, Wait},
    device::Device,
    disk_files::DISK_FILES,
    ffi::{
        errors::{EDESTADDRREQ, ENOTCONN, EPROTO},
        machine, sleep,
    },
    lifecycle,
    log::{self, Printable},
    names::{DeviceName, VolumeName},
    params,
    proto::{
        command::{
            parse_detach, parse_urls, parse_volume, parse_volume_and_device, parse_volume_and_size,
            CommandError, Detach, MAX_URL_BYTES,
        },
        control::{Listing, LISTING_HEAD_BYTES},
        descriptor::Op,
        layout::{CONTROL, SECTOR_BYTES},
    },
    registry, rounds, session, urls,
};
use kernel::{prelude::*, sync::Arc};

/// How long the agent may take to leave a device's memory, before it is taken away from it.
const CLOSE_WAIT_MSECS: u32 = 5000;
/// The same when the device is detached by force.
const FORCED_CLOSE_WAIT_MSECS: u32 = 1000;
/// How long a forced detach waits for another command for the volume, which it interrupts.
const INTERRUPT_WAIT_MSECS: u32 = 6000;

/// Logs what is wrong with a command's text.
fn malformed(command: &str, text: &[u8], error: CommandError) -> Error {
    let shown = text.trim_ascii();
    let shown = shown.get(..shown.len().min(300)).unwrap_or(shown);
    log::error!("{} '{}': {}\n", command, Printable(shown), error.reason());
    EINVAL
}

/// Logs why a command failed, in the agent's words if it had any.
fn failed(command: &str, volume: &str, failure: Failure) -> Error {
    let number = failure.error.to_errno();
    let shown = failure.details.get(..failure.details.len().min(700)).unwrap_or_default();
    let reason: &[u8] = match failure.error {
        _ if !shown.is_empty() => shown,
        error if error == ENOTCONN => b"no agent is connected: start srb-agent",
        error if error == EDESTADDRREQ => b"no URL is configured: write one to add_urls",
        error if error == EBUSY => {
            b"the volume is attached, or another command for it is under way"
        }
        error if error == EINTR => b"interrupted",
        error if error == ETIMEDOUT => b"the agent did not answer in time",
        error if error == EPROTO => b"the agent's answer makes no sense",
        _ => b"refused",
    };
    let space = if volume.is_empty() { "" } else { " " };
    log::error!("{command}{space}{volume}: {} (error {})\n", Printable(reason), number);
    failure.error
}

/// What every command needs that goes to a server.
fn check_urls() -> Result<(), Failure> {
    if urls::is_empty() {
        return Err(EDESTADDRREQ.into());
    }
    Ok(())
}

/// Visits each URL of a list; the first error is the command's, and keeps no other URL from being
/// handled.
fn each_url(
    command: &str,
    text: &[u8],
    handle: impl Fn(crate::proto::command::RepositoryUrl) -> Result,
) -> Result {
    let (mut result, mut handled, mut seen) = (Ok(()), 0, false);
    for (word, url) in parse_urls(text) {
        seen = true;
        let outcome = match url {
            Ok(url) => handle(url).inspect_err(|error| {
                let reason = match *error {
                    error if error == EEXIST => "it is there already",
                    error if error == ENOENT => "it is not there",
                    error if error == EBUSY => "it is the last one, and a device is attached",
                    error if error == ENOSPC => "there are 32 already",
                    error if error == EINVAL => "null: stands alone, without other URLs",
                    _ => "failed",
                };
                log::error!("{} {}: {}\n", command, Printable(word), reason);
            }),
            Err(error) => {
                let word = word.get(..word.len().min(300)).unwrap_or(word);
                log::error!("{} {}: {}\n", command, Printable(word), error.reason());
                Err(EINVAL)
            }
        };
        match outcome {
            Ok(()) => handled += 1,
            Err(_) => result = result.and(outcome),
        }
    }
    if handled > 0 {
        session::announce_config();
    }
    if !seen {
        return Err(malformed(command, text, CommandError::Empty));
    }
    result
}

/// `add_urls`.
pub(crate) fn add_urls(text: &[u8]) -> Result {
    each_url("add_urls", text, urls::add)
}

/// `remove_urls`.
pub(crate) fn remove_urls(text: &[u8]) -> Result {
    each_url("remove_urls", text, |url| registry::remove_url(&url))
}

/// A parameter of the module was written.
pub(crate) fn apply_parameters() {
    urls::touch();
    session::announce_config();
    let deadline = params::request_deadline_secs();
    let _lifecycle = lifecycle::lock();
    registry::for_each_device(|device| device.set_deadline(deadline));
    rounds::start();
}

/// `create`.
pub(crate) fn create(text: &[u8]) -> Result {
    let (name, size) =
        parse_volume_and_size(text).map_err(|error| malformed("create", text, error))?;
    let volume = VolumeName::new(name)?;
    let created = || -> Result<(), Failure> {
        let operation = registry::begin_detached(&volume)?;
        check_urls()?;
        calls::change(Op::Create, size, name.as_bytes(), false, &operation)?;
        drop(operation);
        Ok(())
    };
    created().map_err(|failure| failed("create", name, failure))?;
    log::info!("volume {} created, {} bytes\n", name, size);
    Ok(())
}

/// `extend`.
pub(crate) fn extend(text: &[u8]) -> Result {
    let (name, size) =
        parse_volume_and_size(text).map_err(|error| malformed("extend", text, error))?;
    let volume = VolumeName::new(name)?;
    let extended = || -> Result<(), Failure> {
        let (operation, device) = registry::begin_any(&volume)?;
        if device.as_ref().is_some_and(|device| size <= device.size_bytes()) {
            let mut failure = Failure::from(EINVAL);
            let reason = b"the volume would not grow: a size can only be raised";
            failure.details.extend_from_slice(reason, GFP_KERNEL)?;
            return Err(failure);
        }
        check_urls()?;
        // A device that is smaller than its volume is left by an extend that was interrupted: do
        // the rest of it.
        let repeated = device.is_some();
        calls::change(Op::Extend, size, name.as_bytes(), repeated, &operation)?;
        if let Some(device) = &device {
            device.grow(size);
        }
        drop(operation);
        Ok(())
    };
    extended().map_err(|failure| failed("extend", name, failure))?;
    log::info!("volume {} extended to {} bytes\n", name, size);
    Ok(())
}

/// `destroy`.
pub(crate) fn destroy(text: &[u8]) -> Result {
    let name = parse_volume(text).map_err(|error| malformed("destroy", text, error))?;
    let volume = VolumeName::new(name)?;
    let destroyed = || -> Result<(), Failure> {
        let operation = registry::begin_detached(&volume)?;
        check_urls()?;
        calls::change(Op::Destroy, 0, name.as_bytes(), false, &operation)?;
        drop(operation);
        Ok(())
    };
    destroyed().map_err(|failure| failed("destroy", name, failure))?;
    log::info!("volume {} destroyed\n", name);
    Ok(())
}

/// `attach`.
pub(crate) fn attach(text: &[u8]) -> Result {
    let (volume_name, device_name) =
        parse_volume_and_device(text).map_err(|error| malformed("attach", text, error))?;
    let (volume, name) = (VolumeName::new(volume_name)?, DeviceName::new(device_name)?);
    let attached = attach_volume(&volume, &name).map_err(|failure| {
        if failure.error == EEXIST && failure.details.is_empty() {
            log::error!(
                "attach {} {}: the volume is attached, or the name is taken in /dev\n",
                volume_name,
                device_name
            );
            return EEXIST;
        }
        failed("attach", volume_name, failure)
    });
    let device = attached?;
    log::device_info!(
        device,
        "{}: volume {} attached, {} bytes\n",
        device_name,
        volume_name,
        device.size_bytes()
    );
    Ok(())
}

fn attach_volume(volume: &VolumeName, name: &DeviceName) -> Result<Arc<Device>, Failure> {
    let operation = registry::begin_attach(volume, name)?;
    for folder in ["/dev", "/sys/class/block"] {
        let path = kernel::str::CString::try_from_fmt(fmt!("{}/{}", folder, name.as_str()))?;
        let path = path.to_str().map_err(|_| EINVAL)?;
        if machine::path_exists(path)? {
            return Err(EEXIST.into());
        }
    }
    check_urls()?;
    let reply = calls::call(Op::Stat, 0, volume.as_str().as_bytes(), Wait::Interruptible)?;
    let size = reply.as_slice().try_into().map(u64::from_ne_bytes).map_err(|_| EPROTO)?;
    if size < SECTOR_BYTES || size > i64::MAX as u64 {
        let mut failure = Failure::from(EINVAL);
        let reason =
            b"the volume's size is less than a sector or more than 2^63-1: extend it first";
        failure.details.extend_from_slice(reason, GFP_KERNEL)?;
        return Err(failure);
    }
    let device = make_device(volume, name, size)?;
    let index = u64::from(device.index());
    let opened = calls::call(Op::Open, index, &[], Wait::Interruptible);
    if let Err(failure) = opened.and_then(|_| device.show(&DISK_FILES).map_err(Failure::from)) {
        discard(&device, Detach::Unused);
        return Err(failure);
    }
    rounds::start();
    drop(operation);
    Ok(device)
}

/// The volume's URL by the first of the list.
fn first_url(volume: &VolumeName) -> Result<KVec<u8>> {
    let name = volume.encoded()?;
    let mut full = KVec::with_capacity(MAX_URL_BYTES + 1 + name.len(), GFP_KERNEL)?;
    let mut result = Ok(());
    urls::for_each(|url| {
        // There is room: nothing is allocated under the lock.
        result = [url.as_str(), urls::separator(url)]
            .iter()
            .try_for_each(|piece| full.extend_from_slice(piece.as_bytes(), GFP_KERNEL));
        false
    });
    result?;
    full.extend_from_slice(&name, GFP_KERNEL)?;
    Ok(full)
}

/// Makes a device, enters it into the table and links it to the agent's session.
fn make_device(volume: &VolumeName, name: &DeviceName, size: u64) -> Result<Arc<Device>> {
    let identity = (*volume, first_url(volume)?);
    let lifecycle = lifecycle::lock();
    let device = Device::new(registry::reserve_index(&lifecycle)?, *name, identity, size)?;
    let linked = match session::session() {
        Some(session) => {
            session.adopt(&device, &lifecycle).inspect_err(|_| session.part(&device, &lifecycle))
        }
        None => Err(ENOTCONN),
    };
    if let Err(error) = linked {
        device.remove(&lifecycle);
        return Err(error);
    }
    registry::insert(device.clone(), &lifecycle);
    Ok(device)
}

/// Parts a hidden device from the agent and gives everything of it up.
fn discard(device: &Arc<Device>, how: Detach) {
    // Asked nicely, the agent leaves the memory; if it does not, it finds it gone.
    let index = u64::from(device.index());
    let patience = match how {
        Detach::Unused => CLOSE_WAIT_MSECS,
        Detach::Force => FORCED_CLOSE_WAIT_MSECS,
    };
    let closed = calls::call(Op::Close, index, &[], Wait::AtMost(patience));
    if let Err(failure) = closed {
        if let (Detach::Force, true, Some(session)) =
            (how, failure.error == ETIMEDOUT, session::session())
        {
            // So that the next device need not wait for it.
            session.peer().cut_off("it does not let go of a device that is detached by force");
        }
        if failure.error != ENOTCONN && failure.error != ENODEV {
            log::device_warning!(
                device,
                "{}: the agent did not let go of the device (error {})\n",
                device.name().as_str(),
                failure.error.to_errno()
            );
        }
    }
    let lifecycle = lifecycle::lock();
    registry::remove(device, &lifecycle);
    match session::session() {
        Some(session) => session.part(device, &lifecycle),
        None => device.channels().iter().for_each(|channel| channel.retire()),
    }
    device.remove(&lifecycle);
}

/// `detach`.
pub(crate) fn detach(text: &[u8]) -> Result {
    let (name, how) = parse_detach(text).map_err(|error| malformed("detach", text, error))?;
    detach_device(&DeviceName::new(name)?, how).inspect_err(|error| {
        let reason = match *error {
            error if error == ENOENT => "no such device",
            error if error == EBUSY => "it is in use: unmount it, or stop what has it open",
            error if error == EINTR => "interrupted",
            _ => "failed",
        };
        log::error!("detach {}: {} (error {})\n", name, reason, error.to_errno());
    })
}

fn detach_device(name: &DeviceName, how: Detach) -> Result {
    let (operation, device) = begin_detach(name, how)?;
    match how {
        Detach::Unused => device.condemn()?,
        Detach::Force => device.condemn_in_use(),
    }
    device.hide();
    discard(&device, how);
    log::device_info!(device, "{}: detached\n", name.as_str());
    drop(operation);
    Ok(())
}

/// Begins to detach; by force also if another command for the volume is under way.
fn begin_detach(name: &DeviceName, how: Detach) -> Result<(registry::Operating, Arc<Device>)> {
    let (mut waited, mut with_agent) = (0, false);
    loop {
        match registry::begin_detach(name) {
            Err(error) if error == EBUSY && how == Detach::Force => {}
            begun => return begun,
        }
        if waited >= INTERRUPT_WAIT_MSECS {
            return Err(EBUSY);
        }
        if let Some(device) = registry::device_named(name) {
            with_agent = calls::interrupt(device.volume().as_str().as_bytes());
        }
        if with_agent && waited == FORCED_CLOSE_WAIT_MSECS {
            // What it was told to give up may still come, and the volume is held as long.
            if let Some(session) = session::session() {
                session
                    .peer()
                    .cut_off("it does not give up a command for a device detached by force");
            }
        }
        sleep::sleep_interruptible(10)?;
        waited += 10;
    }
}

/// Detaches everything, at the module's end: nobody has a device open, for that would hold the
/// module, and nobody gives commands any more. It asks for nobody's leave and cannot be
/// interrupted: a device that stayed would hold up the unloading for ever.
pub(crate) fn detach_all() {
    registry::for_each_device(|device| {
        device.condemn_in_use();
        device.hide();
        discard(device, Detach::Unused);
        log::device_info!(device, "{}: detached\n", device.name().as_str());
    });
}

/// `volumes`: calls `show` with each name, until it says that there is no more room. Returns how
/// many were left out.
pub(crate) fn volumes(show: impl FnMut(&str) -> bool) -> Result<u64> {
    let listed = || -> Result<u64, Failure> {
        check_urls()?;
        let room = u64::from(CONTROL.window_bytes) - LISTING_HEAD_BYTES as u64;
        let reply = calls::call(Op::List, room, &[], Wait::Interruptible)?;
        Ok(show_each(&reply, show)?)
    };
    listed().map_err(|failure| failed("volumes", "", failure))
}

/// Calls `show` with the names of an agent's listing. EPROTO: it is none.
fn show_each(reply: &[u8], mut show: impl FnMut(&str) -> bool) -> Result<u64> {
    let listing = Listing::from_bytes(reply).ok_or(EPROTO)?;
    let mut shown = 0u64;
    for name in listing.names.split(|byte| *byte == b'\n').filter(|name| !name.is_empty()) {
        let name = core::str::from_utf8(name).map_err(|_| EPROTO)?;
        if name.chars().any(char::is_control) {
            return Err(EPROTO);
        }
        if !show(name) {
            break;
        }
        shown += 1;
    }
    Ok(listing.total.saturating_sub(shown))
}
