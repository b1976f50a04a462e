// SPDX-License-Identifier: GPL-2.0-only
//! Byte ranges as RFC 9110 writes them (section 14), read strictly: one range, unit `bytes`.
//!
//! A number past 2^63-1 counts as 2^63-1: no volume has such a byte, so it is beyond the end of
//! each, and sums of offsets and lengths cannot overflow.

/// The largest size of a volume in bytes.
pub(crate) const LARGEST_SIZE: u64 = i64::MAX as u64;

/// The text is no range, or one that this server does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RangeError {
    #[error("the range is malformed: bytes=FIRST-LAST is taken, and FIRST- and -LENGTH by GET")]
    Malformed,
    #[error("more than one range in a request")]
    Several,
    #[error("the range ends before it begins")]
    Backwards,
    #[error("the content range is malformed: bytes FIRST-LAST/TOTAL is taken, TOTAL may be *")]
    ContentMalformed,
}

/// Bytes that exist in a volume of a known size; never none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// The first byte's offset.
    pub(crate) first: u64,
    /// The number of bytes, at least 1.
    pub(crate) length: u64,
}

impl Span {
    /// The last byte's offset.
    pub(crate) fn last(self) -> u64 {
        self.first + (self.length - 1)
    }
}

/// The bytes that a GET asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadRange {
    /// `FIRST-LAST`
    Between { first: u64, last: u64 },
    /// `FIRST-`
    From { first: u64 },
    /// `-LENGTH`
    Suffix { length: u64 },
}

impl ReadRange {
    /// Reads the value of a `Range` header.
    pub(crate) fn parse(value: &str) -> Result<Self, RangeError> {
        let (first, last) = split(value)?;
        match (first, last) {
            ("", length) => Ok(Self::Suffix { length: number(length)? }),
            (first, "") => Ok(Self::From { first: number(first)? }),
            (first, last) => {
                let (first, last) = between(first, last)?;
                Ok(Self::Between { first, last })
            }
        }
    }

    /// The part of the range that a volume of `size` bytes has, if it has any.
    pub(crate) fn resolve(self, size: u64) -> Option<Span> {
        let (first, end) = match self {
            Self::Between { first, last } => (first, size.min(last.saturating_add(1))),
            Self::From { first } => (first, size),
            Self::Suffix { length } => (size.saturating_sub(length), size),
        };
        (first < end).then(|| Span { first, length: end - first })
    }
}

/// The bytes that a PUT says it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WriteRange {
    /// The first byte's offset.
    pub(crate) first: u64,
    /// The last byte's offset, not below `first`.
    pub(crate) last: u64,
    /// The volume's size as the client knows it.
    pub(crate) total: Option<u64>,
}

impl WriteRange {
    /// Reads the value of a `Range` header.
    pub(crate) fn parse(value: &str) -> Result<Self, RangeError> {
        let (first, last) = split(value)?;
        let (first, last) = between(first, last)?;
        Ok(Self { first, last, total: None })
    }

    /// Reads the value of a `Content-Range` header; `lenient` takes any TOTAL for unknown.
    pub(crate) fn parse_content(value: &str, lenient: bool) -> Result<Self, RangeError> {
        let malformed = RangeError::ContentMalformed;
        let (unit, rest) = value.split_once(' ').ok_or(malformed)?;
        let (range, total) = rest.split_once('/').ok_or(malformed)?;
        let (first, last) = range.split_once('-').ok_or(malformed)?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return Err(malformed);
        }
        let (first, last) = between(first, last).map_err(|error| match error {
            RangeError::Malformed => malformed,
            other => other,
        })?;
        let total = match total {
            "*" => None,
            _ if lenient => None,
            total => Some(number(total).map_err(|_| malformed)?),
        };
        Ok(Self { first, last, total })
    }

    /// The number of bytes, at least 1.
    pub(crate) fn length(self) -> u64 {
        self.last - self.first + 1
    }
}

fn split(value: &str) -> Result<(&str, &str), RangeError> {
    let (unit, range) = value.split_once('=').ok_or(RangeError::Malformed)?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return Err(RangeError::Malformed);
    }
    if range.contains(',') {
        return Err(RangeError::Several);
    }
    range.split_once('-').ok_or(RangeError::Malformed)
}

fn between(first: &str, last: &str) -> Result<(u64, u64), RangeError> {
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(RangeError::Backwards);
    }
    Ok((first, last))
}

