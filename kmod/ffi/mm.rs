// SPDX-License-Identifier: GPL-2.0-only
//! Pages, and their mapping into a process.

use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    bindings,
    mm::virt::{flags, VmaMixedMap, VmaNew},
    page::BorrowedPage,
    prelude::*,
    sync::Arc,
};

/// How much memory from the start of a page on, of pages that follow one another, has addresses
/// that do so as well while the first page is mapped: without high memory, all of it.
pub(super) const MAPPED_BYTES: usize =
    if cfg!(CONFIG_HIGHMEM) { bindings::PAGE_SIZE } else { usize::MAX };

/// Calls `f` with the address of a page's memory, good for [`MAPPED_BYTES`].
///
/// # Safety
/// The page is live until this returns.
pub(super) unsafe fn with_page<R>(page: *mut bindings::page, f: impl FnOnce(*mut u8) -> R) -> R {
    // SAFETY: The contract.
    let base = unsafe { bindings::kmap_local_page(page) };
    let result = f(base.cast());
    // SAFETY: Mapped above by the same thread, and last mapped first unmapped.
    unsafe { bindings::kunmap_local(base) };
    result
}

#[expect(improper_ctypes, reason = "a page is passed by pointer, its layout is the bindings'")]
extern "C" {
    /// `helpers.c`: copies bytes that others may change at the same time.
    fn srb_copy(to: *mut c_void, from: *const c_void, len: usize);
    /// `helpers.c`: a page of zeros; null if there is none.
    fn srb_page(waits: bool) -> *mut bindings::page;
    /// `helpers.c`: whether only the caller holds a page.
    fn srb_page_is_alone(page: *mut bindings::page) -> bool;
    /// `helpers.c`: where the kernel sees a page.
    fn srb_page_memory(page: *mut bindings::page) -> *mut c_void;
    /// `helpers.c`: the page that the kernel sees there.
    fn srb_page_of(memory: *const c_void) -> *mut bindings::page;
}

/// Whether an allocation may wait for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It may.
    Waits,
    /// It fails if there is none at once, and leaves the kernel's last reserves alone.
    Hurries,
}

/// A page that may be mapped into the agent; dropping gives up this reference to it.
///
/// # Invariants
/// The pointer is to a page that one reference is held to, and that the kernel can always address.
pub(crate) struct SharedPage(NonNull<bindings::page>);

// SAFETY: A page belongs to no thread.
unsafe impl Send for SharedPage {}

impl SharedPage {
    /// Allocates a page of zeros: nothing that lay in the memory before may reach the agent.
    pub(crate) fn new(patience: Patience) -> Result<Self> {
        // SAFETY: Process context, or no wait.
        let page = unsafe { srb_page(patience == Patience::Waits) };
        // INVARIANT: A new page, not of high memory.
        NonNull::new(page).map(Self).ok_or(ENOMEM)
    }

    /// Makes a page new that was used, if nobody else has it: what was pinned on behalf of an agent
    /// may still be read and written by whoever pinned it. It is mapped nowhere any more.
    pub(crate) fn renewed(self) -> Option<Self> {
        // SAFETY: A live page.
        if !unsafe { srb_page_is_alone(self.0.as_ptr()) } {
            return None;
        }
        // SAFETY: A page's memory, which nobody else has.
        let clear = |base: *mut u8| unsafe { base.write_bytes(0, bindings::PAGE_SIZE) };
        // SAFETY: A live page.
        unsafe { with_page(self.0.as_ptr(), clear) };
        Some(self)
    }

    /// Gives the page up as a pointer, to be kept in an atomic.
    pub(crate) fn into_raw(self) -> RawPage {
        let page = self.0.as_ptr();
        core::mem::forget(self);
        page
    }

    /// Takes back what [`Self::into_raw`] gave; `None` for null.
    ///
    /// # Safety
    /// The pointer comes from there, and is taken back once.
    pub(crate) unsafe fn from_raw(page: RawPage) -> Option<Self> {
        // INVARIANT: The contract.
        NonNull::new(page).map(Self)
    }

    /// Gives the page up as its memory: for the module itself, never to be mapped.
    pub(crate) fn into_memory<T: pin_init::Zeroable>(self) -> *mut T {
        const { assert!(size_of::<T>() <= bindings::PAGE_SIZE, "a page has no room for it") };
        // SAFETY: A live page that is always addressable.
        unsafe { srb_page_memory(self.into_raw()) }.cast()
    }

