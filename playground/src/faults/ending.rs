// SPDX-License-Identifier: GPL-2.0-only
//! The end of a connection as HTTP does not provide for it, on the bare socket.
//!
//! `act` decides on it; `connection` plays it once hyper has let go of the socket, so that no
//! byte goes out but those meant here.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Body as _;
use hyper::header::CONTENT_LENGTH;
use hyper::StatusCode;
use nix::libc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::answer::Answer;
use crate::body::Body;

/// Bytes after the end of an answer.
const SURPLUS: [u8; 512] = [b'+'; 512];
/// No HTTP at all.
const NOISE: &[u8] = b"\x15\x03\x01\x00\x02\x02\x28\r\n\r\n";
/// HTTP as far as its first line.
const BAD_HEADERS: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length 7\r\n: \x01\r\n\r\ngarbage";

/// What is sent before the end.
#[derive(Debug)]
enum Last {
    Nothing,
    Bytes(&'static [u8]),
    Answer { answer: Box<Answer>, extent: Extent },
}

/// How much of an answer is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// The head and half of the body; half of the head when there is no body.
    Half,
    Whole,
    /// More than its head announces.
    Surplus,
}

/// How a connection ends.
#[derive(Debug)]
pub(crate) struct Ending {
    last: Last,
    reset: bool,
}

impl Ending {
    /// The connection is closed.
    pub(crate) fn close() -> Self {
        Self { last: Last::Nothing, reset: false }
    }

    /// The connection is reset.
    pub(crate) fn reset() -> Self {
        Self { last: Last::Nothing, reset: true }
    }

    /// Something is sent that is no HTTP, then the connection is closed; `chance` decides what.
    pub(crate) fn garbage(chance: u64) -> Self {
        let bytes = if chance % 2 == 0 { NOISE } else { BAD_HEADERS };
        Self { last: Last::Bytes(bytes), reset: false }
    }

    /// So much of the answer is sent, then the connection is closed, or reset.
    pub(crate) fn answer(answer: Answer, extent: Extent, reset: bool) -> Self {
        Self { last: Last::Answer { answer: Box::new(answer), extent }, reset }
    }

    /// Ends the connection, after `patience` at the latest.
    pub(crate) async fn play(self, mut stream: TcpStream, patience: Duration) -> io::Result<()> {
        let send = async {
            match self.last {
                Last::Nothing => {}
                Last::Bytes(bytes) => stream.write_all(bytes).await?,
                Last::Answer { answer, extent } => send(&mut stream, *answer, extent).await?,
            }
            if self.reset {
                // A reset takes back what is not out yet.
                while unsent(&stream)? > 0 {
                    sleep(Duration::from_millis(1)).await;
                }
            }
            Ok(())
        };
        let sent = timeout(patience, send).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()));
        if self.reset {
            stream.set_zero_linger()?;
        }
        sent
    }
}

async fn send(stream: &mut TcpStream, mut answer: Answer, extent: Extent) -> io::Result<()> {
    // What belongs together goes out together: a client that looks only once has to see it.
    let mut out = head_of(&answer);
    let length = answer.body().size_hint().exact().unwrap_or(0);
    if extent == Extent::Half && length == 0 {
        out.truncate(out.len() / 2);
    }
    let mut left = if extent == Extent::Half { length / 2 } else { length };
    while left > 0 {
        let Some(frame) = answer.body_mut().frame().await else { break };
        let Ok(piece) = frame?.into_data() else { continue };
        let piece = piece.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(&piece);
        left -= piece.len() as u64;
        out.extend_from_slice(piece);
        if left > 0 {
            stream.write_all(&out).await?;
            out.clear();
        }
    }
    if extent == Extent::Surplus {
        out.extend_from_slice(&SURPLUS);
    }
    stream.write_all(&out).await
}

/// The head of an answer as hyper would send it.
fn head_of(answer: &Answer) -> Vec<u8> {
    let status = answer.status();
    let reason = status.canonical_reason().unwrap_or("");
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes();
    let mut line = |name: &str, value: &[u8]| {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            head.extend_from_slice(part);
        }
    };
    for (name, value) in answer.headers() {
        line(name.as_str(), value.as_bytes());
    }
    if status != StatusCode::NO_CONTENT && !answer.headers().contains_key(CONTENT_LENGTH) {
        let length = answer.body().size_hint().exact().unwrap_or(0);
        line(CONTENT_LENGTH.as_str(), length.to_string().as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Makes an answer that to a HEAD: it keeps what it says of its body, but not the body.
pub(crate) fn without_body(mut answer: Answer) -> Answer {
    let length = answer.body().size_hint().exact().unwrap_or(0);
    if length > 0 {
        answer.headers_mut().insert(CONTENT_LENGTH, length.into());
        *answer.body_mut() = Body::empty();
    }
    answer
}

mod ioctl {
    nix::ioctl_read_bad!(tiocoutq, nix::libc::TIOCOUTQ, nix::libc::c_int);
}

/// The number of bytes that the peer has not acknowledged.
fn unsent(stream: &TcpStream) -> io::Result<libc::c_int> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open as long as `stream` is borrowed, and the kernel writes one
    // int, to a place that lives as long as the call.
    unsafe { ioctl::tiocoutq(stream.as_raw_fd(), &mut bytes) }?;
    Ok(bytes)
}
