// SPDX-License-Identifier: GPL-2.0-only
//! The body of an answer: which of the bytes that come are data, and where it ends.
//!
//! Before: [`super::head`] says what kind of body it is. After: [`super::link`] takes the data to
//! where they belong. Knows no connection: it is given what has come, and says what that is.
//!
//! Source: RFC 9112, 6 and 7. Chunk extensions and trailers are read and dropped.

use httparse::{Status, EMPTY_HEADER};

/// Bounds the line before a chunk, and all trailers together.
pub(crate) const MAX_FRAMING_BYTES: usize = 4 << 10;
/// What the lines before all chunks of a body may hold beside sizes: chunks of a byte each, with
/// long lines, would keep a worker busy for as long as the server likes.
const MAX_EXTENSION_BYTES: usize = 16 << 10;
/// The longest line with nothing but a size.
const SIZE_LINE_BYTES: usize = 18;
/// Trailers.
const MAX_TRAILERS: usize = 64;

/// What is still to come of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    next: Next,
    /// How much more the lines before chunks may hold beside sizes.
    spare_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// So many bytes of data.
    Data(u64),
    /// Data until the connection ends.
    DataUntilClose,
    /// The line before a chunk.
    ChunkSize,
    /// So many bytes of a chunk.
    Chunk(u64),
    /// What ends a chunk.
    ChunkEnd,
    Trailers,
    Nothing,
}

/// What the bytes are that have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many bytes of data, more than none.
    Data(usize),
    /// So many bytes that are none, more than none.
    Framing(usize),
    /// That is not known before there are more.
    More,
    /// The body has ended before them.
    Over,
}

impl Body {
    pub(crate) const fn of_length(length: u64) -> Self {
        Self::new(Next::Data(length))
    }

    pub(crate) const fn chunked() -> Self {
        Self::new(Next::ChunkSize)
    }

    pub(crate) const fn until_close() -> Self {
        Self::new(Next::DataUntilClose)
    }

    const fn new(next: Next) -> Self {
        Self { next, spare_bytes: MAX_EXTENSION_BYTES }
    }

    /// The length of a body of which nothing has come, if it was announced.
    pub(crate) const fn announced(&self) -> Option<u64> {
        match self.next {
            Next::Data(length) => Some(length),
            _ => None,
        }
    }

    /// Whether nothing but the connection's end says where it ends.
    pub(crate) const fn ends_with_connection(&self) -> bool {
        matches!(self.next, Next::DataUntilClose)
    }

    /// How many of the next bytes are data for certain.
    pub(crate) const fn certain_data(&self) -> u64 {
        match self.next {
            Next::Data(left) | Next::Chunk(left) => left,
            _ => 0,
        }
    }

    /// So many of the certain data were taken.
    pub(crate) fn took(&mut self, count: usize) {
        self.next = match self.next {
            Next::Data(left) => Next::Data(left.saturating_sub(count as u64)),
            Next::Chunk(left) => match left.saturating_sub(count as u64) {
                0 => Next::ChunkEnd,
                left => Next::Chunk(left),
            },
            other => other,
        };
    }

    /// What the first of `bytes` are; they count as taken.
    ///
    /// # Errors
    /// They cannot be part of such a body: why, for people.
    pub(crate) fn step(&mut self, bytes: &[u8]) -> Result<Step, &'static str> {
        match self.next {
            Next::Data(0) | Next::Nothing => Ok(Step::Over),
            _ if bytes.is_empty() => Ok(Step::More),
            Next::Data(left) | Next::Chunk(left) => {
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                self.took(count);
                Ok(Step::Data(count))
            }
            Next::DataUntilClose => Ok(Step::Data(bytes.len())),
            Next::ChunkSize => self.chunk_size(bytes),
            Next::ChunkEnd => self.chunk_end(bytes),
            Next::Trailers => self.trailers(bytes),
        }
    }

    fn chunk_size(&mut self, bytes: &[u8]) -> Result<Step, &'static str> {
        const INVALID: &str = "invalid chunk size";
        // No digit would be no chunk, which is the last one.
        if !bytes.first().is_some_and(u8::is_ascii_hexdigit) {
            return Err(INVALID);
        }
        let line = bytes.get(..MAX_FRAMING_BYTES).unwrap_or(bytes);
        let (len, size) = match httparse::parse_chunk_size(line).map_err(|_| INVALID)? {
            Status::Complete(parsed) => parsed,
            Status::Partial if line.len() == MAX_FRAMING_BYTES => return Err(INVALID),
            Status::Partial => return Ok(Step::More),
        };
        // In an extension, others would see the line's end.
        if line.iter().take(len.saturating_sub(1)).any(|byte| *byte == b'\n') {
            return Err(INVALID);
        }
        let extension = len.saturating_sub(SIZE_LINE_BYTES);
        self.spare_bytes = self.spare_bytes.checked_sub(extension).ok_or(INVALID)?;
        self.next = if size == 0 { Next::Trailers } else { Next::Chunk(size) };
        Ok(Step::Framing(len))
    }

    fn chunk_end(&mut self, bytes: &[u8]) -> Result<Step, &'static str> {
        match bytes {
            [b'\r'] => Ok(Step::More),
            [b'\r', b'\n', ..] => {
                self.next = Next::ChunkSize;
                Ok(Step::Framing(2))
            }
            _ => Err("a chunk that is longer than its size"),
        }
    }

    fn trailers(&mut self, bytes: &[u8]) -> Result<Step, &'static str> {
        const INVALID: &str = "invalid trailers";
        let lines = bytes.get(..MAX_FRAMING_BYTES).unwrap_or(bytes);
        let mut room = [EMPTY_HEADER; MAX_TRAILERS];
        match httparse::parse_headers(lines, &mut room).map_err(|_| INVALID)? {
            Status::Complete((len, _)) => {
                self.next = Next::Nothing;
                Ok(Step::Framing(len))
            }
            Status::Partial if lines.len() == MAX_FRAMING_BYTES => Err(INVALID),
            Status::Partial => Ok(Step::More),
        }
    }
}

#[cfg(test)]
mod tests;
