// SPDX-License-Identifier: GPL-2.0-only
//! Where the body of an answer goes.
//!
//! Made by the store, which knows what was asked for; filled by [`super::link`]. No body
//! takes more memory than its kind may.

use std::fmt;
use std::io;
use std::task::Poll;

use tokio::io::ReadBuf;

use crate::base::window::Io;

/// The place.
#[derive(Debug)]
pub(crate) enum Sink<'a> {
    /// The window of a read; so many bytes are there.
    Window(&'a Io<'a>, usize),
    /// Memory, for so many bytes at most.
    Memory(Vec<u8>, usize),
    /// Nowhere, and only so many more bytes are looked at.
    Nowhere(usize),
}

/// Room in a window for data that have not come yet.
#[derive(Debug)]
pub(crate) struct Room<'s, 'a> {
    io: &'a Io<'a>,
    at: &'s mut usize,
    len: usize,
}

impl<'a> Sink<'a> {
    /// Takes some more bytes.
    ///
    /// # Errors
    /// They are more than it takes: how many there are by now.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<(), u64> {
        match self {
            Self::Window(io, at) => {
                let end = at.saturating_add(bytes.len());
                if end > io.len || !io.window.copy_in(*at, bytes) {
                    return Err(end as u64);
                }
                *at = end;
            }
            Self::Memory(known, most) => {
                let end = known.len().saturating_add(bytes.len());
                if end > *most {
                    return Err(end as u64);
                }
                known.extend_from_slice(bytes);
            }
            Self::Nowhere(left) => {
                *left = left.checked_sub(bytes.len()).ok_or(bytes.len() as u64)?;
            }
        }
        Ok(())
    }

    /// Room into which up to `data` bytes can be received at once.
    pub(crate) fn room(&mut self, data: usize) -> Option<Room<'_, 'a>> {
        let Self::Window(io, at) = self else { return None };
        let len = io.len.saturating_sub(*at).min(data);
        Some(Room { io, at, len })
    }
}

impl Room<'_, '_> {
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Lets `read` fill it; how many bytes were put there.
    pub(crate) fn poll_fill(
        self,
        read: impl FnOnce(&mut ReadBuf<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<usize>> {
        let filled = self.io.window.poll_fill(*self.at, self.len, read);
        if let Poll::Ready(Ok(count)) = filled {
            *self.at = self.at.saturating_add(count);
        }
        filled
    }
}

/// How far it is, for an error.
impl fmt::Display for Sink<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Window(io, at) => write!(f, "after {at} of {} bytes", io.len),
            Self::Memory(bytes, _) => write!(f, "after {} bytes", bytes.len()),
            Self::Nowhere(_) => f.write_str("amid its answer"),
        }
    }
}
