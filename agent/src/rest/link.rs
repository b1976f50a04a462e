// SPDX-License-Identifier: GPL-2.0-only
//! One HTTP connection, driven by whoever uses it.
//!
//! Before: `rest::connect` makes the TCP connection, or `rest::pool` kept this one. After:
//! `rest::answer` reads the answer. There is no task behind a connection: hyper's side of it runs
//! inside the request's own future, so a request that is dropped leaves nothing behind that could
//! touch a window, and waking one task serves both. Hyper's side is polled when there is something
//! for it to do: a request to send, or a piece that has not come yet.
//!
//! A large body of known length goes from the socket to the window without passing through a
//! buffer of hyper's ([`Link::receive`]): hyper gives the socket back in the middle of the answer,
//! and gets it again at the answer's end, as it would a fresh one.
//!
//! # Invariants
//! A link is `busy` from the moment a request is handed to it until the answer was read to its end.
//! Dropping a busy link resets the connection, so that what its socket still holds of a write is
//! not sent any more.

use std::error::Error as _;
use std::future::{poll_fn, Future};
use std::pin::{pin, Pin};
use std::task::{ready, Context, Poll, Waker};
use std::{fmt, io};

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::HeaderMap;
use hyper::{Request, Response};

use super::connect::Stream;
use super::wakeup::Wakeup;
use super::wire::Wire;
use super::{answer, Failure};
use crate::errors::ErrorKind;
use crate::window::{Payload, Window};

/// Bounds the head of an answer, and how much of a body is read at a time.
const BUFFER_BYTES: usize = 512 << 10;
/// Headers of an answer that a roomy link takes: servers and the proxies before them may send many.
/// Others take a hundred, for which hyper makes no room on the heap.
const MANY_HEADERS: usize = 256;
/// A map of headers with more room than this is not kept for the next request.
const KEPT_HEADERS: usize = 64;

/// A connection.
pub(crate) struct Link {
    http: Http,
    /// The socket, while hyper does not have it.
    bare: Option<Wire>,
    wakeup: Wakeup,
    busy: bool,
    roomy: bool,
    /// Empty, with room for those of a request.
    headers: HeaderMap,
}

/// Hyper's two halves.
struct Http {
    sender: http1::SendRequest<Payload>,
    /// `None` once the connection has ended.
    driver: Option<http1::Connection<Wire, Payload>>,
    /// The connection has ended because of what came over it, not because it broke.
    nonsense: bool,
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
    /// A link over a fresh connection; `roomy`: for answers with more headers than most.
    pub(crate) async fn new(stream: impl Into<Stream>, roomy: bool) -> hyper::Result<Self> {
        let (wakeup, headers) = (Wakeup::new(), HeaderMap::new());
        let http = Http::new(Wire::new(stream.into(), wakeup.news()), roomy).await?;
        Ok(Self { http, bare: None, wakeup, busy: false, roomy, headers })
    }

    /// Whether it takes all the headers that any link takes.
    pub(crate) const fn is_roomy(&self) -> bool {
        self.roomy
    }

    /// Wakes whoever uses the link.
    pub(crate) const fn waker(&self) -> &Waker {
        self.wakeup.waker()
    }

    /// An empty map for the headers of the next request.
    pub(crate) fn take_headers(&mut self) -> HeaderMap {
        std::mem::take(&mut self.headers)
    }

