// SPDX-License-Identifier: GPL-2.0-only
//! What a PUT on a volume asks for, which its headers decide.

use hyper::header::{HeaderName, CONTENT_RANGE, IF_NONE_MATCH, RANGE};
use hyper::HeaderMap;

use crate::answer::Refusal;
use crate::range::{WriteRange, LARGEST_SIZE};

const TRUNCATE: HeaderName = HeaderName::from_static("x-scal-truncate");

/// The meaning of a PUT.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// Writes the body to a part of the volume.
    Write(WriteRange),
    /// Sets the volume's size.
    Resize { size_bytes: u64 },
    /// Makes the volume, of the body, or of `size_bytes` zeros if that is given.
    Create { size_bytes: Option<u64> },
    /// Makes the volume of the body, or replaces all of it.
    Replace,
}

impl Put {
    /// Reads the headers; `lenient` as in [`WriteRange::parse_content`].
    pub(crate) fn parse(headers: &HeaderMap, lenient: bool) -> Result<Self, Refusal> {
        let range = write_range(headers, lenient)?;
        let size_bytes = single(headers, &TRUNCATE)?.map(size).transpose()?;
        let create = match single(headers, &IF_NONE_MATCH)? {
            None => false,
            Some("*") => true,
            Some(_) => return Err(Refusal::bad_request("the only If-None-Match is *")),
        };
        match (range, size_bytes, create) {
            (Some(range), None, false) => Ok(Self::Write(range)),
            (Some(_), _, _) => {
                Err(Refusal::bad_request("a range with X-Scal-Truncate or If-None-Match"))
            }
            (None, size_bytes, true) => Ok(Self::Create { size_bytes }),
            (None, Some(size_bytes), false) => Ok(Self::Resize { size_bytes }),
            (None, None, false) => Ok(Self::Replace),
        }
    }
}

/// The one value of a header, if it is there.
pub(crate) fn single<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'h str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match (value.to_str(), values.next()) {
        (Ok(value), None) => Ok(Some(value)),
        _ => Err(Refusal::bad_request(format!("{name} is repeated or no text"))),
    }
}

fn write_range(headers: &HeaderMap, lenient: bool) -> Result<Option<WriteRange>, Refusal> {
    let range = single(headers, &RANGE)?.map(WriteRange::parse).transpose()?;
    let content = single(headers, &CONTENT_RANGE)?
        .map(|value| WriteRange::parse_content(value, lenient))
        .transpose()?;
    match (range, content) {
        (Some(range), Some(content))
            if (range.first, range.last) != (content.first, content.last) =>
        {
            Err(Refusal::bad_request("Range and Content-Range differ"))
        }
        (range, content) => Ok(content.or(range)),
    }
}

fn size(text: &str) -> Result<u64, Refusal> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let size = text.parse().ok().filter(|&size| digits && size <= LARGEST_SIZE);
    size.ok_or_else(|| Refusal::bad_request("X-Scal-Truncate is a number of bytes below 2^63"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(headers: &[(&'static str, &'static str)]) -> Option<Put> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Put::parse(&map, false).ok()
    }

    #[test]
    fn headers_decide() {
        let write = |total| Some(Put::Write(WriteRange { first: 0, last: 3, total }));
        assert_eq!(parse(&[]), Some(Put::Replace));
        assert_eq!(parse(&[("range", "bytes=0-3")]), write(None));
        assert_eq!(parse(&[("content-range", "bytes 0-3/9")]), write(Some(9)));
        assert_eq!(parse(&[("range", "bytes=0-3"), ("content-range", "bytes 0-3/*")]), write(None));
        assert_eq!(parse(&[("x-scal-truncate", "7")]), Some(Put::Resize { size_bytes: 7 }));
        assert_eq!(parse(&[("if-none-match", "*")]), Some(Put::Create { size_bytes: None }));
        assert_eq!(
            parse(&[("if-none-match", "*"), ("x-scal-truncate", "9223372036854775807")]),
            Some(Put::Create { size_bytes: Some(LARGEST_SIZE) })
        );
    }

    #[test]
    fn contradictions_are_refused() {
        for headers in [
            &[("range", "bytes=0-3"), ("content-range", "bytes 0-4/*")][..],
            &[("range", "bytes=0-3"), ("range", "bytes=0-3")],
            &[("range", "bytes=0-3"), ("x-scal-truncate", "7")],
            &[("range", "bytes=0-3"), ("if-none-match", "*")],
            &[("range", "bytes=0-")],
            &[("if-none-match", "\"etag\"")],
            &[("x-scal-truncate", "")],
            &[("x-scal-truncate", "+7")],
            &[("x-scal-truncate", "-7")],
            &[("x-scal-truncate", "7k")],
            &[("x-scal-truncate", "9223372036854775808")],
        ] {
            assert_eq!(parse(headers), None, "{headers:?}");
        }
    }
}
