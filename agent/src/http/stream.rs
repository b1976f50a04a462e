// SPDX-License-Identifier: GPL-2.0-only
//! What a connection is made of: a socket; in unit tests, also memory.
//!
//! Before: [`super::connect`] makes one. After: [`super::link`] speaks HTTP over it. Whatever else
//! HTTP is to be spoken over becomes a variant here, and nothing but this file has to know of it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

#[cfg(test)]
use tokio::io::DuplexStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The two ways of a connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    #[cfg(test)]
    Memory(DuplexStream),
}

impl Stream {
    /// Takes what has come, as much as there is room for; nothing has room left at the end.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, room),
            #[cfg(test)]
            Self::Memory(stream) => Pin::new(stream).poll_read(cx, room),
        }
    }

    /// Sends as much of one piece and the next one as goes out at once.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => write(Pin::new(stream), cx, first, second),
            #[cfg(test)]
            Self::Memory(stream) => write(Pin::new(stream), cx, first, second),
        }
    }

    /// Whether nothing has come, and the other side has not ended the connection, as far as the
    /// runtime has heard. Asks the socket only where the runtime has heard something.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let blocked = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
        let byte = &mut [0; 1];
        match self {
            Self::Tcp(stream) => stream.try_read(byte).is_err_and(blocked),
            #[cfg(test)]
            Self::Memory(stream) => {
                let cx = &mut Context::from_waker(std::task::Waker::noop());
                Pin::new(stream).poll_read(cx, &mut ReadBuf::new(byte)).is_pending()
            }
        }
    }

    /// Has the connection reset when it is dropped: what was not sent yet never is.
    pub(crate) fn reset_when_dropped(&self) {
        match self {
            // Fails only on a socket that is not connected any more.
            Self::Tcp(stream) => drop(stream.set_zero_linger()),
            #[cfg(test)]
            Self::Memory(_) => {}
        }
    }
}

fn write(
    stream: Pin<&mut impl AsyncWrite>,
    cx: &mut Context<'_>,
    first: &[u8],
    second: &[u8],
) -> Poll<io::Result<usize>> {
    // The kernel takes a single piece more easily.
    match (first, second) {
        (whole, []) | ([], whole) => stream.poll_write(cx, whole),
        (first, second) => {
            stream.poll_write_vectored(cx, &[IoSlice::new(first), IoSlice::new(second)])
        }
    }
}
