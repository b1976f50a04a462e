// SPDX-License-Identifier: GPL-2.0-only
//! The files that each disk gets; docs/ABI describes them for users.
//!
//! Removing a disk waits for the readers of its files, so they take no lock that is held meanwhile:
//! not `LIFECYCLE`, and of the registry its table alone, which is held for looks and changes.

use crate::{
    device::Device,
    ffi::sysfs::{disk_files_of, DiskFile, Page},
    log, params,
    proto::command::Policy as RequestPolicy,
    session, urls,
};
use core::fmt::Write as _;
use kernel::prelude::*;

disk_files_of!(pub(crate) DISK_FILES of Device: [
    Debug, Policy, AgentWait, DeviceUrls, VolumeName, Size, Serial, Wwid, Vendor, Model
]);

/// `srb_debug`: the device's log level.
pub(crate) struct Debug;

impl DiskFile<Device> for Debug {
    const NAME: &'static CStr = c"srb_debug";
    const MODE: u16 = 0o644;

    fn show(device: &Device, page: &mut Page<'_>) -> Result {
        writeln!(page, "{}", device.log_level()).map_err(|_| EIO)
    }

    fn store(device: &Device, text: &[u8]) -> Result {
        match text.trim_ascii() {
            [digit @ b'0'..=b'7'] => {
                device.set_log_level(u32::from(digit.wrapping_sub(b'0')));
                Ok(())
            }
            _ => Err(EINVAL),
        }
    }
}

/// `srb_policy`: what becomes of requests that no server has answered.
pub(crate) struct Policy;

impl DiskFile<Device> for Policy {
    const NAME: &'static CStr = c"srb_policy";
    const MODE: u16 = 0o644;

    fn show(device: &Device, page: &mut Page<'_>) -> Result {
        writeln!(page, "{}", device.fate().policy()).map_err(|_| EIO)
    }

    fn store(device: &Device, text: &[u8]) -> Result {
        match RequestPolicy::parse(text) {
            Ok(policy) => {
                device.fate().set_policy(policy);
                Ok(())
            }
            Err(error) => {
                log::error!("{}: srb_policy: {}\n", device.name().as_str(), error.reason());
                Err(EINVAL)
            }
        }
    }
}

/// `srb_agent_wait`: for how long requests still wait for an agent.
pub(crate) struct AgentWait;

impl DiskFile<Device> for AgentWait {
    const NAME: &'static CStr = c"srb_agent_wait";
    const MODE: u16 = 0o444;

    fn show(device: &Device, page: &mut Page<'_>) -> Result {
        let word = match (session::gone_for_secs(), u64::try_from(params::agent_grace())) {
            (None, _) => "connected\n",
            (Some(_), _) if device.fate().is_failing() => "failing\n",
            (Some(_), Err(_)) => "forever\n",
            (Some(gone_for), Ok(grace)) => {
                let left = grace.saturating_sub(gone_for);
                return writeln!(page, "{left}").map_err(|_| EIO);
            }
        };
        page.push(word).then_some(()).ok_or(EIO)
    }
}

/// `srb_urls`: the volume's URLs, the one in use first.
pub(crate) struct DeviceUrls;

impl DiskFile<Device> for DeviceUrls {
    const NAME: &'static CStr = c"srb_urls";
    const MODE: u16 = 0o444;

    fn show(device: &Device, page: &mut Page<'_>) -> Result {
        let volume = device.volume().encoded()?;
        let volume = core::str::from_utf8(&volume).map_err(|_| EIO)?;
        let (mut first, mut left_out) = (true, 0u32);
        urls::for_each_active_first(|url| {
            let comma = if first { "" } else { "," };
            first = false;
            let separator = urls::separator(url);
            if left_out > 0 || !page.push_reserving(&[comma, url.as_str(), separator, volume]) {
                left_out += 1;
            }
            true
        });
        page.finish(left_out.into(), "URLs", "url list")
    }
}

/// `srb_name`: the volume's name.
pub(crate) struct VolumeName;

impl DiskFile<Device> for VolumeName {
    const NAME: &'static CStr = c"srb_name";
    const MODE: u16 = 0o444;

    fn show(device: &Device, page: &mut Page<'_>) -> Result {
        writeln!(page, "{}", device.volume().as_str()).map_err(|_| EIO)
    }
}

/// `serial`, for those who look for it where other drivers have it: the volume's name.
pub(crate) struct Serial;

impl DiskFile<Device> for Serial {
    const NAME: &'static CStr = c"serial";
    const MODE: u16 = 0o444;

    fn show(device: &Device, page: &mut Page<'_>) -> Result {
        VolumeName::show(device, page)
    }
}

/// `wwid`: which volume of all that there are.
pub(crate) struct Wwid;

impl DiskFile<Device> for Wwid {
    const NAME: &'static CStr = c"wwid";
    const MODE: u16 = 0o444;

    fn show(device: &Device, page: &mut Page<'_>) -> Result {
        let url = core::str::from_utf8(device.first_url()).map_err(|_| EIO)?;
        writeln!(page, "srb.{url}").map_err(|_| EIO)
    }
}

/// A file that says the same of every disk.
macro_rules! constant_file {
    ($type:ident, $name:literal, $text:literal) => {
        pub(crate) struct $type;

        impl DiskFile<Device> for $type {
            const NAME: &'static CStr = $name;
            const MODE: u16 = 0o444;

            fn show(_device: &Device, page: &mut Page<'_>) -> Result {
                page.push($text).then_some(()).ok_or(EIO)
            }
        }
    };
}

constant_file!(Vendor, c"vendor", "srb\n");
constant_file!(Model, c"model", "REST volume\n");

/// `srb_size`: the volume's size in bytes.
pub(crate) struct Size;

impl DiskFile<Device> for Size {
    const NAME: &'static CStr = c"srb_size";
    const MODE: u16 = 0o444;

    fn show(device: &Device, page: &mut Page<'_>) -> Result {
        writeln!(page, "{}", device.size_bytes()).map_err(|_| EIO)
    }
}
