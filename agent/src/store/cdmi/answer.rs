// SPDX-License-Identifier: GPL-2.0-only
//! What an answer means: the table of statuses, and bodies that must be what was asked for.
//!
//! Before: [`Link`] has the head of the answer. After: [`crate::paths`] have a [`Reply`] or a
//! [`Failure`]. A body is read to its end or its connection is closed; no body takes more memory
//! than its kind may.

use std::fmt;

use hyper::StatusCode;

use super::listing;
use super::operation::Operation;
use crate::base::errors::{ErrorKind, Failure};
use crate::base::window::Io;
use crate::http::head::{Head, Range};
use crate::http::link::{Link, Rest, Spoilt};
use crate::http::sink::Sink;

/// A listing of some million names.
const MAX_LISTING_BYTES: usize = 64 << 20;
/// Servers tell more than the size.
const MAX_METADATA_BYTES: usize = 1 << 20;
/// A body that nobody wants is read so far to keep the connection.
const MAX_UNWANTED_BYTES: usize = 64 << 10;

/// What an operation brought.
#[derive(Debug)]
pub(crate) enum Reply {
    /// It is done; data are in the window.
    Done,
    /// A volume's size in bytes.
    Size(u64),
    /// Names of volumes.
    Names(Vec<String>),
}

/// Reads an answer to its end. Says whether its connection can be used again.
pub(crate) async fn receive(
    link: &mut Link,
    operation: &Operation<'_>,
    head: &Head,
) -> (Result<Reply, Failure>, Rest) {
    let verdict = judge(operation, head);
    let received = match operation {
        Operation::Read(_, io) if verdict.is_ok() => {
            fill(link, io, head).await.map(|()| Reply::Done)
        }
        Operation::List if verdict.is_ok() => {
            let json = collect(link, head, MAX_LISTING_BYTES).await;
            json.and_then(|json| listing::names(json).map_err(nonsense)).map(Reply::Names)
        }
        Operation::Size(_) if verdict.is_ok() => {
            let json = collect(link, head, MAX_METADATA_BYTES).await;
            json.and_then(|json| listing::size(json).map_err(nonsense)).map(Reply::Size)
        }
        _ => {
            let rest = skip(link, head).await;
            return (verdict.map(|()| Reply::Done), rest);
        }
    };
    // After a failure, its body may go on.
    let Ok(reply) = received else { return (received, Rest::Closed) };
    match link.finish(head.persists) {
        Rest::Junk => {
            let text = format!("answered {} with more bytes than it promised", head.status);
            (Err(Failure::new(ErrorKind::Garbage, text)), Rest::Junk)
        }
        rest => (Ok(reply), rest),
    }
}

/// The table: status → kind. Success is any 2xx, but for reads 200 and 206 alone.
fn judge(operation: &Operation<'_>, head: &Head) -> Result<(), Failure> {
    let kind = match head.status {
        200 | 206 => return Ok(()),
        201..=299 if !matches!(operation, Operation::Read(..)) => return Ok(()),
        201..=399 => ErrorKind::Protocol,
        401 | 403 => ErrorKind::Denied,
        404 | 410 => ErrorKind::NotFound,
        408 | 429 => ErrorKind::ServerFailed,
        412 if matches!(operation, Operation::Create(_)) => ErrorKind::Exists,
        413 | 507 => ErrorKind::Full,
        416 => ErrorKind::OutOfRange,
        400..=499 => ErrorKind::Rejected,
        500..=599 => ErrorKind::ServerFailed,
        _ => ErrorKind::Protocol,
    };
    let mut failure = Failure::new(kind, format!("answered {}", Named(head.status)));
    failure.retry_after = head.retry_after;
    failure.status = Some(head.status);
    Err(failure)
}

/// A status with its name, if it has one.
struct Named(u16);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let status = StatusCode::from_u16(self.0).ok();
        status
            .and_then(|status| status.canonical_reason())
            .map_or(Ok(()), |name| write!(f, " {name}"))
    }
}

/// Takes a body into the window: exactly the bytes asked for, or an error.
async fn fill(link: &mut Link, io: &Io<'_>, head: &Head) -> Result<(), Failure> {
    // A 206 that does not say which range it is is believed; its length is checked.
    let named = head.status == 206 && head.range != Range::Absent;
    if named && head.range != Range::Bytes(io.offset, io.last()) {
        return Err(nonsense("another range than was asked for".to_owned()));
    }
    let wrong = |len: u64| {
        let text = format!("answered {} with {len} bytes instead of {}", head.status, io.len);
        // A server that names the right range did not ignore it: its answer was spoilt.
        Err(match named {
            true => Failure::new(ErrorKind::Garbage, text),
            false => {
                Failure::new(ErrorKind::Protocol, format!("{text}: the server ignored the range"))
            }
        })
    };
    if let Some(len) = head.body.announced().filter(|len| *len != io.len as u64) {
        return wrong(len);
    }
    let (mut body, mut sink) = (head.body, Sink::Window(io, 0));
    match link.receive(&mut body, &mut sink).await {
        Ok(()) => {}
        Err(Spoilt::TooLong(len)) => return wrong(len),
        Err(Spoilt::Failed(failure)) => return Err(failure),
    }
    match sink {
        Sink::Window(_, at) if at < io.len && body.ends_with_connection() => {
            // Nothing but the connection's end says where such a body ends.
            let text = format!("closed the connection after {at} of {} bytes", io.len);
            Err(Failure::new(ErrorKind::Broken, text))
        }
        Sink::Window(_, at) if at < io.len => wrong(at as u64),
        _ => Ok(()),
    }
}

