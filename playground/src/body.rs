// SPDX-License-Identifier: GPL-2.0-only
//! The body of an answer: nothing, a few bytes, or a volume's bytes read as the client takes them.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::task::{spawn_blocking, JoinHandle};

use crate::range::Span;
use crate::volume::Volume;

/// A piece of a streamed volume. Two are in memory for each answer: one being sent, one being read.
const PIECE_BYTES: u64 = 256 * 1024;

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

/// Reads a span of a volume one piece ahead of the socket.
#[derive(Debug)]
struct Reader {
    volume: Arc<Volume>,
    offset: u64,
    left: u64,
    pending: Option<JoinHandle<io::Result<Bytes>>>,
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
        let reader = Reader { volume, offset, left: length, pending: None };
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
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.content {
            Content::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Volume(reader) => {
                reader.poll_piece(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
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
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let (volume, offset, left) = (&self.volume, self.offset, self.left);
        let pending = self.pending.get_or_insert_with(|| read_ahead(volume, offset, left));
        let outcome = ready!(Pin::new(pending).poll(context));
        self.pending = None;
        let piece = match outcome.map_err(io::Error::other).and_then(|read| read) {
            Ok(piece) => piece,
            Err(error) => {
                tracing::warn!(%error, offset, "a volume could not be read to its end");
                return Poll::Ready(Some(Err(error)));
            }
        };
        self.offset += piece.len() as u64;
        self.left -= piece.len() as u64;
        if self.left > 0 {
            self.pending = Some(read_ahead(&self.volume, self.offset, self.left));
        }
        Poll::Ready(Some(Ok(piece)))
    }
}

fn read_ahead(volume: &Arc<Volume>, offset: u64, left: u64) -> JoinHandle<io::Result<Bytes>> {
    let volume = Arc::clone(volume);
    let span = Span { first: offset, length: left.min(PIECE_BYTES) };
    spawn_blocking(move || read(&volume, span))
}

/// Reads a span that is known to be small.
pub(crate) fn read(volume: &Volume, span: Span) -> io::Result<Bytes> {
    let length = usize::try_from(span.length).map_err(io::Error::other)?;
    let mut piece = vec![0; length];
    volume.read_at(&mut piece, span.first)?;
    Ok(Bytes::from(piece))
}
