// SPDX-License-Identifier: GPL-2.0-only
//! What an answer means: the table of statuses, and bodies that must be what was asked for.
//!
//! Before: `rest::link` has the head of the answer. After: [`super::Client`] has a [`Reply`] or a
//! [`Failure`]. A body is read to its end or its connection is closed; no body takes more memory
//! than its kind may.

use std::time::{Duration, SystemTime};

use hyper::body::{Body, Incoming};
use hyper::header::{HeaderMap, CONNECTION, CONTENT_RANGE, RETRY_AFTER, TRANSFER_ENCODING};
use hyper::http::response::Parts;
use hyper::{Response, StatusCode, Version};

use super::link::{Link, Rest};
use super::listing;
use super::operation::{Io, Operation};
use super::Failure;
use crate::errors::ErrorKind;

/// A listing of some million names.
const MAX_LISTING_BYTES: usize = 64 << 20;
/// Servers tell more than the size.
const MAX_METADATA_BYTES: usize = 1 << 20;
/// A body that nobody wants is read so far to keep the connection.
const MAX_UNWANTED_BYTES: usize = 64 << 10;

/// From this size on a body is received past hyper's buffers: to begin anew on the connection costs
/// as much as to copy a tenth of that.
const LARGE_BYTES: usize = 128 << 10;

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
    response: Response<Incoming>,
) -> (Result<Reply, Failure>, Rest) {
    let (head, mut body) = response.into_parts();
    if let Err(failure) = judge(operation, head.status, &head.headers) {
        let rest = skip(link, &mut body).await;
        return (Err(failure), rest);
    }
    let received = match operation {
        Operation::Read(io) => fill(link, io, &head, body).await.map(|rest| (Reply::Done, rest)),
        Operation::List => {
            let json = collect(link, &mut body, MAX_LISTING_BYTES).await;
            let names = json.and_then(|json| listing::names(json).map_err(nonsense));
            whole(link, names.map(Reply::Names)).await
        }
        Operation::Size(_) => {
            let json = collect(link, &mut body, MAX_METADATA_BYTES).await;
            let size = json.and_then(|json| listing::size(json).map_err(nonsense));
            whole(link, size.map(Reply::Size)).await
        }
        _ => {
            let rest = skip(link, &mut body).await;
            link.give_headers(head.headers);
            return (Ok(Reply::Done), rest);
        }
    };
    link.give_headers(head.headers);
    match received {
        Ok((_, Rest::Junk)) => {
            let text = format!("answered {} with more bytes than it promised", head.status);
            (Err(Failure::new(ErrorKind::Garbage, text)), Rest::Junk)
        }
        Ok((reply, rest)) => (Ok(reply), rest),
        // Its body may go on.
        Err(failure) => (Err(failure), Rest::Closed),
    }
}

/// A reply whose body was read to its end, with what is left of the connection.
async fn whole(link: &mut Link, reply: Result<Reply, Failure>) -> Result<(Reply, Rest), Failure> {
    Ok((reply?, link.finish().await))
}

