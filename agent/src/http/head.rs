// SPDX-License-Identifier: GPL-2.0-only
//! The head of an answer: what of it matters, and where its body ends (RFC 9112).
//!
//! Before: [`super::link`] has received bytes. After: it reads the body that the head announces.
//! `httparse` takes the lines apart; what it refuses is no HTTP, and neither is a head that
//! leaves open where its body ends. Nothing is copied but numbers.

use std::mem::MaybeUninit;
use std::time::{Duration, SystemTime};

use httparse::{Error, Header, ParserConfig, Response, Status};

use super::body::Body;

/// Headers for which there is room on the stack.
const USUAL_HEADERS: usize = 100;
/// Servers and the proxies before them may send many.
const MOST_HEADERS: usize = 256;

/// Of the longest numbers that are read: lengths and places are below 2^63.
const MAX_DIGITS: usize = 19;

/// What an answer says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// From 100 to 999.
    pub(crate) status: u16,
    pub(crate) body: Body,
    /// Whether the server keeps the connection.
    pub(crate) persists: bool,
    pub(crate) range: Range,
    /// How long the server wants to be left alone.
    pub(crate) retry_after: Option<Duration>,
}

impl Head {
    pub(crate) const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }
}

/// The range that the body is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Range {
    /// Nothing is said.
    Absent,
    /// From the first byte to the last one, both included.
    Bytes(u64, u64),
    /// Of nothing that can be asked for.
    Other,
}

/// The parts of a head from which the rest follows.
#[derive(Debug, Default)]
struct Fields {
    length: Option<u64>,
    /// The body's codings: whether `chunked` is the only one.
    chunked: Option<bool>,
    close: bool,
    keep_alive: bool,
    range: Option<Range>,
    retry_after: Option<Duration>,
}

/// Reads a head at the start of `bytes`: it, and how long it is; `None` if it is not whole.
///
/// # Errors
/// Why it is no head of an answer, for people.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, String> {
    // httparse would pass over empty lines, without end.
    if matches!(bytes, [b'\r' | b'\n', ..]) {
        return Err("an empty line before the answer".to_owned());
    }
    let mut room = [const { MaybeUninit::uninit() }; USUAL_HEADERS];
    match parse_with(bytes, &mut room) {
        Err(Error::TooManyHeaders) => {
            let mut room = Vec::with_capacity(MOST_HEADERS);
            parse_with(bytes, room.spare_capacity_mut())
        }
        parsed => parsed,
    }
    .map_err(|error| error.to_string())?
    .transpose()
    .map_err(str::to_owned)
}

type Parsed = Option<Result<(Head, usize), &'static str>>;

fn parse_with<'b>(bytes: &'b [u8], room: &mut [MaybeUninit<Header<'b>>]) -> Result<Parsed, Error> {
    let mut answer = Response::new(&mut []);
    let parsed = ParserConfig::default();
    match parsed.parse_response_with_uninit_headers(&mut answer, bytes, room)? {
        Status::Partial => Ok(None),
        Status::Complete(len) => Ok(Some(read(&answer).map(|head| (head, len)))),
    }
}

fn read(answer: &Response<'_, '_>) -> Result<Head, &'static str> {
    let status = answer.code.filter(|code| *code >= 100).ok_or("invalid status")?;
    let is_old = answer.version == Some(0);
    let mut fields = Fields::default();
    for Header { name, value } in answer.headers.iter() {
        fields.note(name, value)?;
    }
    let body = fields.body(status, is_old)?;
    let stays = if is_old { fields.keep_alive } else { true };
    Ok(Head {
        status,
        body,
        persists: stays && !fields.close && !body.ends_with_connection(),
        range: fields.range.unwrap_or(Range::Absent),
        retry_after: fields.retry_after,
    })
}

