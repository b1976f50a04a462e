// SPDX-License-Identifier: GPL-2.0-only
//! A piece of memory shared with the kernel that a request owns while it is in flight.
//!
//! Before: the ring half makes one for each tag of a channel and hands it to
//! [`crate::volume::pipeline::Pipeline`]. After: answers are received into it, or its bytes go to
//! the socket from where they lie. Belongs to the worker thread of its queue, and nothing of it
//! leaves that.

use std::any::Any;
use std::cell::Cell;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{ready, Poll};
use std::{fmt, io};

use tokio::io::ReadBuf;

/// Memory that is written by answers and sent by requests.
///
/// # Invariants
/// - `start` to `start + len` is readable and writable while `_owner` lives.
/// - The first `zeros` bytes are zero, unless the kernel wrote them since; [`Self::mark_written`]
///   is told of that.
pub struct Window {
    start: NonNull<u8>,
    len: usize,
    zeros: Cell<usize>,
    _owner: Arc<dyn Any + Send + Sync>,
}

impl Window {
    /// A window over memory that somebody else mapped.
    ///
    /// # Safety
    /// From `start`, `len` bytes must stay valid for reads and writes while `owner` lives. While a
    /// request that was given this window is in flight, nobody else may write there, and no Rust
    /// reference to it may exist.
    pub unsafe fn new(start: NonNull<u8>, len: usize, owner: Arc<dyn Any + Send + Sync>) -> Self {
        Self { start, len, zeros: Cell::new(0), _owner: owner }
    }

    /// A window over memory of its own, holding `bytes`.
    #[must_use]
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        let len = bytes.len();
        let owner = Arc::new(OwnedBytes(Box::into_raw(bytes.into_boxed_slice())));
        let start = NonNull::new(owner.0.cast::<u8>()).unwrap_or(NonNull::dangling());
        // SAFETY: `owner` frees the memory when it is dropped, and makes no reference to it before.
        unsafe { Self::new(start, len, owner) }
    }

    /// Its size in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no room at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies `bytes` to `offset`; `false`, and nothing is copied, if they do not fit.
    #[must_use]
    pub fn copy_in(&self, offset: usize, bytes: &[u8]) -> bool {
        if !self.has(offset, bytes.len()) {
            return false;
        }
        self.zeros.set(self.zeros.get().min(offset));
        // SAFETY: `offset` is within the window.
        let target = unsafe { self.start.add(offset) };
        // SAFETY: the window has room for the bytes from `target` on; no Rust slice overlaps it.
        unsafe { target.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        true
    }

    /// Lets `read` put bytes from `offset` on, `len` at most; how many it has put there. An error,
    /// and `read` is not called, if the window has no room for so many.
    pub(crate) fn poll_fill(
        &self,
        offset: usize,
        len: usize,
        read: impl FnOnce(&mut ReadBuf<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<usize>> {
        if !self.has(offset, len) {
            return Poll::Ready(Err(io::ErrorKind::StorageFull.into()));
        }
        self.zeros.set(self.zeros.get().min(offset));
        // SAFETY: `offset` is within the window.
        let start = unsafe { self.start.add(offset) };
        // SAFETY: the window goes on for at least `len` bytes from `start`; nobody else writes
        // there, as `Window::new` demands, and this reference ends before anybody else gets one.
        let room = unsafe { std::slice::from_raw_parts_mut(start.as_ptr().cast(), len) };
        let mut room = ReadBuf::uninit(room);
        ready!(read(&mut room))?;
        Poll::Ready(Ok(room.filled().len()))
    }

    /// Makes the first `len` bytes zero; `false` if there are fewer.
    ///
    /// Costs nothing while they are known to be zero.
    #[must_use]
    pub fn zero(&self, len: usize) -> bool {
        if !self.has(0, len) {
            return false;
        }
        let known = self.zeros.get();
        if known < len {
            // SAFETY: `known` is below `len`, which is within the window.
            let target = unsafe { self.start.add(known) };
            // SAFETY: the window goes on for at least `len - known` bytes from `target`.
            unsafe { target.write_bytes(0, len.saturating_sub(known)) };
            self.zeros.set(len);
        }
        true
    }

    /// Notes that the kernel has filled the window: it is no longer known to be zero anywhere.
    ///
    /// A write through the pipeline does this by itself; to be called for a write that never gets
    /// there.
    pub fn mark_written(&self) {
        self.zeros.set(0);
    }

    /// Lets `send` take `len` bytes from `offset` on, without copying them; `None`, and `send` is
    /// not called, if there are fewer. `send` must not change the window.
    pub(crate) fn with<T>(
        &self,
        offset: usize,
        len: usize,
        send: impl FnOnce(&[u8]) -> T,
    ) -> Option<T> {
        if !self.has(offset, len) {
            return None;
        }
        // SAFETY: `offset` is within the window.
        let start = unsafe { self.start.add(offset) };
        // SAFETY: the window goes on for at least `len` bytes from `start`. Nobody else writes
        // there, as `Window::new` demands, and nobody here while `send` has them.
        let bytes = unsafe { std::slice::from_raw_parts(start.as_ptr(), len) };
        Some(send(bytes))
    }

    /// A copy of the first `len` bytes, for replies and tests; shorter if the window is.
    #[must_use]
    pub fn to_vec(&self, len: usize) -> Vec<u8> {
        self.with(0, len.min(self.len), <[u8]>::to_vec).unwrap_or_default()
    }

    fn has(&self, offset: usize, len: usize) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.len)
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window").field("len", &self.len).finish_non_exhaustive()
    }
}

