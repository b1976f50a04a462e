// SPDX-License-Identifier: GPL-2.0-only
//! A client of the agent's socket: one HTTP/1.1 GET per connection, bounded in time and size.
//!
//! Blocking, and without an HTTP library: the other end is one known server, and `srbctl` is to
//! start at once.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{self, sockopt, AddressFamily, SockFlag, SockType, UnixAddr};
use nix::sys::time::{TimeVal, TimeValLike};
use serde::de::DeserializeOwned;
use srb_status::{
    ErrorInfo, Errors, Failure, InFlight, Refused, Status, Volumes, ERRORS_PATH, INFLIGHT_PATH,
    STATUS_PATH, VOLUMES_PATH,
};

/// For what the agent answers from memory.
const MEMORY_TIMEOUT: Duration = Duration::from_secs(3);
/// For what it asks a server: longer than all tries at the default settings.
const SERVER_TIMEOUT: Duration = Duration::from_secs(150);
/// A status line and headers.
const MAX_HEAD_BYTES: u64 = 16 << 10;
/// Room for a listing of more than 200,000 volumes with the longest names.
const MAX_BODY_BYTES: u64 = 64 << 20;

/// Where an agent may listen.
#[derive(Debug)]
pub(crate) struct Agent {
    socket: PathBuf,
}

/// Why the agent gave no answer of the kind asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    /// Nobody listens there.
    #[error("srb-agent is not running (nothing answers at {})", .0.display())]
    NotRunning(PathBuf),
    /// Somebody may, but not for this user.
    #[error("the agent's socket {} is for root alone", .0.display())]
    NotPermitted(PathBuf),
    /// Too slow, or it broke off.
    #[error("srb-agent does not answer: {0}")]
    Io(io::Error),
    /// No HTTP, or JSON of another kind.
    #[error("srb-agent gave an answer that makes no sense: {0}")]
    Nonsense(String),
    /// It could not do what it was asked for.
    #[error("{}", .0.message)]
    Refused(ErrorInfo),
}

impl Agent {
    /// An agent at this socket.
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Everything at a glance.
    pub(crate) fn status(&self) -> Result<Status, AgentError> {
        self.ask(STATUS_PATH, MEMORY_TIMEOUT)
    }

    /// The requests that it has, the oldest first.
    pub(crate) fn in_flight(&self) -> Result<InFlight, AgentError> {
        self.ask(INFLIGHT_PATH, MEMORY_TIMEOUT)
    }

    /// Every volume of the repository; asks a server.
    pub(crate) fn volumes(&self) -> Result<Volumes, AgentError> {
        self.ask(VOLUMES_PATH, SERVER_TIMEOUT)
    }

    /// The newest failure about `volume` (`None`: of a listing) since `since_unix_ms`; one with the
    /// same errno before any other.
    pub(crate) fn failure(
        &self,
        volume: Option<&str>,
        errno: i32,
        since_unix_ms: u64,
    ) -> Option<Failure> {
        let Errors { mut errors } = self.ask(ERRORS_PATH, MEMORY_TIMEOUT).ok()?;
        errors.retain(|failure| {
            failure.unix_ms >= since_unix_ms
                && match volume {
                    Some(_) => failure.volume.as_deref() == volume,
                    None => failure.what == "list",
                }
        });
        errors.into_iter().max_by_key(|failure| (failure.errno == errno, failure.unix_ms))
    }

    fn ask<T: DeserializeOwned>(&self, path: &str, timeout: Duration) -> Result<T, AgentError> {
        let deadline = Instant::now() + timeout;
        let mut stream = self.connect(timeout)?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(AgentError::Io)?;
        let (code, body) = response(Timed { stream, deadline })?;
        let nonsense = |error: serde_json::Error| AgentError::Nonsense(error.to_string());
        if (200..300).contains(&code) {
            return serde_json::from_slice(&body).map_err(nonsense);
        }
        match serde_json::from_slice::<Refused>(&body) {
            Ok(refused) => Err(AgentError::Refused(refused.error)),
            Err(_) => Err(AgentError::Nonsense(format!("status {code} for {path}"))),
        }
    }

    /// A connect(2) to a socket whose queue is full waits as long as the send timeout says.
    fn connect(&self, timeout: Duration) -> Result<UnixStream, AgentError> {
        let refused = |errno| match errno {
            Errno::ENOENT | Errno::ECONNREFUSED | Errno::ENOTDIR => {
                AgentError::NotRunning(self.socket.clone())
            }
            Errno::EACCES | Errno::EPERM => AgentError::NotPermitted(self.socket.clone()),
            other => AgentError::Io(other.into()),
        };
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)
            .map_err(|errno| AgentError::Io(errno.into()))?;
        let limit = TimeVal::seconds(i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX));
        socket::setsockopt(&fd, sockopt::SendTimeout, &limit)
            .map_err(|errno| AgentError::Io(errno.into()))?;
        let address = UnixAddr::new(&self.socket).map_err(refused)?;
        socket::connect(std::os::fd::AsRawFd::as_raw_fd(&fd), &address).map_err(refused)?;
        Ok(UnixStream::from(fd))
    }
}