impl Fields {
    fn note(&mut self, name: &str, value: &[u8]) -> Result<(), &'static str> {
        if is(name, b"content-length") {
            let length = number(value).ok_or("invalid content-length")?;
            if self.length.replace(length).is_some_and(|other| other != length) {
                return Err("two values of content-length");
            }
        } else if is(name, b"content-range") {
            let range = if self.range.is_some() { Range::Other } else { range(value) };
            self.range = Some(range);
        } else if is(name, b"transfer-encoding") {
            let first = self.chunked.is_none();
            self.chunked = Some(first && value.trim_ascii().eq_ignore_ascii_case(b"chunked"));
        } else if is(name, b"connection") {
            self.close |= has_option(value, b"close");
            self.keep_alive |= has_option(value, b"keep-alive");
        } else if is(name, b"retry-after") {
            self.retry_after = pause(value, SystemTime::now());
        }
        Ok(())
    }

    /// Where the body ends (RFC 9112, 6.3).
    fn body(&mut self, status: u16, is_old: bool) -> Result<Body, &'static str> {
        if matches!(status, 100..=199 | 204 | 304) {
            // A body that may not be there may be there all the same.
            let said = self.chunked.is_some() || self.length.is_some_and(|length| length > 0);
            self.close |= said && status != 304;
            return Ok(Body::of_length(0));
        }
        match (self.chunked, self.length) {
            (Some(_), Some(_)) => Err("content-length beside transfer-encoding"),
            (Some(_), None) if is_old => Err("transfer-encoding in HTTP/1.0"),
            (Some(false), None) => Err("another transfer-encoding than chunked"),
            (Some(true), None) => Ok(Body::chunked()),
            (None, Some(length)) => Ok(Body::of_length(length)),
            (None, None) => Ok(Body::until_close()),
        }
    }
}

/// Whether a header has this name, which is of small letters and hyphens, whatever the case.
///
/// No other character that a name may have becomes one of these by the bit that letters differ in.
fn is<const LEN: usize>(name: &str, known: &[u8; LEN]) -> bool {
    let Ok(name) = <&[u8; LEN]>::try_from(name.as_bytes()) else { return false };
    let differ = |differ, (one, other): (&u8, &u8)| differ | ((*one | 0x20) ^ *other);
    name.iter().zip(known).fold(0, differ) == 0
}

/// Whether a list of options has this one (RFC 9110, 7.6.1).
fn has_option(value: &[u8], known: &[u8]) -> bool {
    let mut options = value.split(|byte| *byte == b',');
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(known))
}

/// Digits and nothing else, up to a number that needs 19 of them.
fn number(text: &[u8]) -> Option<u64> {
    leading_number(text).filter(|(_, rest)| rest.is_empty()).map(|(number, _)| number)
}

/// The number at the start of a text, and what follows it.
fn leading_number(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0u64;
    let mut rest = text;
    while let Some((digit @ b'0'..=b'9', after)) = rest.split_first() {
        number = number.wrapping_mul(10).wrapping_add((digit & 0xf).into());
        rest = after;
    }
    let digits = text.len().wrapping_sub(rest.len());
    // No number of so many digits is too large.
    matches!(digits, 1..=MAX_DIGITS).then_some((number, rest))
}

/// `Content-Range`: `bytes FIRST-LAST/SIZE` (RFC 9110, 14.4).
fn range(value: &[u8]) -> Range {
    let parts = || {
        let (unit, range) = value.split_at_checked(5)?;
        if !unit.eq_ignore_ascii_case(b"bytes") || !range.first()?.is_ascii_whitespace() {
            return None;
        }
        let (first, rest) = leading_number(range.trim_ascii_start())?;
        let rest = rest.trim_ascii_start().strip_prefix(b"-")?;
        let (last, rest) = leading_number(rest.trim_ascii_start())?;
        rest.trim_ascii_start().starts_with(b"/").then_some(Range::Bytes(first, last))
    };
    parts().unwrap_or(Range::Other)
}

/// `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).
fn pause(value: &[u8], now: SystemTime) -> Option<Duration> {
    let value = value.trim_ascii();
    if let Some(secs) = number(value) {
        return Some(Duration::from_secs(secs));
    }
    let date = httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests;
