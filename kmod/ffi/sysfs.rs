// SPDX-License-Identifier: GPL-2.0-only
//! Files in sysfs: those of a class and those of a disk, from types that say their name, mode and
//! content.

use super::{
    compat,
    system::{admin_only, SignalsHeld},
    Descriptor,
};
use crate::{device::Device, sysfs};
use core::mem::offset_of;
use kernel::{bindings, error::to_result, prelude::*};

/// A file of the class.
pub(crate) trait ClassFile {
    const NAME: &'static CStr;
    const MODE: u16;
    /// Writes the file's content.
    fn show(page: &mut Page<'_>) -> Result;
    /// Does what was written; all of it came in one piece, without a terminator.
    fn store(_text: &[u8]) -> Result {
        Err(EIO)
    }
}

/// A file of a disk. Neither function may take a lock that is held while a disk is removed.
pub(crate) trait DiskFile {
    const NAME: &'static CStr;
    const MODE: u16;
    /// Writes the file's content.
    fn show(device: &Device, page: &mut Page<'_>) -> Result;
    /// Does what was written.
    fn store(_device: &Device, _text: &[u8]) -> Result {
        Err(EIO)
    }
}

/// The page that a reader gets.
pub(crate) struct Page<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

/// Room that [`Page::push_reserving`] leaves for [`Page::note_left_out`].
const NOTE_BYTES: usize = 80;

impl Page<'_> {
    /// # Safety
    /// `buffer` is a page that nobody else uses for `'a`.
    pub(super) unsafe fn from_raw(buffer: *mut c_char) -> Self {
        let start = buffer.cast::<u8>();
        // SAFETY: The contract.
        let bytes = unsafe { core::slice::from_raw_parts_mut(start, bindings::PAGE_SIZE) };
        Self { bytes, len: 0 }
    }

    /// Bytes written so far.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds text; false, and nothing added, if there is no room.
    pub(crate) fn push(&mut self, text: &str) -> bool {
        let end = self.len.saturating_add(text.len());
        let Some(room) = self.bytes.get_mut(self.len..end) else { return false };
        room.copy_from_slice(text.as_bytes());
        self.len = end;
        true
    }

    /// Adds all pieces, leaving room for a note; false, and nothing added, if there is not so much
    /// room.
    pub(crate) fn push_reserving(&mut self, pieces: &[&str]) -> bool {
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        if self.len.saturating_add(bytes).saturating_add(NOTE_BYTES) > self.bytes.len() {
            return false;
        }
        pieces.iter().all(|piece| self.push(piece))
    }

    /// Says that a listing is not complete, and where the rest is.
    pub(crate) fn note_left_out(&mut self, count: u64, what: &str, command: &str) -> Result {
        use core::fmt::Write as _;
        writeln!(self, "({count} more {what}: srbctl {command})").map_err(|_| EIO)
    }

    /// Ends a listing in one line.
    pub(crate) fn finish(&mut self, left_out: u64, what: &str, command: &str) -> Result {
        self.push("\n").then_some(()).ok_or(EIO)?;
        match left_out {
            0 => Ok(()),
            count => self.note_left_out(count, what, command),
        }
    }
}

impl core::fmt::Write for Page<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.push(text).then_some(()).ok_or(core::fmt::Error)
    }
}