    /// Takes back what [`Self::into_memory`] gave; `None` for null.
    ///
    /// # Safety
    /// The pointer comes from there, and is taken back once.
    pub(crate) unsafe fn from_memory<T>(memory: *mut T) -> Option<Self> {
        if memory.is_null() {
            return None;
        }
        // INVARIANT: The contract.
        // SAFETY: The memory of a live page.
        NonNull::new(unsafe { srb_page_of(memory.cast_const().cast()) }).map(Self)
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: The reference that the invariant speaks of.
        unsafe { bindings::__free_pages(self.0.as_ptr(), 0) };
    }
}

/// A page in an atomic: null, or owned by the table it stands in.
pub(crate) type RawPage = *mut bindings::page;

/// Copies `len` bytes to `offset` of a page; both lie within it.
///
/// # Safety
/// The page is live, `from` is readable for `len` bytes, and `offset + len` is at most a page.
pub(crate) unsafe fn copy_to_page(page: RawPage, offset: usize, from: *const u8, len: usize) {
    let copied = |base: *mut u8| {
        // SAFETY: The contract. The agent may write the page meanwhile: then it spoils its own
        // data.
        unsafe { copy(base.add(offset), from, len) }
    };
    // SAFETY: The contract.
    unsafe { with_page(page, copied) };
}

/// Copies `len` bytes from `offset` of a page.
///
/// # Safety
/// The page is live, `to` is writable for `len` bytes, and `offset + len` is at most a page.
pub(crate) unsafe fn copy_from_page(page: RawPage, offset: usize, to: *mut u8, len: usize) {
    let copied = |base: *mut u8| {
        // SAFETY: The contract. What the agent writes meanwhile is copied or not.
        unsafe { copy(to, base.add(offset).cast_const(), len) }
    };
    // SAFETY: The contract.
    unsafe { with_page(page, copied) };
}

/// Copies memory; whole pages in the way that the kernel has found to be the processor's best.
///
/// # Safety
/// `from` is readable and `to` writable for `len` bytes, and they do not overlap.
unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    if len == bindings::PAGE_SIZE {
        // SAFETY: The contract; the callee does not write to `from`.
        unsafe { bindings::copy_page(to.cast(), from.cast_mut().cast()) };
    } else {
        // SAFETY: The contract. The other side may write one of them meanwhile, of which a copy in
        // Rust would let the compiler assume that nobody does.
        unsafe { srb_copy(to.cast(), from.cast(), len) };
    }
}

/// The page behind an address.
///
/// # Safety
/// The address lies in live memory from the vmalloc allocator.
pub(crate) unsafe fn vmalloc_page(address: *const u8) -> RawPage {
    // SAFETY: The contract.
    unsafe { bindings::vmalloc_to_page(address.cast()) }
}

/// What processes have mapped from the control device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct AddressSpace(NonNull<bindings::address_space>);

// SAFETY: An address space belongs to no thread.
unsafe impl Send for AddressSpace {}
// SAFETY: The kernel locks it as it needs.
unsafe impl Sync for AddressSpace {}

impl AddressSpace {
    /// The address space of an open file; it is there as long as the file is open.
    ///
    /// # Safety
    /// `file` is an open file.
    pub(super) unsafe fn of(file: *mut bindings::file) -> Option<Self> {
        // SAFETY: The contract.
        NonNull::new(unsafe { (*file).f_mapping }).map(Self)
    }

    /// Takes a range of offsets away from everybody who has mapped it.
    ///
    /// # Safety
    /// The file that this came from is still open.
    pub(crate) unsafe fn unmap(self, offset: u64, bytes: usize) {
        // SAFETY: The contract.
        unsafe {
            bindings::unmap_mapping_range(self.0.as_ptr(), offset as i64, bytes as i64, 1);
        }
    }
}

/// What processes may map.
pub(crate) trait Mappable: Send + Sync + 'static {
    /// Answers a fault at `offset` of the file: calls `insert` for the page there, and for as many
    /// of those behind it as it likes, each with its distance in pages. It keeps them alive
    /// meanwhile.
    fn fault(&self, offset: u64, insert: impl FnMut(usize, RawPage) -> Result) -> Result;
}

/// A mapping that mmap(2) is about to make.
pub(crate) struct NewMapping<'a> {
    vma: &'a VmaNew,
    raw: *mut bindings::vm_area_struct,
}