    /// Takes headers that are not needed any more.
    pub(crate) fn give_headers(&mut self, mut headers: HeaderMap) {
        if headers.capacity() <= KEPT_HEADERS {
            headers.clear();
            self.headers = headers;
        }
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// Those of hyper; one that is `canceled` says that nothing was sent.
    pub(crate) async fn send(
        &mut self,
        request: Request<Payload>,
    ) -> hyper::Result<Response<Incoming>> {
        let Self { http, wakeup, busy, .. } = self;
        *busy = true;
        let mut answer = pin!(wakeup.before_poll(|| http.sender.send_request(request)));
        poll_fn(|cx| {
            wakeup.poll(cx, |cx| {
                // An error of the driver reaches the answer as well.
                let _ = http.poll_driver(cx);
                answer.as_mut().poll(cx)
            })
        })
        .await
    }

    /// The next piece of an answer's body; `None` at its end.
    pub(crate) async fn piece(&mut self, body: &mut Incoming) -> Option<hyper::Result<Bytes>> {
        let Self { http, wakeup, .. } = self;
        poll_fn(|cx| wakeup.poll(cx, |cx| http.poll_piece(body, cx))).await
    }

    /// Receives a body into the first `len` bytes of a window. `len` is what its head announced,
    /// and no piece of it was asked for before. What is left of the connection; nothing unless the
    /// head `persists`.
    ///
    /// # Errors
    /// The body has not come whole.
    pub(crate) async fn receive(
        &mut self,
        mut body: Incoming,
        window: &Window,
        len: usize,
        persists: bool,
    ) -> Result<Rest, Failure> {
        let mut at = self.take_decoded(&mut body, window).await?;
        if at < len {
            let missing = |at, why: &dyn fmt::Display| {
                let text = format!("broke the connection off after {at} of {len} bytes: {why}");
                Failure::new(ErrorKind::Broken, text)
            };
            let Some(driver) = self.http.driver.take() else {
                return Err(missing(at, &"it is gone"));
            };
            let http1::Parts { io, read_buf, .. } = driver.into_parts();
            self.bare = Some(io);
            let (buffered, junk) = read_buf.split_at(read_buf.len().min(len.saturating_sub(at)));
            at = take(window, at, buffered)?;
            while at < len {
                let count = self.read_bare(window, at, len.saturating_sub(at)).await;
                match count.map_err(|error| missing(at, &error))? {
                    0 => return Err(missing(at, &"end of stream")),
                    count => at = at.saturating_add(count),
                }
            }
            if !junk.is_empty() {
                return Ok(Rest::Junk);
            }
            let Some(wire) = self.bare.take().filter(|_| persists) else {
                return Ok(Rest::Closed);
            };
            let http = Http::new(wire, self.roomy).await;
            self.http = http.map_err(|error| missing(at, &error))?;
        }
        Ok(self.finish().await)
    }

    /// What hyper has read of a body and not kept to itself: a piece at most, for it waits until
    /// that is taken.
    async fn take_decoded(
        &mut self,
        body: &mut Incoming,
        window: &Window,
    ) -> Result<usize, Failure> {
        let Self { wakeup, .. } = self;
        let mut at = 0;
        poll_fn(|cx| {
            wakeup.poll(cx, |cx| {
                while let Poll::Ready(Some(frame)) = Pin::new(&mut *body).poll_frame(cx) {
                    let frame = frame.map_err(|error| answer::broken(&error))?;
                    if let Ok(piece) = frame.into_data() {
                        at = take(window, at, &piece)?;
                    }
                }
                Poll::Ready(Ok(at))
            })
        })
        .await
    }

    /// Reads from the socket that hyper does not have; how much.
    async fn read_bare(&mut self, window: &Window, at: usize, len: usize) -> io::Result<usize> {
        let Self { bare, wakeup, .. } = self;
        let Some(wire) = bare else { return Ok(0) };
        poll_fn(|cx| {
            wakeup.poll(cx, |cx| window.poll_fill(at, len, |room| wire.poll_fill(cx, room)))
        })
        .await
    }

    /// To be called after the body's end.
    pub(crate) async fn finish(&mut self) -> Rest {
        let Self { http, wakeup, busy, .. } = self;
        if !http.sender.is_ready() {
            // The driver has looked no further than to the body's end.
            poll_fn(|cx| {
                let _ = wakeup.poll(cx, |cx| http.poll_driver(cx));
                Poll::Ready(())
            })
            .await;
        }
        *busy = false;
        match &http.driver {
            // The answer was whole: what else can be wrong is what follows it.
            None if http.nonsense => Rest::Junk,
            Some(_) if http.sender.is_ready() => Rest::Reusable,
            _ => Rest::Closed,
        }
    }
}

impl Http {
    async fn new(wire: Wire, roomy: bool) -> hyper::Result<Self> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(BUFFER_BYTES);
        if roomy {
            builder.max_headers(MANY_HEADERS);
        }
        let (sender, driver) = builder.handshake(wire).await?;
        Ok(Self { sender, driver: Some(driver), nonsense: false })
    }

    fn poll_piece(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Bytes>>> {
        let mut body = Pin::new(body);
        loop {
            let frame = match body.as_mut().poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    // Now it knows that a piece is wanted.
                    let _ = self.poll_driver(cx);
                    ready!(body.as_mut().poll_frame(cx))
                }
            };
            match frame.map(|frame| frame.map(|frame| frame.into_data())) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(Ok(data))) => return Poll::Ready(Some(Ok(data))),
                Some(Ok(Err(_trailers))) => {}
            }
        }
    }

    fn poll_driver(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(driver) = &mut self.driver else { return Poll::Ready(()) };
        let Poll::Ready(end) = Pin::new(driver).poll(cx) else { return Poll::Pending };
        self.driver = None;
        // Its mere end is none, also where hyper has not seen a whole answer yet.
        let nonsense =
            |error: hyper::Error| error.source().is_none() && !error.is_incomplete_message();
        self.nonsense = end.is_err_and(nonsense);
        Poll::Ready(())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if !self.busy {
            return;
        }
        let driver = self.http.driver.take();
        let wire = driver.map(|driver| driver.into_parts().io);
        if let Some(wire) = wire.or(self.bare.take()) {
            // Fails only on a socket that is not connected any more.
            let _ = wire.stream().set_zero_linger();
        }
    }
}

/// Copies bytes of a body to their place; where the next ones go.
fn take(window: &Window, at: usize, bytes: &[u8]) -> Result<usize, Failure> {
    let end = at.saturating_add(bytes.len());
    let too_many = || Failure::new(ErrorKind::Garbage, format!("answered with {end} bytes"));
    window.copy_in(at, bytes).then_some(end).ok_or_else(too_many)
}
