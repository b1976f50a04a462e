// SPDX-License-Identifier: GPL-2.0-only
//! The body of an answer: nothing, a few bytes, or a volume's bytes read as the client takes them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::oneshot;

use crate::piece::{self, INLINE_BYTES};
use crate::range::Span;
use crate::volume::Volume;

/// An answer's body.
#[derive(Debug)]
pub(crate) struct Body {
    content: Content,
    /// Its drop tells the connection that this answer has been handed to the socket.
    on_end: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
enum Content {
    Bytes(Bytes),
    Volume(Reader),
}

/// Reads a span of a volume, a piece when the socket has taken the last one.
#[derive(Debug)]
struct Reader {
    volume: Arc<Volume>,
    offset: u64,
    left: u64,
}

impl Body {
    pub(crate) fn empty() -> Self {
        Self::full(Bytes::new())
    }

    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        Self { content: Content::Bytes(bytes.into()), on_end: None }
    }

    /// The bytes of `volume` from `offset`, `length` of them. A volume that is cut meanwhile ends
    /// the connection: the client sees that the body is short.
    pub(crate) fn volume(volume: Arc<Volume>, offset: u64, length: u64) -> Self {
        let reader = Reader { volume, offset, left: length };
        Self { content: Content::Volume(reader), on_end: None }
    }

    /// `signal` is dropped when the body has been handed over, or was given up.
    pub(crate) fn on_end(&mut self, signal: oneshot::Sender<()>) {
        self.on_end = Some(signal);
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.content {
            Content::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Volume(reader) => {
                Poll::Ready(reader.next_piece().map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match &self.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Volume(reader) => reader.left,
        })
    }
}

impl Reader {
    fn next_piece(&mut self) -> Option<io::Result<Bytes>> {
        if self.left == 0 {
            return None;
        }
        let span = Span { first: self.offset, length: self.left.min(INLINE_BYTES) };
        let piece = piece::read(&self.volume, span);
        match &piece {
            Ok(piece) => {
                self.offset += piece.len() as u64;
                self.left -= piece.len() as u64;
            }
            Err(error) => {
                let offset = self.offset;
                tracing::warn!(%error, offset, "a volume could not be read to its end");
            }
        }
        Some(piece)
    }
}