/// What a show callback returns: the bytes written, or a negative errno.
///
/// # Safety
/// `buffer` is a page.
unsafe fn shown(buffer: *mut c_char, show: impl FnOnce(&mut Page<'_>) -> Result) -> isize {
    // SAFETY: The contract.
    let mut page = unsafe { Page::from_raw(buffer) };
    match show(&mut page) {
        Ok(()) => page.len as isize,
        Err(error) => error.to_errno() as isize,
    }
}

/// What a store callback returns: all bytes taken, or a negative errno.
///
/// # Safety
/// `buffer` holds `count` bytes.
unsafe fn stored(
    buffer: *const c_char,
    count: usize,
    store: impl FnOnce(&[u8]) -> Result,
) -> isize {
    // sysfs hands over a page at most, and a write of more in pieces: half a command is none.
    if count >= bindings::PAGE_SIZE {
        return EINVAL.to_errno() as isize;
    }
    // SAFETY: The contract.
    match store(unsafe { core::slice::from_raw_parts(buffer.cast::<u8>(), count) }) {
        Ok(()) => count as isize,
        Err(error) => error.to_errno() as isize,
    }
}

/// Does what a file of the class is for. It may wait for the agent, and no signal ends that wait
/// that is not meant to.
fn as_command(run: impl FnOnce() -> Result) -> Result {
    admin_only()?;
    let _held = SignalsHeld::new();
    run()
}

/// # Safety
/// Called by sysfs, for a file of ours, with what it passes.
unsafe extern "C" fn class_show<T: ClassFile>(
    _class: *const bindings::class,
    _attribute: *const bindings::class_attribute,
    buffer: *mut c_char,
) -> isize {
    // SAFETY: sysfs passes a page.
    unsafe { shown(buffer, |page| as_command(|| T::show(page))) }
}

/// # Safety
/// Called by sysfs, for a file of ours, with what it passes.
unsafe extern "C" fn class_store<T: ClassFile>(
    _class: *const bindings::class,
    _attribute: *const bindings::class_attribute,
    buffer: *const c_char,
    count: usize,
) -> isize {
    // SAFETY: sysfs passes a buffer of `count` bytes.
    unsafe { stored(buffer, count, |text| as_command(|| T::store(text))) }
}

const fn class_file<T: ClassFile>() -> Descriptor<bindings::class_attribute> {
    Descriptor(bindings::class_attribute {
        attr: compat::attribute(T::NAME, T::MODE),
        show: Some(class_show::<T>),
        store: if T::MODE & 0o200 != 0 { Some(class_store::<T>) } else { None },
    })
}

/// The device behind a file of a disk.
///
/// # Safety
/// `device` is the whole-disk block device of one of our disks, which lives as long as the callback
/// runs.
unsafe fn disk_device<'a>(device: *mut bindings::device) -> &'a Device {
    // SAFETY: As `dev_to_disk()` of `<linux/blkdev.h>`.
    let part0 = unsafe { device.byte_sub(offset_of!(bindings::block_device, bd_device)) };
    // SAFETY: The contract.
    let disk = unsafe { (*part0.cast::<bindings::block_device>()).bd_disk };
    // SAFETY: Our disks' private data is their device, as long as they live.
    unsafe { &*(*disk).private_data.cast::<Device>() }
}

/// # Safety
/// Called by sysfs, for a file of ours, with what it passes.
unsafe extern "C" fn disk_show<T: DiskFile>(
    device: *mut bindings::device,
    _attribute: compat::DeviceAttribute,
    buffer: *mut c_char,
) -> isize {
    // SAFETY: The files stand in our disks' groups alone.
    let device = unsafe { disk_device(device) };
    // SAFETY: sysfs passes a page.
    unsafe { shown(buffer, |page| T::show(device, page)) }
}

/// # Safety
/// Called by sysfs, for a file of ours, with what it passes.
unsafe extern "C" fn disk_store<T: DiskFile>(
    device: *mut bindings::device,
    _attribute: compat::DeviceAttribute,
    buffer: *const c_char,
    count: usize,
) -> isize {
    // SAFETY: As in `disk_show`.
    let device = unsafe { disk_device(device) };
    // SAFETY: sysfs passes a buffer of `count` bytes.
    unsafe { stored(buffer, count, |text| admin_only().and_then(|()| T::store(device, text))) }
}

const fn disk_file<T: DiskFile>() -> Descriptor<bindings::device_attribute> {
    let store: Option<compat::StoreDevice> =
        if T::MODE & 0o200 != 0 { Some(disk_store::<T>) } else { None };
    Descriptor(compat::device_attribute(compat::attribute(T::NAME, T::MODE), disk_show::<T>, store))
}

type List<const N: usize> = Descriptor<[*const bindings::attribute; N]>;

/// The terminated list of attributes that the kernel wants, from types.
macro_rules! attribute_list {
    ($list:ident, $make:ident, $kind:ident, [$($type:ident),* $(,)?]) => {
        static $list: List<{ [$(stringify!($type)),*].len() + 1 }> = {
            Descriptor([
                $({
                    static FILE: Descriptor<bindings::$kind> = $make::<sysfs::$type>();
                    &raw const FILE.0.attr
                },)*
                core::ptr::null(),
            ])
        };
    };
}

attribute_list!(
    CLASS_LIST,
    class_file,
    class_attribute,
    [
        Urls, Volumes, BadAnswers, Standbys, AddUrls, RemoveUrls, Create, Extend, Destroy, Attach,
        Detach
    ]
);
attribute_list!(
    DISK_LIST,
    disk_file,
    device_attribute,
    [Debug, Policy, AgentWait, DeviceUrls, VolumeName, Size, Serial, Wwid, Vendor, Model]
);

type Groups = Descriptor<[*const bindings::attribute_group; 2]>;

static CLASS_GROUP: Descriptor<bindings::attribute_group> =
    Descriptor(compat::attribute_group(CLASS_LIST.0.as_ptr()));
static CLASS_GROUPS: Groups = Descriptor([&raw const CLASS_GROUP.0, core::ptr::null()]);
static DISK_GROUP: Descriptor<bindings::attribute_group> =
    Descriptor(compat::attribute_group(DISK_LIST.0.as_ptr()));
static DISK_GROUPS: Groups = Descriptor([&raw const DISK_GROUP.0, core::ptr::null()]);

#[allow(clippy::as_underscore, clippy::ptr_as_ptr, reason = "the type differs between kernels")]
static CLASS: Descriptor<bindings::class> = Descriptor(bindings::class {
    name: kernel::str::as_char_ptr_in_const_context(c"srb"),
    // Some kernels have a `const` there, and others do not.
    class_groups: CLASS_GROUPS.0.as_ptr() as _,
    ..pin_init::zeroed()
});

/// What `device_add_disk` takes: the files are there before udev hears of the disk.
pub(super) fn disk_groups() -> *mut *const bindings::attribute_group {
    DISK_GROUPS.0.as_ptr().cast_mut()
}

/// The class's registration; dropping it removes the files and waits for their users.
pub(crate) struct Registration(());

impl Registration {
    /// Makes `/sys/class/srb`.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: A static description.
        to_result(unsafe { bindings::class_register(&raw const CLASS.0) })?;
        Ok(Self(()))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: Registered in `new`.
        unsafe { bindings::class_unregister(&raw const CLASS.0) };
    }
}
