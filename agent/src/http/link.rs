// SPDX-License-Identifier: GPL-2.0-only
//! One HTTP/1.1 connection, driven by whoever uses it.
//!
//! Before: [`super::connect`] makes the connection, or [`super::pool`] kept this one. After:
//! the store knows what the answer means. No task and no channel stands behind a
//! connection: it moves while the request's own future is polled, so a request that is dropped
//! leaves nothing behind that could touch a window.
//!
//! A request's head and body go out by one system call, the body from where it lies. An answer is
//! received into a buffer that belongs to the connection; what its head says is still to come of
//! the data goes straight into the window.
//!
//! # Invariants
//! - A link is `busy` from the moment a request is handed to it until that was sent whole and its
//!   answer was read to the end. Dropping a busy link resets the connection, so that what its
//!   socket still holds of a write is not sent any more.
//! - Between requests the buffer is empty: a byte too many costs the connection.

use std::future::poll_fn;
use std::task::{ready, Context, Poll};
use std::{fmt, io};

use tokio::io::ReadBuf;

use super::body::{Body, Step};
use super::buffer::{Buffer, USUAL_BYTES};
use super::head::{self, Head};
use super::sink::Sink;
use super::stream::Stream;
use crate::base::errors::{ErrorKind, Failure};
use crate::base::window::Io;

/// Bounds the head of an answer.
const MAX_HEAD_BYTES: usize = 512 << 10;
/// What may end a head, less one.
const END_BYTES: usize = 2;
/// Answers that are none yet (1xx) and may come before the one that counts.
const MAX_INFORMATIONAL: u32 = 16;

/// A connection.
#[derive(Debug)]
pub(crate) struct Link {
    stream: Stream,
    /// The head of a request.
    request: Vec<u8>,
    buffer: Buffer,
    /// Of the buffer: how much was looked at for the head of an answer, in vain.
    seen: usize,
    /// Answers to this request that were none yet.
    informational: u32,
    /// It has had requests.
    used: bool,
    busy: bool,
    /// The request was not sent whole: nothing else can be sent.
    cut: bool,
}

/// Why a request on a connection brought no answer.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The connection had ended before anything was sent.
    Unsent(Failure),
    /// It ended before any byte of an answer.
    Unanswered(Failure),
    /// Anything else.
    Failed(Failure),
}

/// Why a body did not come whole.
#[derive(Debug)]
pub(crate) enum Spoilt {
    /// It has more bytes than there is room for: these, at least.
    TooLong(u64),
    Failed(Failure),
}

/// What an answer that was read to its end leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// A connection for the next request.
    Reusable,
    /// Nothing: the server closes the connection.
    Closed,
    /// More bytes than the answer had.
    Junk,
}

/// What of a request is still to be sent.
struct Unsent<'a> {
    /// Of its head and its body together.
    at: usize,
    body: Option<&'a Io<'a>>,
}

