// SPDX-License-Identifier: GPL-2.0-only
//! Pieces of a volume on their way to a client, in memory that serves again and again.
//!
//! `body` and `reading` ask for a piece; hyper drops it once the socket has taken it. Fresh memory
//! of this size comes from the kernel and goes back to it each time, which costs more than to fill
//! it, so each thread keeps some.

use std::cell::RefCell;
use std::io;

use bytes::Bytes;

use crate::range::Span;
use crate::volume::Volume;

/// The largest read or write of a volume that is done on the connection's own thread.
pub(crate) const INLINE_BYTES: u64 = 256 * 1024;
/// Pieces smaller than this are not worth keeping.
const LEAST_KEPT_BYTES: usize = 32 * 1024;
/// What a thread keeps at most.
const MOST_KEPT: usize = 16;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// The first `len` bytes of a buffer of [`INLINE_BYTES`].
struct Piece {
    buffer: Vec<u8>,
    len: usize,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        // A thread that is ending keeps nothing.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < MOST_KEPT {
                spare.push(buffer);
            }
        });
    }
}

/// Reads a span of [`INLINE_BYTES`] at most.
pub(crate) fn read(volume: &Volume, span: Span) -> io::Result<Bytes> {
    let len = usize::try_from(span.length.min(INLINE_BYTES)).map_err(io::Error::other)?;
    if len < LEAST_KEPT_BYTES {
        let mut bytes = vec![0; len];
        volume.read_at(&mut bytes, span.first)?;
        return Ok(Bytes::from(bytes));
    }
    let spare = SPARE.with_borrow_mut(Vec::pop);
    let buffer = spare.unwrap_or_else(|| vec![0; INLINE_BYTES as usize]);
    let mut piece = Piece { buffer, len };
    volume.read_at(&mut piece.buffer[..len], span.first)?;
    Ok(Bytes::from_owner(piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> usize {
        SPARE.with_borrow(Vec::len)
    }

    #[test]
    fn memory_serves_again_and_holds_what_was_read_last() -> io::Result<()> {
        let volume = Volume::new(tempfile::tempfile()?);
        volume.set_size(2 * INLINE_BYTES)?;
        assert!(volume.write_at(&[7; 1 << 16], INLINE_BYTES).is_ok());
        let read = |first, length| read(&volume, Span { first, length });
        let (one, two) = (read(0, INLINE_BYTES)?, read(INLINE_BYTES, 1 << 16)?);
        assert!(one.iter().all(|byte| *byte == 0) && one.len() as u64 == INLINE_BYTES);
        assert!(two.iter().all(|byte| *byte == 7) && two.len() == 1 << 16);
        assert_eq!(kept(), 0);
        drop((one, two));
        assert_eq!(kept(), 2);
        // Of a buffer that was used before, no more is seen than was read.
        let small = read(INLINE_BYTES + 4096, 1 << 15)?;
        assert!(small.iter().all(|byte| *byte == 7) && small.len() == 1 << 15);
        assert_eq!(kept(), 1);
        assert!(read(2 * INLINE_BYTES - 1, 1 << 15).is_err(), "beyond the end");
        assert_eq!((kept(), read(0, 16)?.len()), (1, 16));
        Ok(())
    }

    #[test]
    fn no_more_is_kept_than_is_allowed() -> io::Result<()> {
        let volume = Volume::new(tempfile::tempfile()?);
        volume.set_size(INLINE_BYTES)?;
        let span = || Span { first: 0, length: INLINE_BYTES };
        let pieces =
            (0..MOST_KEPT + 3).map(|_| read(&volume, span())).collect::<Result<Vec<_>, _>>();
        drop(pieces?);
        assert_eq!(kept(), MOST_KEPT);
        Ok(())
    }
}
