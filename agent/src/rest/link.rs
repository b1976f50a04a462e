// SPDX-License-Identifier: GPL-2.0-only
//! One HTTP connection, driven by whoever uses it.
//!
//! Before: `rest::connect` makes the TCP connection, or `rest::pool` kept this one. After:
//! `rest::answer` reads the answer. There is no task behind a connection: hyper's side of it runs
//! inside the request's own future, so a request that is dropped leaves nothing behind that could
//! touch a window, and waking one task serves both.
//!
//! # Invariants
//! A link is `busy` from the moment a request is handed to it until the answer was read to its end.
//! Dropping a busy link resets the connection, so that what its socket still holds of a write is
//! not sent any more.

use std::error::Error as _;
use std::future::{poll_fn, Future};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::connect::Stream;
use crate::window::Payload;

/// Bounds the head of an answer, and how much of a body is read at a time.
const BUFFER_BYTES: usize = 512 << 10;
/// Servers and the proxies before them may send many.
const MAX_HEADERS: usize = 256;

/// A connection.
pub(crate) struct Link {
    sender: http1::SendRequest<Payload>,
    /// `None` once the connection has ended.
    driver: Option<http1::Connection<TokioIo<Stream>, Payload>>,
    /// The connection has ended because of what came over it, not because it broke.
    nonsense: bool,
    busy: bool,
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

impl Link {
    /// A link over a fresh connection.
    pub(crate) async fn new(stream: impl Into<Stream>) -> hyper::Result<Self> {
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(BUFFER_BYTES)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(stream.into()))
            .await?;
        Ok(Self { sender, driver: Some(driver), nonsense: false, busy: false })
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn send(
        &mut self,
        request: Request<Payload>,
    ) -> hyper::Result<Response<Incoming>> {
        self.busy = true;
        let answer = self.sender.send_request(request);
        tokio::pin!(answer);
        poll_fn(|cx| {
            // An error of the driver reaches the answer as well.
            let _ = self.poll_driver(cx);
            answer.as_mut().poll(cx)
        })
        .await
    }

    /// The next piece of an answer's body; `None` at its end.
    pub(crate) async fn piece(&mut self, body: &mut Incoming) -> Option<hyper::Result<Bytes>> {
        poll_fn(|cx| loop {
            let piece = match self.poll_piece(body, cx) {
                // The first poll told the driver that a piece is wanted.
                Poll::Pending => self.poll_piece(body, cx),
                ready => ready,
            };
            match piece {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => return Poll::Ready(Some(Ok(data))),
                    Err(_trailers) => {}
                },
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        })
        .await
    }

    /// To be called after the body's end.
    pub(crate) async fn finish(&mut self) -> Rest {
        let ended = poll_fn(|cx| Poll::Ready(self.poll_driver(cx))).await;
        let rest = match ended {
            // The answer was whole: what else can be wrong is what follows it.
            _ if self.nonsense => Rest::Junk,
            Poll::Pending if self.sender.is_ready() => Rest::Reusable,
            _ => Rest::Closed,
        };
        self.busy = false;
        rest
    }

    /// Whether an idle connection can still be used, as far as this side has heard.
    pub(crate) async fn is_alive(&mut self) -> bool {
        let ended = poll_fn(|cx| Poll::Ready(self.poll_driver(cx))).await;
        ended.is_pending() && self.sender.is_ready()
    }

    fn poll_piece(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<hyper::body::Frame<Bytes>>>> {
        let _ = self.poll_driver(cx);
        Pin::new(body).poll_frame(cx)
    }

    fn poll_driver(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(driver) = &mut self.driver else { return Poll::Ready(()) };
        let Poll::Ready(end) = Pin::new(driver).poll(cx) else { return Poll::Pending };
        self.driver = None;
        self.nonsense = end.is_err_and(|error| error.source().is_none());
        Poll::Ready(())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if !self.busy {
            return;
        }
        if let Some(driver) = self.driver.take() {
            // Fails only on a socket that is not connected any more.
            let _ = driver.into_parts().io.into_inner().set_zero_linger();
        }
    }
}