impl Link {
    /// A link over a fresh connection.
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            request: Vec::new(),
            buffer: Buffer::new(),
            seen: 0,
            informational: 0,
            used: false,
            busy: false,
            cut: false,
        }
    }

    /// Where the head of the next request belongs.
    pub(crate) fn request_mut(&mut self) -> &mut Vec<u8> {
        &mut self.request
    }

    /// Sends the request whose head is in [`Self::request_mut`], with the data of a write, and
    /// waits for the head of its answer.
    pub(crate) async fn ask(&mut self, body: Option<&Io<'_>>) -> Result<Head, Lost> {
        if self.used && !self.stream.is_quiet() {
            return Err(Lost::Unsent(broken("it had ended before the request")));
        }
        (self.used, self.busy) = (true, true);
        (self.seen, self.informational) = (0, 0);
        let mut unsent = Unsent { at: 0, body };
        poll_fn(|cx| match ready!(self.poll_send(cx, &mut unsent)) {
            None => self.poll_head(cx, unsent.at),
            Some(early) => Poll::Ready(early),
        })
        .await
    }

    /// Sends what is still to be sent. What has come before the end of that.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        unsent: &mut Unsent<'_>,
    ) -> Poll<Option<Result<Head, Lost>>> {
        loop {
            let sent = unsent.at;
            let refusal = match self.poll_write(cx, unsent) {
                Poll::Ready(Ok(true)) => return Poll::Ready(None),
                Poll::Ready(Ok(false)) => continue,
                // The server takes no more of it. It may have said why.
                Poll::Ready(Err(error)) => Some(error),
                // It takes more later, or answers before.
                Poll::Pending => None,
            };
            let mut head = ready!(self.poll_head(cx, sent));
            self.cut = true;
            if head.as_ref().is_ok_and(Head::is_success) {
                // It cannot have done what it was not told.
                head = Err(Lost::Failed(no_http("a success before the request's end")));
            }
            if let (Some(error), Err(Lost::Unsent(why) | Lost::Unanswered(why))) =
                (refusal, &mut head)
            {
                *why = broken(&error);
            }
            return Poll::Ready(Some(head));
        }
    }

    /// Sends once, if anything is left; whether that was the end.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        unsent: &mut Unsent<'_>,
    ) -> Poll<io::Result<bool>> {
        let Self { stream, request, .. } = self;
        let len = unsent.body.map_or(0, |io| io.len);
        let whole = request.len().saturating_add(len);
        if unsent.at >= whole {
            return Poll::Ready(Ok(true));
        }
        let head = request.get(unsent.at..).unwrap_or_default();
        let count = match unsent.body {
            Some(io) => {
                let at = unsent.at.saturating_sub(request.len());
                let send = |data: &[u8]| stream.poll_write(cx, head, data);
                let sent = io.window.with(at, len.saturating_sub(at), send);
                ready!(sent.ok_or(io::ErrorKind::InvalidInput)?)?
            }
            None => ready!(stream.poll_write(cx, head, &[]))?,
        };
        unsent.at = unsent.at.saturating_add(count);
        match count {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            _ => Poll::Ready(Ok(unsent.at >= whole)),
        }
    }

    /// Waits for the head of the answer to a request of which so many bytes were `sent`.
    fn poll_head(&mut self, cx: &mut Context<'_>, sent: usize) -> Poll<Result<Head, Lost>> {
        loop {
            match self.take_head() {
                Ok(None) => {}
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Err(why) => return Poll::Ready(Err(Lost::Failed(why))),
            }
            let why = match ready!(self.poll_receive(cx, MAX_HEAD_BYTES)) {
                Ok(0) => "end of stream before an answer".to_owned(),
                Ok(_) => continue,
                Err(error) => error.to_string(),
            };
            return Poll::Ready(Err(self.lost(sent, why)));
        }
    }

    /// The head of an answer from the buffer, if it is there.
    fn take_head(&mut self) -> Result<Option<Head>, Failure> {
        loop {
            let bytes = self.buffer.bytes();
            // To look at all of a head again for each byte of it would take for ever.
            let news = bytes.get(self.seen.saturating_sub(END_BYTES)..).unwrap_or_default();
            let len = bytes.len();
            let parsed = match self.seen {
                0 if len > 0 => head::parse(bytes).map_err(no_http)?,
                seen if len > seen && has_end(news) => head::parse(bytes).map_err(no_http)?,
                _ => None,
            };
            let Some((head, len)) = parsed else {
                self.seen = len;
                let too_long = len >= MAX_HEAD_BYTES;
                return if too_long { Err(no_http("a head without an end")) } else { Ok(None) };
            };
            self.buffer.consume(len);
            self.seen = 0;
            if head.status >= 200 {
                return Ok(Some(head));
            }
            self.informational = self.informational.saturating_add(1);
            // Nobody has asked for another protocol.
            if head.status == 101 || self.informational > MAX_INFORMATIONAL {
                return Err(no_http(format_args!("{} without end", head.status)));
            }
        }
    }

    /// The connection is over before the answer to a request of which so many bytes were `sent`.
    fn lost(&self, sent: usize, why: String) -> Lost {
        let bytes = self.buffer.bytes();
        if bytes.is_empty() && self.informational == 0 {
            let lost = if sent == 0 { Lost::Unsent } else { Lost::Unanswered };
            return lost(broken(why));
        }
        // It may have been no head at all.
        Lost::Failed(head::parse(bytes).map_or_else(no_http, |_| broken(why)))
    }

    /// Whether all of a body has come already.
    pub(crate) fn has_come(&self, body: &Body) -> bool {
        body.announced().is_some_and(|len| len <= self.buffer.bytes().len() as u64)
    }

    /// Receives a body, or what is left of one.
    pub(crate) async fn receive(
        &mut self,
        body: &mut Body,
        sink: &mut Sink<'_>,
    ) -> Result<(), Spoilt> {
        poll_fn(|cx| self.poll_body(cx, body, sink)).await
    }

    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Body,
        sink: &mut Sink<'_>,
    ) -> Poll<Result<(), Spoilt>> {
        let failed = |failure| Poll::Ready(Err(Spoilt::Failed(failure)));
        loop {
            let bytes = self.buffer.bytes();
            match body.step(bytes) {
                Err(why) => return failed(no_http(why)),
                Ok(Step::Over) => return Poll::Ready(Ok(())),
                Ok(Step::Framing(count)) => self.buffer.consume(count),
                Ok(Step::Data(count)) => {
                    sink.put(bytes.get(..count).unwrap_or_default()).map_err(Spoilt::TooLong)?;
                    self.buffer.consume(count);
                }
                Ok(Step::More) => match ready!(self.poll_more(cx, body, sink)) {
                    Ok(0) if body.ends_with_connection() => return Poll::Ready(Ok(())),
                    Ok(0) => return failed(broken(format_args!("{sink}: end of stream"))),
                    Ok(_) => {}
                    Err(error) => return failed(broken(format_args!("{sink}: {error}"))),
                },
            }
        }
    }

    /// Receives more of a body; how much.
    fn poll_more(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Body,
        sink: &mut Sink<'_>,
    ) -> Poll<io::Result<usize>> {
        // What is less than the buffer's room passes through it: that some of the room is left
        // tells the runtime, without another look at the socket, that there is no more.
        let data = usize::try_from(body.certain_data()).unwrap_or(usize::MAX);
        if let Some(room) = sink.room(data).filter(|room| room.len() >= USUAL_BYTES) {
            if self.buffer.is_empty() {
                let stream = &mut self.stream;
                let count = ready!(room.poll_fill(|room| stream.poll_read(cx, room)))?;
                body.took(count);
                return Poll::Ready(Ok(count));
            }
        }
        self.poll_receive(cx, USUAL_BYTES)
    }

    /// Receives into the buffer, which grows no further than to `most` bytes; how much.
    fn poll_receive(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(self.buffer.room(most));
        ready!(self.stream.poll_read(cx, &mut room))?;
        let count = room.filled().len();
        self.buffer.filled(count);
        Poll::Ready(Ok(count))
    }

    /// To be called after the end of an answer whose head `persists`.
    pub(crate) fn finish(&mut self, persists: bool) -> Rest {
        self.busy = self.cut;
        if !self.buffer.is_empty() {
            return Rest::Junk;
        }
        self.buffer.shrink();
        if persists && !self.cut {
            Rest::Reusable
        } else {
            Rest::Closed
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.busy {
            self.stream.reset_when_dropped();
        }
    }
}

/// Whether the end of a head may be among these bytes.
fn has_end(bytes: &[u8]) -> bool {
    let ends = |from: &[u8]| matches!(from, [b'\n', b'\n', ..] | [b'\n', b'\r', b'\n', ..]);
    (0..bytes.len()).any(|at| bytes.get(at..).is_some_and(ends))
}

fn broken(why: impl fmt::Display) -> Failure {
    Failure::new(ErrorKind::Broken, format!("broke the connection off: {why}"))
}

fn no_http(why: impl fmt::Display) -> Failure {
    Failure::new(ErrorKind::Garbage, format!("did not answer in HTTP: {why}"))
}

#[cfg(test)]
mod tests;