/// Reads that end at a deadline, however slowly the bytes come.
struct Timed {
    stream: UnixStream,
    deadline: Instant,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
            _ => error,
        })
    }
}

/// How a body ends (RFC 9112, section 6.3).
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

fn response(stream: impl Read) -> Result<(u16, Vec<u8>), AgentError> {
    let mut reader = BufReader::new(stream);
    let (code, framing) = head(&mut (&mut reader).take(MAX_HEAD_BYTES))?;
    let mut body = Vec::new();
    match framing {
        Framing::Length(bytes) => append(&mut reader, bytes, &mut body)?,
        Framing::Chunked => loop {
            let size = line(&mut (&mut reader).take(MAX_HEAD_BYTES))?;
            let digits = size.split(';').next().unwrap_or_default().trim();
            let bytes = u64::from_str_radix(digits, 16)
                .map_err(|_| AgentError::Nonsense(format!("chunk of size {size:?}")))?;
            if bytes == 0 {
                break;
            }
            append(&mut reader, bytes, &mut body)?;
            line(&mut (&mut reader).take(MAX_HEAD_BYTES))?;
        },
        Framing::UntilClose => {
            reader.take(MAX_BODY_BYTES + 1).read_to_end(&mut body).map_err(AgentError::Io)?;
            check_room(body.len() as u64)?;
        }
    }
    Ok((code, body))
}

fn head(reader: &mut impl BufRead) -> Result<(u16, Framing), AgentError> {
    let status = line(reader)?;
    let mut words = status.split(' ');
    let code = match (words.next(), words.next().and_then(|code| code.parse().ok())) {
        (Some(version), Some(code)) if version.starts_with("HTTP/1.") => code,
        _ => return Err(AgentError::Nonsense(format!("status line {status:?}"))),
    };
    let mut framing = Framing::UntilClose;
    loop {
        let header = line(reader)?;
        if header.is_empty() {
            return Ok((code, framing));
        }
        let (name, value) = header.split_once(':').unwrap_or((&header, ""));
        if name.eq_ignore_ascii_case("transfer-encoding") {
            framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case("content-length") {
            let bytes = value.trim().parse();
            framing = Framing::Length(bytes.map_err(|_| AgentError::Nonsense(header.clone()))?);
        }
    }
}

fn line(reader: &mut impl BufRead) -> Result<String, AgentError> {
    let mut line = String::new();
    reader.read_line(&mut line).map_err(AgentError::Io)?;
    match line.strip_suffix('\n') {
        Some(text) => Ok(text.strip_suffix('\r').unwrap_or(text).to_owned()),
        None => Err(AgentError::Nonsense("it ends early".to_owned())),
    }
}

fn append(reader: &mut impl Read, bytes: u64, body: &mut Vec<u8>) -> Result<(), AgentError> {
    check_room((body.len() as u64).saturating_add(bytes))?;
    let read = reader.take(bytes).read_to_end(body).map_err(AgentError::Io)?;
    if read as u64 == bytes {
        Ok(())
    } else {
        Err(AgentError::Nonsense("it ends early".to_owned()))
    }
}

fn check_room(bytes: u64) -> Result<(), AgentError> {
    if bytes > MAX_BODY_BYTES {
        return Err(AgentError::Nonsense(format!("more than {MAX_BODY_BYTES} bytes")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Result<(u16, String), String> {
        response(text.as_bytes())
            .map(|(code, body)| (code, String::from_utf8(body).expect("text")))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn each_framing() {
        let expected = Ok((200, "{}!".to_owned()));
        assert_eq!(body("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}!xxx"), expected);
        assert_eq!(body("HTTP/1.1 200 OK\r\nA: b\r\n\r\n{}!"), expected);
        assert_eq!(
            body(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                 2;x\r\n{}\r\n1\r\n!\r\n0\r\n\r\n"
            ),
            expected
        );
        assert_eq!(body("HTTP/1.0 404 Not Found\n\n"), Ok((404, String::new())));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 abc\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        ] {
            assert!(body(text).is_err(), "{text:?}");
        }
        let endless = "x".repeat(1 << 20);
        assert!(body(&endless).is_err());
    }
}
