// SPDX-License-Identifier: GPL-2.0-only
//! The body of a request, taken piece by piece as it arrives, with a bound on the wait for each.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::EXPECT;
use hyper::{HeaderMap, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::answer::Refusal;

/// What is read, and thrown away, of the body of a refused request. A client that only listens
/// once it has sent all would otherwise meet a reset connection instead of the answer.
const DRAINED_BYTES: u64 = 8 * 1024 * 1024;

/// A request's body.
#[derive(Debug)]
pub(crate) struct Upload {
    source: Source,
    piece_timeout: Duration,
    /// The client waits for `100 Continue`, which goes out when the body is first asked for.
    withheld: bool,
}

#[derive(Debug)]
enum Source {
    Arriving(Incoming),
    /// All of it, in its place among the bodies that are kept.
    Kept {
        bytes: Bytes,
        _place: Option<OwnedSemaphorePermit>,
    },
}

impl Upload {
    pub(crate) fn new(body: Incoming, headers: &HeaderMap, piece_timeout: Duration) -> Self {
        let withheld = headers
            .get(EXPECT)
            .is_some_and(|expect| expect.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        Self { source: Source::Arriving(body), piece_timeout, withheld }
    }

    /// No body.
    pub(crate) fn none() -> Self {
        let source = Source::Kept { bytes: Bytes::new(), _place: None };
        Self { source, piece_timeout: Duration::ZERO, withheld: false }
    }

    /// The length that the request's head gives; a chunked body has none.
    pub(crate) fn length(&self) -> Option<u64> {
        match &self.source {
            Source::Arriving(body) => body.size_hint().exact(),
            Source::Kept { bytes, .. } => Some(bytes.len() as u64),
        }
    }

    /// Whether the client waits to be asked for the body.
    pub(crate) fn is_withheld(&self) -> bool {
        self.withheld
    }

    /// Takes all of the body into memory, so that it is there when the connection is not. False,
    /// and nothing done, if its length is not known or `room` has no place for so many KiB.
    pub(crate) async fn keep(&mut self, room: &Arc<Semaphore>) -> Result<bool, Refusal> {
        if matches!(self.source, Source::Kept { .. }) {
            return Ok(true);
        }
        let Some(length) = self.length().and_then(|length| u32::try_from(length).ok()) else {
            return Ok(false);
        };
        let Ok(place) = Arc::clone(room).try_acquire_many_owned(length.div_ceil(1024)) else {
            return Ok(false);
        };
        let mut bytes = BytesMut::with_capacity(length as usize);
        while let Some(piece) = self.next().await? {
            bytes.extend_from_slice(&piece);
        }
        self.source = Source::Kept { bytes: bytes.freeze(), _place: Some(place) };
        Ok(true)
    }

    /// Takes half of the body, or what comes first of one whose length is not known, and throws it
    /// away.
    pub(crate) async fn discard_half(&mut self) {
        let half = self.length().map_or(1, |length| length / 2);
        let mut discarded = 0;
        while discarded < half {
            match self.next().await {
                Ok(Some(piece)) => discarded += piece.len() as u64,
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// The next piece, never empty, or nothing at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        self.withheld = false;
        let body = match &mut self.source {
            Source::Arriving(body) => body,
            Source::Kept { bytes, .. } => {
                return Ok(Some(std::mem::take(bytes)).filter(|bytes| !bytes.is_empty()));
            }
        };
        loop {
            let frame = timeout(self.piece_timeout, body.frame()).await.map_err(|_| {
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
