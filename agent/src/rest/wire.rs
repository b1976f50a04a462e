// SPDX-License-Identifier: GPL-2.0-only
//! What hyper reads from and writes to: a socket, asked no more often than it can have news.
//!
//! Before: hyper's side of a [`super::link`], which looks for bytes at each of its steps. After:
//! the runtime, which is asked again only after it has woken the link: it remembers the link's
//! waker, which is always the same.
//!
//! # Invariants
//! While `blocked`, the runtime knows the waker, and the socket has told nothing since.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, ReadBuf};

use super::connect::Stream;
use super::wakeup::News;

/// A socket.
pub(crate) struct Wire {
    io: TokioIo<Stream>,
    news: News,
    blocked: bool,
}

impl Wire {
    /// A socket that is polled with nothing but the waker which `news` are of.
    pub(crate) fn new(stream: Stream, news: News) -> Self {
        Self { io: TokioIo::new(stream), news, blocked: false }
    }

    pub(crate) fn stream(&self) -> &Stream {
        self.io.inner()
    }

    /// Reads past hyper.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.unless_blocked(|stream| Pin::new(stream.inner_mut()).poll_read(cx, room))
    }

    fn unless_blocked(
        &mut self,
        read: impl FnOnce(&mut TokioIo<Stream>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        // What comes during the attempt is news after it.
        if !self.news.take() && self.blocked {
            return Poll::Pending;
        }
        let read = read(&mut self.io);
        self.blocked = read.is_pending();
        read
    }
}

impl Read for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().unless_blocked(|io| Pin::new(io).poll_read(cx, room))
    }
}

impl Write for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let io = Pin::new(&mut self.get_mut().io);
        match parts {
            // The kernel takes a single part more easily.
            [whole] => io.poll_write(cx, whole),
            parts => io.poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