impl NewMapping<'_> {
    /// # Safety
    /// Called from an mmap callback with its argument.
    pub(super) unsafe fn from_raw(raw: *mut bindings::vm_area_struct) -> Self {
        // SAFETY: The contract.
        Self { vma: unsafe { VmaNew::from_raw(raw) }, raw }
    }

    /// Where it starts in the file, in bytes.
    pub(crate) fn offset(&self) -> u64 {
        // SAFETY: A mapping being set up is ours to read.
        let pages = unsafe { (*self.raw).vm_pgoff };
        (pages as u64).wrapping_mul(bindings::PAGE_SIZE as u64)
    }

    /// How many bytes it covers.
    pub(crate) fn bytes(&self) -> usize {
        self.vma.end().wrapping_sub(self.vma.start())
    }

    /// Lets faults be answered by what `view` sees; the mapping keeps the view alive.
    ///
    /// EINVAL unless the mapping is shared: a private one would read zeros and lose what it writes.
    pub(crate) fn serve_from<M: Mappable>(self, view: Arc<M>) -> Result {
        if self.vma.flags() & flags::SHARED == 0 {
            return Err(EINVAL);
        }
        self.vma.try_clear_mayexec()?;
        self.vma.set_mixedmap();
        self.vma.set_dontexpand();
        self.vma.set_dontcopy();
        self.vma.set_dontdump();
        let operations: &'static bindings::vm_operations_struct = &Callbacks::<M>::TABLE;
        // SAFETY: A mapping being set up is ours to change; `close` gives the reference back.
        unsafe { (*self.raw).vm_private_data = Arc::into_raw(view).cast_mut().cast() };
        // SAFETY: It is still being set up, and the table is a static.
        unsafe { (*self.raw).vm_ops = operations };
        Ok(())
    }
}

/// The memory manager's callbacks, for mappings of `M`.
struct Callbacks<M>(PhantomData<M>);

impl<M: Mappable> Callbacks<M> {
    const TABLE: bindings::vm_operations_struct = bindings::vm_operations_struct {
        open: Some(Self::open),
        close: Some(Self::close),
        fault: Some(Self::fault),
        ..pin_init::zeroed()
    };

    /// A mapping was split in two: each half holds a reference.
    ///
    /// # Safety
    /// Called by the memory manager, for a mapping of ours, with what it passes.
    unsafe extern "C" fn open(vma: *mut bindings::vm_area_struct) {
        // SAFETY: `serve_from` put it there.
        let view = unsafe { (*vma).vm_private_data }.cast::<M>();
        // SAFETY: The half that exists holds a reference.
        let borrowed = core::mem::ManuallyDrop::new(unsafe { Arc::from_raw(view) });
        core::mem::forget(Arc::clone(&borrowed));
    }

    /// # Safety
    /// Called by the memory manager, for a mapping of ours, with what it passes.
    unsafe extern "C" fn close(vma: *mut bindings::vm_area_struct) {
        // SAFETY: `serve_from` or `open` put a reference there for this mapping.
        drop(unsafe { Arc::from_raw((*vma).vm_private_data.cast::<M>()) });
    }

    /// # Safety
    /// Called by the memory manager, for a mapping of ours, with what it passes.
    unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: A fault being handled.
        let fault = unsafe { &(*vmf).__bindgen_anon_1 };
        // SAFETY: The mapping is stable during a fault; it holds a reference to the view.
        let view = unsafe { &*(*fault.vma).vm_private_data.cast::<M>() };
        // SAFETY: `serve_from` has set VM_MIXEDMAP, and the fault holds the lock.
        let vma = unsafe { VmaMixedMap::from_raw(fault.vma) };
        let address = fault.address & !(bindings::PAGE_SIZE - 1);
        let offset = (fault.pgoff as u64).wrapping_mul(bindings::PAGE_SIZE as u64);
        let end = vma.end();
        let outcome = view.fault(offset, |nth, page| {
            let at = address.wrapping_add(nth.wrapping_mul(bindings::PAGE_SIZE));
            if at >= end {
                return Err(EFAULT);
            }
            let page = NonNull::new(page).ok_or(EFAULT)?;
            // SAFETY: `Mappable::fault` keeps the page alive during the call.
            vma.vm_insert_page(at, unsafe { &BorrowedPage::from_raw(page) })
        });
        match outcome {
            Ok(()) => bindings::vm_fault_reason_VM_FAULT_NOPAGE,
            // Two threads touched it at once; the other one was first.
            Err(error) if error == EBUSY => bindings::vm_fault_reason_VM_FAULT_NOPAGE,
            Err(error) if error == ENOMEM => bindings::vm_fault_reason_VM_FAULT_OOM,
            Err(_) => bindings::vm_fault_reason_VM_FAULT_SIGBUS,
        }
    }
}
