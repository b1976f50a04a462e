// SPDX-License-Identifier: GPL-2.0-only
//! `/dev/srb-control` as the kernel sees it: callbacks of the file, turned into calls of a
//! [`ControlFile`].

use super::{
    compat,
    mm::{AddressSpace, NewMapping},
    power::{self, Sleeper},
    process::{admin_only, current_is_exiting},
    to_c,
    wait::Waiting,
};
use core::marker::PhantomData;
use kernel::{bindings, error::to_result, prelude::*, types::ForeignOwnable, uaccess::UserPtr};

/// An open file of the control device.
pub(crate) trait ControlFile: Sized + Send + Sync + 'static {
    /// A file that is being opened, whose mappings are in `space`.
    fn open(space: AddressSpace) -> Self;
    /// Some process closes its copy of the file; `exiting`: as it ends.
    fn flush(&self, exiting: bool);
    /// Nobody has the file any more.
    fn release(&self);
    /// mmap(2).
    fn map(&self, new: NewMapping<'_>) -> Result;
    /// poll(2): whether there is something to read.
    fn poll(&self, waiting: Waiting<'_>) -> Result<bool>;
    /// ioctl(2): `arg` is its argument, and `at` the same as an address.
    fn ioctl(&self, cmd: u32, arg: u64, at: UserPtr) -> Result<usize>;
}

/// The VFS's callbacks, for files that are `F`.
struct Callbacks<F>(PhantomData<F>);

impl<F: ControlFile> Callbacks<F> {
    const TABLE: bindings::file_operations = bindings::file_operations {
        owner: compat::this_module(),
        open: Some(Self::open),
        flush: Some(Self::flush),
        release: Some(Self::release),
        mmap: Some(Self::mmap),
        poll: Some(Self::poll),
        unlocked_ioctl: Some(Self::ioctl),
        llseek: Some(bindings::noop_llseek),
        ..pin_init::zeroed()
    };

    /// # Safety
    /// Called by the VFS, with what it passes.
    unsafe extern "C" fn open(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        if let Err(error) = admin_only() {
            return error.to_errno();
        }
        // SAFETY: A file being opened.
        let Some(space) = (unsafe { AddressSpace::of(file) }) else {
            return ENODEV.to_errno();
        };
        match KBox::new(F::open(space), GFP_KERNEL) {
            Ok(opened) => {
                // SAFETY: A file being opened; `release` takes what is put there back.
                unsafe { (*file).private_data = opened.into_foreign() };
                0
            }
            Err(error) => Error::from(error).to_errno(),
        }
    }

    /// # Safety
    /// `file` was opened by [`Self::open`] and not released.
    unsafe fn of<'a>(file: *mut bindings::file) -> &'a F {
        // SAFETY: The contract.
        unsafe { KBox::<F>::borrow((*file).private_data) }
    }

    /// # Safety
    /// Called by the VFS, with what it passes.
    unsafe extern "C" fn flush(file: *mut bindings::file, _id: bindings::fl_owner_t) -> c_int {
        // SAFETY: An open file.
        unsafe { Self::of(file) }.flush(current_is_exiting());
        0
    }

    /// # Safety
    /// Called by the VFS, with what it passes.
    unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: `open` put it there; nobody uses the file any more.
        let opened = unsafe { KBox::<F>::from_foreign((*file).private_data) };
        opened.release();
        0
    }

    /// # Safety
    /// Called by the VFS, with what it passes.
    unsafe extern "C" fn mmap(
        file: *mut bindings::file,
        vma: *mut bindings::vm_area_struct,
    ) -> c_int {
        // SAFETY: An open file.
        let opened = unsafe { Self::of(file) };
        // SAFETY: The mapping that is being made.
        to_c(opened.map(unsafe { NewMapping::from_raw(vma) }))
    }

    /// # Safety
    /// Called by the VFS, with what it passes.
    unsafe extern "C" fn poll(
        file: *mut bindings::file,
        table: *mut bindings::poll_table_struct,
    ) -> bindings::__poll_t {
        // SAFETY: An open file.
        let opened = unsafe { Self::of(file) };
        // SAFETY: The poll's own arguments.
        match opened.poll(unsafe { Waiting::from_raw(file, table) }) {
            Ok(true) => bindings::POLLIN | bindings::POLLRDNORM,
            Ok(false) => 0,
            Err(_) => bindings::POLLERR | bindings::POLLHUP,
        }
    }

    /// # Safety
    /// Called by the VFS, with what it passes.
    unsafe extern "C" fn ioctl(file: *mut bindings::file, cmd: c_uint, arg: c_ulong) -> c_long {
        // SAFETY: An open file.
        let opened = unsafe { Self::of(file) };
        match opened.ioctl(cmd, arg as u64, UserPtr::from_addr(arg)) {
            Ok(value) => value as c_long,
            Err(error) => error.to_errno() as c_long,
        }
    }
}

/// The device's registration; dropping it removes the device.
pub(crate) struct Registration(KBox<bindings::miscdevice>);

// SAFETY: The kernel locks what it shares.
unsafe impl Send for Registration {}
// SAFETY: Only the drop uses it.
unsafe impl Sync for Registration {}

impl Registration {
    /// Makes `/dev/srb-control`, for root alone, whose files are `F`; `S` is told of the machine's
    /// sleeps.
    pub(crate) fn new<F: ControlFile, S: Sleeper>() -> Result<Self> {
        let operations: &'static bindings::file_operations = &Callbacks::<F>::TABLE;
        let mut device = KBox::new(
            bindings::miscdevice {
                minor: bindings::MISC_DYNAMIC_MINOR as c_int,
                name: kernel::str::as_char_ptr_in_const_context(c"srb-control"),
                fops: operations,
                mode: 0o600,
                ..pin_init::zeroed()
            },
            GFP_KERNEL,
        )?;
        // SAFETY: The box stays where it is until the drop.
        to_result(unsafe { bindings::misc_register(&raw mut *device) })?;
        // SAFETY: Registered above.
        unsafe { power::watch::<S>(device.this_device) };
        Ok(Self(device))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: Registered in `new`; no file is open, for each holds the module.
        unsafe { bindings::misc_deregister(&raw mut *self.0) };
    }
}