async fn collect(link: &mut Link, head: &Head, most: usize) -> Result<Vec<u8>, Failure> {
    let too_long = || Failure::new(ErrorKind::Protocol, format!("answered more than {most} bytes"));
    if head.body.announced() > Some(most as u64) {
        return Err(too_long());
    }
    let (mut body, mut sink) = (head.body, Sink::Memory(Vec::new(), most));
    let received = link.receive(&mut body, &mut sink).await;
    received.map_err(|spoilt| match spoilt {
        Spoilt::TooLong(_) => too_long(),
        Spoilt::Failed(failure) => failure,
    })?;
    match sink {
        Sink::Memory(bytes, _) => Ok(bytes),
        _ => Ok(Vec::new()),
    }
}

/// Reads a body that nobody wants, if it is short.
async fn skip(link: &mut Link, head: &Head) -> Rest {
    let (mut body, mut sink) = (head.body, Sink::Nowhere(MAX_UNWANTED_BYTES));
    if body.announced() > Some(MAX_UNWANTED_BYTES as u64) {
        return Rest::Closed;
    }
    match link.receive(&mut body, &mut sink).await {
        Ok(()) => link.finish(head.persists),
        Err(_) => Rest::Closed,
    }
}

fn nonsense(what: String) -> Failure {
    Failure::new(ErrorKind::Protocol, format!("answered nonsense: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::window::Window;
    use crate::http::body::Body;
    use crate::store::subject::Subject;
    use nix::libc;

    fn on(status: u16, operation: &Operation<'_>) -> Result<(), ErrorKind> {
        let (body, range) = (Body::of_length(0), Range::Absent);
        let head = Head { status, body, persists: true, range, retry_after: None };
        judge(operation, &head).map_err(|failure| failure.kind)
    }

    #[test]
    fn the_table_of_statuses() {
        let (volume, window) = (Subject::new("v"), Window::from_vec(vec![0; 8]));
        let io = Io { offset: 0, window: &window, len: 8 };
        let (read, write) = (Operation::Read(&volume, io), Operation::Write(&volume, io));
        let create = Operation::Create(&volume);
        let rows = [
            (302, ErrorKind::Protocol, libc::EPROTO, false),
            (400, ErrorKind::Rejected, libc::EIO, false),
            (401, ErrorKind::Denied, libc::EACCES, false),
            (403, ErrorKind::Denied, libc::EACCES, false),
            (404, ErrorKind::NotFound, libc::ENOENT, false),
            (408, ErrorKind::ServerFailed, libc::EIO, true),
            (413, ErrorKind::Full, libc::ENOSPC, false),
            (416, ErrorKind::OutOfRange, libc::EIO, false),
            (429, ErrorKind::ServerFailed, libc::EIO, true),
            (500, ErrorKind::ServerFailed, libc::EIO, true),
            (502, ErrorKind::ServerFailed, libc::EIO, true),
            (503, ErrorKind::ServerFailed, libc::EIO, true),
            (504, ErrorKind::ServerFailed, libc::EIO, true),
            (507, ErrorKind::Full, libc::ENOSPC, false),
            (600, ErrorKind::Protocol, libc::EPROTO, false),
        ];
        for (status, kind, errno, retry) in rows {
            for operation in [&read, &write, &create, &Operation::List] {
                assert_eq!(on(status, operation), Err(kind), "{status} {operation}");
            }
            assert_eq!((kind.rule().errno, kind.rule().retry), (errno, retry), "{status}");
        }
        assert_eq!(on(412, &create), Err(ErrorKind::Exists));
        assert_eq!(on(412, &write), Err(ErrorKind::Rejected));
        for status in [200, 206] {
            assert_eq!(on(status, &read), Ok(()));
        }
        for status in [200, 201, 202, 204] {
            assert_eq!(on(status, &write), Ok(()));
        }
        assert_eq!(on(204, &read), Err(ErrorKind::Protocol));
    }

    #[test]
    fn statuses_have_their_names() {
        assert_eq!(Named(507).to_string(), "507 Insufficient Storage");
        assert_eq!(Named(599).to_string(), "599");
    }
}
