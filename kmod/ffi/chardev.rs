// SPDX-License-Identifier: GPL-2.0-only
//! `/dev/srb-control` as the kernel sees it: callbacks of the file, turned into calls of
//! [`crate::chardev`].

use super::{
    compat,
    mm::{AddressSpace, NewMapping},
    power,
    system::{admin_only, current_is_exiting},
    to_c,
    wait::Waiting,
    Descriptor,
};
use crate::chardev::Handle;
use kernel::{bindings, error::to_result, prelude::*, types::ForeignOwnable, uaccess::UserPtr};

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
    match KBox::new(Handle::new(space), GFP_KERNEL) {
        Ok(handle) => {
            // SAFETY: A file being opened; `release` takes the handle back.
            unsafe { (*file).private_data = handle.into_foreign() };
            0
        }
        Err(error) => Error::from(error).to_errno(),
    }
}

/// # Safety
/// `file` was opened by [`open`] and not released.
unsafe fn handle_of<'a>(file: *mut bindings::file) -> &'a Handle {
    // SAFETY: The contract.
    unsafe { KBox::<Handle>::borrow((*file).private_data) }
}

/// # Safety
/// Called by the VFS, with what it passes.
unsafe extern "C" fn flush(file: *mut bindings::file, _id: bindings::fl_owner_t) -> c_int {
    // SAFETY: An open file.
    unsafe { handle_of(file) }.flush(current_is_exiting());
    0
}

/// # Safety
/// Called by the VFS, with what it passes.
unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
    // SAFETY: `open` put it there; nobody uses the file any more.
    let handle = unsafe { KBox::<Handle>::from_foreign((*file).private_data) };
    handle.release();
    0
}

/// # Safety
/// Called by the VFS, with what it passes.
unsafe extern "C" fn mmap(file: *mut bindings::file, vma: *mut bindings::vm_area_struct) -> c_int {
    // SAFETY: An open file.
    let handle = unsafe { handle_of(file) };
    // SAFETY: The mapping that is being made.
    to_c(handle.map(unsafe { NewMapping::from_raw(vma) }))
}

/// # Safety
/// Called by the VFS, with what it passes.
unsafe extern "C" fn poll(
    file: *mut bindings::file,
    table: *mut bindings::poll_table_struct,
) -> bindings::__poll_t {
    // SAFETY: An open file.
    let handle = unsafe { handle_of(file) };
    // SAFETY: The poll's own arguments.
    match handle.poll(unsafe { Waiting::from_raw(file, table) }) {
        Ok(true) => bindings::POLLIN | bindings::POLLRDNORM,
        Ok(false) => 0,
        Err(_) => bindings::POLLERR | bindings::POLLHUP,
    }
}

/// # Safety
/// Called by the VFS, with what it passes.
unsafe extern "C" fn ioctl(file: *mut bindings::file, cmd: c_uint, arg: c_ulong) -> c_long {
    // SAFETY: An open file.
    let handle = unsafe { handle_of(file) };
    match handle.ioctl(cmd, arg as u64, UserPtr::from_addr(arg)) {
        Ok(value) => value as c_long,
        Err(error) => error.to_errno() as c_long,
    }
}

static FILE_OPS: Descriptor<bindings::file_operations> = Descriptor(bindings::file_operations {
    owner: compat::this_module(),
    open: Some(open),
    flush: Some(flush),
    release: Some(release),
    mmap: Some(mmap),
    poll: Some(poll),
    unlocked_ioctl: Some(ioctl),
    llseek: Some(bindings::noop_llseek),
    ..pin_init::zeroed()
});

/// The device's registration; dropping it removes the device.
pub(crate) struct Registration(KBox<bindings::miscdevice>);

// SAFETY: The kernel locks what it shares.
unsafe impl Send for Registration {}
// SAFETY: Only the drop uses it.
unsafe impl Sync for Registration {}

impl Registration {
    /// Makes `/dev/srb-control`, for root alone.
    pub(crate) fn new() -> Result<Self> {
        let mut device = KBox::new(
            bindings::miscdevice {
                minor: bindings::MISC_DYNAMIC_MINOR as c_int,
                name: kernel::str::as_char_ptr_in_const_context(c"srb-control"),
                fops: &raw const FILE_OPS.0,
                mode: 0o600,
                ..pin_init::zeroed()
            },
            GFP_KERNEL,
        )?;
        // SAFETY: The box stays where it is until the drop.
        to_result(unsafe { bindings::misc_register(&raw mut *device) })?;
        // SAFETY: Registered above.
        unsafe { power::watch(device.this_device) };
        Ok(Self(device))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: Registered in `new`; no file is open, for each holds the module.
        unsafe { bindings::misc_deregister(&raw mut *self.0) };
    }
}