/// The memory of [`Window::from_vec`], kept as a pointer so that no reference to it exists beside
/// the window's own.
struct OwnedBytes(*mut [u8]);

// SAFETY: the memory is on the heap and has one owner; any thread may free it.
unsafe impl Send for OwnedBytes {}
// SAFETY: a shared reference gives no access to the memory.
unsafe impl Sync for OwnedBytes {}

impl Drop for OwnedBytes {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `Box::into_raw` and is turned back once, here.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

/// Bytes of a window, and where they are or belong in a volume.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Io<'a> {
    /// In the volume, in bytes.
    pub(crate) offset: u64,
    pub(crate) window: &'a Window,
    /// From the window's start, in bytes; not 0.
    pub(crate) len: usize,
}

impl Io<'_> {
    /// The bytes of the volume.
    pub(crate) fn range(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(self.len as u64)
    }

    /// The last byte.
    pub(crate) fn last(&self) -> u64 {
        self.range().end.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_whole() {
        let window = Window::from_vec(vec![7; 8]);
        assert!(!window.copy_in(6, &[1, 2, 3]));
        assert!(!window.copy_in(usize::MAX, &[1]));
        assert!(!window.zero(9));
        assert_eq!(window.with(0, 9, <[u8]>::to_vec), None);
        assert_eq!(window.with(usize::MAX, 2, <[u8]>::to_vec), None);
        assert_eq!(window.to_vec(100), [7; 8]);
        assert!(window.copy_in(6, &[1, 2]));
        assert!(window.copy_in(8, &[]));
        assert_eq!(window.to_vec(8), [7, 7, 7, 7, 7, 7, 1, 2]);
    }

    #[test]
    fn zeroing_after_anything_else_gives_zeros() {
        let window = Window::from_vec(vec![7; 8]);
        assert!(window.zero(4));
        assert_eq!(window.to_vec(8), [0, 0, 0, 0, 7, 7, 7, 7]);
        assert!(window.copy_in(2, &[9]));
        assert!(window.zero(8));
        assert_eq!(window.to_vec(8), [0; 8]);
        assert!(window.copy_in(0, &[1; 8]));
        window.mark_written();
        assert!(window.zero(8));
        assert_eq!(window.to_vec(8), [0; 8]);
    }

    #[test]
    fn what_is_read_into_it_stays_within_and_is_no_zero() {
        let window = Window::from_vec(vec![7; 8]);
        assert!(window.zero(8));
        let put = |bytes: &'static [u8]| {
            move |room: &mut ReadBuf<'_>| {
                room.put_slice(bytes);
                Poll::Ready(Ok(()))
            }
        };
        let filled = |poll: Poll<io::Result<usize>>| match poll {
            Poll::Ready(result) => result.map_err(|error| error.kind()),
            Poll::Pending => panic!("pending"),
        };
        assert_eq!(filled(window.poll_fill(2, 3, put(b"ab"))), Ok(2));
        assert_eq!(window.to_vec(8), *b"\0\0ab\0\0\0\0");
        assert_eq!(filled(window.poll_fill(6, 3, put(b"x"))), Err(io::ErrorKind::StorageFull));
        assert_eq!(
            filled(window.poll_fill(usize::MAX, 2, put(b"x"))),
            Err(io::ErrorKind::StorageFull)
        );
        assert!(window.poll_fill(0, 8, |_| Poll::Pending).is_pending());
        assert!(window.zero(8));
        assert_eq!(window.to_vec(8), [0; 8]);
    }

    #[test]
    fn what_is_sent_of_it_is_a_part_of_it() {
        let window = Window::from_vec(vec![1, 2, 3]);
        assert_eq!(window.with(1, 2, <[u8]>::to_vec).as_deref(), Some(&[2, 3][..]));
        assert_eq!(window.with(3, 0, <[u8]>::to_vec).as_deref(), Some(&[][..]));
        assert_eq!(window.with(2, 2, <[u8]>::to_vec), None);
    }

    #[test]
    fn an_empty_window_is_no_trouble() {
        let window = Window::from_vec(Vec::new());
        assert!(window.zero(0) && window.copy_in(0, &[]) && window.is_empty());
        assert!(window.to_vec(1).is_empty());
    }
}