/// The table: status → kind. Success is any 2xx, but for reads 200 and 206 alone.
fn judge(
    operation: &Operation<'_>,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<(), Failure> {
    let kind = match status.as_u16() {
        200 | 206 => return Ok(()),
        201..=299 if !matches!(operation, Operation::Read(_)) => return Ok(()),
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
    let retry_after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let mut failure = Failure::new(kind, format!("answered {status}"));
    failure.retry_after = retry_after.and_then(|text| pause(text, SystemTime::now()));
    failure.status = Some(status.as_u16());
    Err(failure)
}

/// `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).
fn pause(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(secs) = text.trim().parse() {
        return Some(Duration::from_secs(secs));
    }
    let date = httpdate::parse_http_date(text.trim()).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// Takes a body into the window: exactly the bytes asked for, or an error.
async fn fill(
    link: &mut Link,
    io: &Io<'_>,
    head: &Parts,
    mut body: Incoming,
) -> Result<Rest, Failure> {
    let (status, headers) = (head.status, &head.headers);
    let partial = status == StatusCode::PARTIAL_CONTENT;
    if partial && !is_range(headers, io) {
        return Err(nonsense("another range than was asked for".to_owned()));
    }
    let wrong = |len: u64| {
        let text = format!("answered {} with {len} bytes instead of {}", status.as_u16(), io.len);
        // A server that names the right range did not ignore it: its answer was spoilt.
        Err(match partial && headers.contains_key(CONTENT_RANGE) {
            true => Failure::new(ErrorKind::Garbage, text),
            false => {
                Failure::new(ErrorKind::Protocol, format!("{text}: the server ignored the range"))
            }
        })
    };
    let announced = body.size_hint().exact();
    if let Some(len) = announced.filter(|len| *len != io.len as u64) {
        return wrong(len);
    }
    if announced.is_some() && io.len >= LARGE_BYTES && head.version == Version::HTTP_11 {
        return link.receive(body, io.window, io.len, !closes(headers)).await;
    }
    let mut at = 0usize;
    while let Some(piece) = link.piece(&mut body).await {
        let piece = piece.map_err(|error| broken(&error))?;
        let end = at.saturating_add(piece.len());
        if end > io.len || !io.window.copy_in(at, &piece) {
            return wrong(end as u64);
        }
        at = end;
    }
    if at == io.len {
        Ok(link.finish().await)
    } else if announced.is_none() && !headers.contains_key(TRANSFER_ENCODING) {
        // Nothing but the connection's end says where such a body ends.
        let text = format!("closed the connection after {at} of {} bytes", io.len);
        Err(Failure::new(ErrorKind::Broken, text))
    } else {
        wrong(at as u64)
    }
}

/// Whether the server closes the connection after this answer (RFC 9112, 9.6).
fn closes(headers: &HeaderMap) -> bool {
    headers.get_all(CONNECTION).iter().any(|value| {
        let mut options = value.as_bytes().split(|byte| *byte == b',');
        options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
    })
}

/// Whether a 206 is for the range that was asked for; one that does not say so is believed, its
/// length is checked.
fn is_range(headers: &HeaderMap, io: &Io<'_>) -> bool {
    let Some(value) = headers.get(CONTENT_RANGE) else { return true };
    let range = value.as_bytes().strip_prefix(b"bytes ");
    let rest = range.and_then(|range| range.strip_prefix(io.range_text().as_bytes()));
    if rest.is_some_and(|rest| rest.starts_with(b"/")) {
        return true;
    }
    // There are other ways to write it.
    let range = || {
        let text = value.to_str().ok()?.trim();
        let (unit, range) = text.split_once(' ')?;
        let (first, last) = range.trim().split_once('/')?.0.split_once('-')?;
        let same = first.parse() == Ok(io.offset) && last.parse() == Ok(io.last());
        Some(unit.eq_ignore_ascii_case("bytes") && same)
    };
    range().unwrap_or(false)
}

async fn collect(link: &mut Link, body: &mut Incoming, most: usize) -> Result<Vec<u8>, Failure> {
    let too_long = || Failure::new(ErrorKind::Protocol, format!("answered more than {most} bytes"));
    if body.size_hint().lower() > most as u64 {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    while let Some(piece) = link.piece(body).await {
        let piece = piece.map_err(|error| broken(&error))?;
        if bytes.len().saturating_add(piece.len()) > most {
            return Err(too_long());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// Reads a body that nobody wants, if it is short.
async fn skip(link: &mut Link, body: &mut Incoming) -> Rest {
    let mut left = MAX_UNWANTED_BYTES;
    if body.size_hint().lower() > left as u64 {
        return Rest::Closed;
    }
    while let Some(piece) = link.piece(body).await {
        let Some(less) = piece.ok().and_then(|piece| left.checked_sub(piece.len())) else {
            return Rest::Closed;
        };
        left = less;
    }
    link.finish().await
}

fn nonsense(what: String) -> Failure {
    Failure::new(ErrorKind::Protocol, format!("answered nonsense: {what}"))
}

/// What an error of hyper means after the request was handed to the connection.
pub(crate) fn broken(error: &hyper::Error) -> Failure {
    if error.is_parse() {
        return Failure::new(ErrorKind::Garbage, format!("did not answer in HTTP: {error}"));
    }
    let source = std::error::Error::source(error);
    let text = match source {
        Some(source) => format!("broke the connection off: {error}: {source}"),
        None => format!("broke the connection off: {error}"),
    };
    Failure::new(ErrorKind::Broken, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::Volume;
    use crate::window::Window;
    use hyper::header::HeaderValue;
    use nix::libc;

    fn on(status: u16, operation: &Operation<'_>) -> Result<(), ErrorKind> {
        let status = StatusCode::from_u16(status).expect("a status");
        judge(operation, status, &HeaderMap::new()).map_err(|failure| failure.kind)
    }

    #[test]
    fn the_table_of_statuses() {
        let (volume, window) = (Volume::new("v"), Window::from_vec(vec![0; 8]));
        let io = Io { volume: &volume, offset: 0, window: &window, len: 8 };
        let (read, write) = (Operation::Read(io), Operation::Write(io));
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
    fn retry_after_in_seconds_or_as_a_date() {
        let after = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            let judged = judge(&Operation::List, StatusCode::SERVICE_UNAVAILABLE, &headers);
            judged.expect_err("503").retry_after
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::ZERO));
        assert!(after("Thu, 31 Dec 2099 23:59:59 GMT") > Some(Duration::from_secs(1 << 30)));
        for nonsense in ["-1", "", "soon", "1.5", "Fri, 31 Dec 1999"] {
            assert_eq!(after(nonsense), None, "{nonsense}");
        }
        let then = SystemTime::UNIX_EPOCH;
        let wait = pause("Thu, 01 Jan 1970 00:00:09 GMT", then);
        assert_eq!(wait, Some(Duration::from_secs(9)));
    }

    #[test]
    fn connections_that_end_with_their_answer() {
        let closes = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONNECTION, HeaderValue::from_static(value));
            }
            closes(&headers)
        };
        assert!(!closes(&[]) && !closes(&["keep-alive", "closed, x-close"]));
        assert!(closes(&["close"]) && closes(&["keep-alive", "x , CLOSE,y"]));
    }

    #[test]
    fn ranges_that_are_not_the_one_asked_for() {
        let (volume, window) = (Volume::new("v"), Window::from_vec(vec![0; 8]));
        let io = Io { volume: &volume, offset: 16, window: &window, len: 8 };
        let says = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, HeaderValue::from_static(value));
            is_range(&headers, &io)
        };
        assert!(is_range(&HeaderMap::new(), &io));
        for good in ["bytes 16-23/100", "bytes 16-23/*", "Bytes  16-23/24"] {
            assert!(says(good), "{good}");
        }
        for bad in
            ["bytes 0-7/100", "bytes 16-22/100", "bytes */100", "16-23/100", "", "bytes 16-23"]
        {
            assert!(!says(bad), "{bad}");
        }
    }
}