fn number(text: &str) -> Result<u64, RangeError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(RangeError::Malformed);
    }
    // Only digits: what fails to parse is too large.
    Ok(text.parse().map_or(LARGEST_SIZE, |number: u64| number.min(LARGEST_SIZE)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_of_a_get() {
        assert_eq!(ReadRange::parse("bytes=0-0"), Ok(ReadRange::Between { first: 0, last: 0 }));
        assert_eq!(ReadRange::parse("Bytes=5-"), Ok(ReadRange::From { first: 5 }));
        assert_eq!(ReadRange::parse("bytes=-5"), Ok(ReadRange::Suffix { length: 5 }));
        assert_eq!(
            ReadRange::parse("bytes=0-99999999999999999999"),
            Ok(ReadRange::Between { first: 0, last: LARGEST_SIZE })
        );
    }

    #[test]
    fn malformed_ranges() {
        for text in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=1",
            "bytes=a-b",
            "bytes=1-2x",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes= 1-2",
            "bytes=1 -2",
            "bytes 1-2",
            "lines=1-2",
            "bytes=0x1-0x2",
            "bytes=١-٢",
        ] {
            assert_eq!(ReadRange::parse(text), Err(RangeError::Malformed), "{text:?}");
            assert_eq!(WriteRange::parse(text), Err(RangeError::Malformed), "{text:?}");
        }
        assert_eq!(ReadRange::parse("bytes=0-1,3-4"), Err(RangeError::Several));
        assert_eq!(ReadRange::parse("bytes=2-1"), Err(RangeError::Backwards));
        for text in ["bytes=1-", "bytes=-1"] {
            assert_eq!(WriteRange::parse(text), Err(RangeError::Malformed), "{text:?}");
        }
    }

    #[test]
    fn the_part_that_exists() {
        let resolve = |text: &str, size| -> Option<(u64, u64)> {
            let span = ReadRange::parse(text).ok()?.resolve(size)?;
            Some((span.first, span.length))
        };
        assert_eq!(resolve("bytes=0-9", 10), Some((0, 10)));
        assert_eq!(resolve("bytes=0-10", 10), Some((0, 10)));
        assert_eq!(resolve("bytes=9-9", 10), Some((9, 1)));
        assert_eq!(resolve("bytes=10-10", 10), None);
        assert_eq!(resolve("bytes=9-", 10), Some((9, 1)));
        assert_eq!(resolve("bytes=10-", 10), None);
        assert_eq!(resolve("bytes=-3", 10), Some((7, 3)));
        assert_eq!(resolve("bytes=-30", 10), Some((0, 10)));
        assert_eq!(resolve("bytes=-0", 10), None);
        assert_eq!(resolve("bytes=-1", 0), None);
        assert_eq!(resolve("bytes=0-0", 0), None);
    }

    #[test]
    fn content_ranges() {
        let range = |first, last, total| Ok(WriteRange { first, last, total });
        let parse = WriteRange::parse_content;
        assert_eq!(parse("bytes 0-511/1024", false), range(0, 511, Some(1024)));
        assert_eq!(parse("bytes 0-511/*", false), range(0, 511, None));
        assert_eq!(parse("bytes 4096-4608/-1", true), range(4096, 4608, None));
        assert_eq!(parse("bytes 2-1/*", true), Err(RangeError::Backwards));
        for text in
            ["", "bytes", "bytes */10", "bytes=0-1/2", "bytes 0-1", "bytes 0-1/-1", "b 0-1/2"]
        {
            assert_eq!(parse(text, false), Err(RangeError::ContentMalformed), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".{0,40}") {
            let _ = ReadRange::parse(&text);
            let _ = WriteRange::parse(&text);
            let _ = WriteRange::parse_content(&text, true);
        }

        #[test]
        fn what_resolves_lies_within_both(
            first in any::<u64>(), last in any::<u64>(), size in 0..=LARGEST_SIZE,
        ) {
            let parsed = ReadRange::parse(&format!("bytes={first}-{last}"));
            prop_assert_eq!(
                parsed.is_ok(),
                first.min(LARGEST_SIZE) <= last.min(LARGEST_SIZE)
            );
            if let Some(span) = parsed.ok().and_then(|range| range.resolve(size)) {
                prop_assert!(span.length > 0);
                prop_assert!(span.first == first && span.last() <= last && span.last() < size);
            }
        }
    }
}
