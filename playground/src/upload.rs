// SPDX-License-Identifier: GPL-2.0-only
//! The body of a request, taken piece by piece as it arrives, with a bound on the wait for each.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::EXPECT;
use hyper::{HeaderMap, StatusCode};
use tokio::time::timeout;

use crate::answer::Refusal;

/// What is read, and thrown away, of the body of a refused request. A client that only listens
/// once it has sent all would otherwise meet a reset connection instead of the answer.
const DRAINED_BYTES: u64 = 8 * 1024 * 1024;

/// A request's body.
#[derive(Debug)]
pub(crate) struct Upload {
    body: Incoming,
    piece_timeout: Duration,
    /// The client waits for `100 Continue`, which goes out when the body is first asked for.
    withheld: bool,
}

impl Upload {
    pub(crate) fn new(body: Incoming, headers: &HeaderMap, piece_timeout: Duration) -> Self {
        let withheld = headers
            .get(EXPECT)
            .is_some_and(|expect| expect.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        Self { body, piece_timeout, withheld }
    }

    /// The length that the request's head gives; a chunked body has none.
    pub(crate) fn length(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    /// The next piece, never empty, or nothing at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        self.withheld = false;
        loop {
            let frame = timeout(self.piece_timeout, self.body.frame()).await.map_err(|_| {
                Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body stopped arriving")
            })?;
            let Some(frame) = frame else {
                return Ok(None);
            };
            let frame = frame
                .map_err(|error| Refusal::bad_request(format!("the body broke off: {error}")))?;
            // Trailers carry nothing that the protocol knows.
            if let Some(piece) = frame.into_data().ok().filter(|piece| !piece.is_empty()) {
                return Ok(Some(piece));
            }
        }
    }

    /// Succeeds if there is no body.
    pub(crate) async fn expect_none(&mut self) -> Result<(), Refusal> {
        let none = match self.length() {
            Some(length) => length == 0,
            None => self.next().await?.is_none(),
        };
        if none {
            Ok(())
        } else {
            Err(Refusal::bad_request("this request has no body"))
        }
    }

    /// Throws the rest away as far as it is not too much; beyond that the connection is closed.
    pub(crate) async fn drain(&mut self) {
        if self.withheld || self.length().is_some_and(|length| length > DRAINED_BYTES) {
            return;
        }
        let mut drained = 0;
        while drained < DRAINED_BYTES {
            match self.next().await {
                Ok(Some(piece)) => drained += piece.len() as u64,
                Ok(None) | Err(_) => return,
            }
        }
    }
}
