// SPDX-License-Identifier: GPL-2.0-only
//! Files in sysfs: those of a class and those of a disk, from types that say their name, mode and
//! content.

use super::{compat, process::admin_only, signals::SignalsHeld, Descriptor};
use core::{marker::PhantomData, mem::offset_of};
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

/// A file of each disk of a `D`. Neither function may take a lock that is held while a disk is
/// removed.
pub(crate) trait DiskFile<D> {
    const NAME: &'static CStr;
    const MODE: u16;
    /// Writes the file's content.
    fn show(device: &D, page: &mut Page<'_>) -> Result;
    /// Does what was written.
    fn store(_device: &D, _text: &[u8]) -> Result {
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

/// A file of the class, described for the kernel.
pub(crate) type ClassEntry = Descriptor<bindings::class_attribute>;

pub(crate) const fn class_entry<T: ClassFile>() -> ClassEntry {
    Descriptor(bindings::class_attribute {
        attr: compat::attribute(T::NAME, T::MODE),
        show: Some(class_show::<T>),
        store: if T::MODE & 0o200 != 0 { Some(class_store::<T>) } else { None },
    })
}

/// The device behind a file of a disk.
///
/// # Safety
/// `device` is the whole-disk block device of a disk of `D`, which lives as long as the callback
/// runs.
unsafe fn disk_device<'a, D>(device: *mut bindings::device) -> &'a D {
    // SAFETY: As `dev_to_disk()` of `<linux/blkdev.h>`.
    let part0 = unsafe { device.byte_sub(offset_of!(bindings::block_device, bd_device)) };
    // SAFETY: The contract.
    let disk = unsafe { (*part0.cast::<bindings::block_device>()).bd_disk };
    // SAFETY: Our disks' private data is their device, as long as they live.
    unsafe { &*(*disk).private_data.cast::<D>() }
}

/// # Safety
/// Called by sysfs, for a file of a disk of `D`, with what it passes.
unsafe extern "C" fn disk_show<D, T: DiskFile<D>>(
    device: *mut bindings::device,
    _attribute: compat::DeviceAttribute,
    buffer: *mut c_char,
) -> isize {
    // SAFETY: The files stand in the groups of disks of `D` alone; see `DiskFiles`.
    let device = unsafe { disk_device(device) };
    // SAFETY: sysfs passes a page.
    unsafe { shown(buffer, |page| T::show(device, page)) }
}

/// # Safety
/// Called by sysfs, for a file of a disk of `D`, with what it passes.
unsafe extern "C" fn disk_store<D, T: DiskFile<D>>(
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

/// A file of each disk, described for the kernel.
pub(crate) type DiskEntry = Descriptor<bindings::device_attribute>;

pub(crate) const fn disk_entry<D, T: DiskFile<D>>() -> DiskEntry {
    let store: Option<compat::StoreDevice> =
        if T::MODE & 0o200 != 0 { Some(disk_store::<D, T>) } else { None };
    let attribute = compat::attribute(T::NAME, T::MODE);
    Descriptor(compat::device_attribute(attribute, disk_show::<D, T>, store))
}

/// A terminated list of attributes, and one of groups of them.
pub(crate) type List<const N: usize> = Descriptor<[*const bindings::attribute; N]>;
pub(crate) type Group = Descriptor<bindings::attribute_group>;
pub(crate) type Groups = Descriptor<[*const bindings::attribute_group; 2]>;

pub(crate) const fn group<const N: usize>(list: &'static List<N>) -> Group {
    Descriptor(compat::attribute_group(list.0.as_ptr()))
}

/// The one group of attributes that the kernel wants, from types.
macro_rules! file_groups {
    ([$($type:ty),* $(,)?], $entry:ty, |$file:ident| $make:expr) => {{
        use $crate::ffi::sysfs::{group, Group, Groups, List};
        static LIST: List<{ [$(stringify!($type)),*].len() + 1 }> = $crate::ffi::Descriptor([
            $({
                type $file = $type;
                static FILE: $entry = $make;
                &raw const FILE.0.attr
            },)*
            core::ptr::null(),
        ]);
        static GROUP: Group = group(&LIST);
        static GROUPS: Groups =
            $crate::ffi::Descriptor([&raw const GROUP.0, core::ptr::null()]);
        &GROUPS
    }};
}
pub(crate) use file_groups;

/// Makes a static [`Class`] out of the types of its files.
macro_rules! class_of {
    ($vis:vis $class:ident: [$($type:ty),* $(,)?]) => {
        $vis static $class: $crate::ffi::sysfs::Class = {
            use $crate::ffi::sysfs::{class_entry, file_groups, Class, ClassEntry};
            Class::of(file_groups!([$($type),*], ClassEntry, |File| class_entry::<File>()))
        };
    };
}
pub(crate) use class_of;

/// Makes a static [`DiskFiles`] out of the types of the files.
macro_rules! disk_files_of {
    ($vis:vis $files:ident of $device:ty: [$($type:ty),* $(,)?]) => {
        $vis static $files: $crate::ffi::sysfs::DiskFiles<$device> = {
            use $crate::ffi::sysfs::{disk_entry, file_groups, DiskEntry, DiskFiles};
            let groups =
                file_groups!([$($type),*], DiskEntry, |File| disk_entry::<$device, File>());
            // SAFETY: All of them are files of such disks.
            unsafe { DiskFiles::of(groups) }
        };
    };
}
pub(crate) use disk_files_of;

/// The files of each disk of a `D`.
///
/// # Invariants
/// The groups have files of such disks alone.
pub(crate) struct DiskFiles<D> {
    groups: &'static Groups,
    _of: PhantomData<fn(&D)>,
}

impl<D> DiskFiles<D> {
    /// # Safety
    /// The groups have entries of [`disk_entry`] for `D` alone.
    pub(crate) const unsafe fn of(groups: &'static Groups) -> Self {
        // INVARIANT: The contract.
        Self { groups, _of: PhantomData }
    }

    /// What `device_add_disk` takes: the files are there before udev hears of the disk.
    pub(super) fn groups(&self) -> *mut *const bindings::attribute_group {
        self.groups.0.as_ptr().cast_mut()
    }
}

/// `/sys/class/srb` with its files.
pub(crate) struct Class(Descriptor<bindings::class>);

impl Class {
    #[allow(clippy::as_underscore, clippy::ptr_as_ptr, reason = "the type differs between kernels")]
    pub(crate) const fn of(groups: &'static Groups) -> Self {
        Self(Descriptor(bindings::class {
            name: kernel::str::as_char_ptr_in_const_context(c"srb"),
            // Some kernels have a `const` there, and others do not.
            class_groups: groups.0.as_ptr() as _,
            ..pin_init::zeroed()
        }))
    }
}

/// A class's registration; dropping it removes the files and waits for their users.
pub(crate) struct Registration(&'static Class);

impl Registration {
    pub(crate) fn new(class: &'static Class) -> Result<Self> {
        // SAFETY: A static description.
        to_result(unsafe { bindings::class_register(&raw const class.0 .0) })?;
        Ok(Self(class))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: Registered in `new`.
        unsafe { bindings::class_unregister(&raw const self.0 .0 .0) };
    }
}
