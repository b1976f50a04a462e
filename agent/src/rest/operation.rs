// SPDX-License-Identifier: GPL-2.0-only
//! What is asked of a repository, and the HTTP request that asks it.
//!
//! Before: [`crate::pipeline`] and [`crate::volume`] make an operation. After: `rest::answer` reads
//! what comes back. The protocol's table of requests is [`Operation::request`].

use std::fmt;
use std::ops::Range;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::header::{ACCEPT, CONTENT_LENGTH, HOST, IF_NONE_MATCH, RANGE, USER_AGENT};
use hyper::{Method, Request, Uri};

use crate::errors::ErrorKind;
use crate::repository::Url;
use crate::rest::range::RangeText;
use crate::rest::Failure;
use crate::volume::Volume;
use crate::window::{Payload, Window};

const TRUNCATE: HeaderName = HeaderName::from_static("x-scal-truncate");
const CDMI_VERSION: HeaderName = HeaderName::from_static("x-cdmi-specification-version");
const CDMI_VERSION_SPOKEN: HeaderValue = HeaderValue::from_static("1.0.1");
const CONTAINER: HeaderValue = HeaderValue::from_static("application/cdmi-container");
const AGENT: HeaderValue = HeaderValue::from_static("srb-agent");
const ANY: HeaderValue = HeaderValue::from_static("*");
const ZERO: HeaderValue = HeaderValue::from_static("0");

/// An operation that one request carries out. Repeating any of them is harmless by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation<'a> {
    /// The names of the volumes.
    List,
    /// The size of a volume.
    Size(&'a Volume),
    /// A new, empty volume.
    Create(&'a Volume),
    /// A volume's size, set.
    SetSize(&'a Volume, u64),
    /// The end of a volume.
    Delete(&'a Volume),
    /// Bytes of a volume into a window.
    Read(Io<'a>),
    /// Bytes of a window into a volume.
    Write(Io<'a>),
}

/// Where bytes are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Io<'a> {
    pub(crate) volume: &'a Volume,
    /// In the volume, in bytes.
    pub(crate) offset: u64,
    pub(crate) window: &'a Window,
    /// From the window's start, in bytes; not 0.
    pub(crate) len: usize,
}

impl Io<'_> {
    /// The bytes of the volume.
    pub(crate) fn range(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(self.len as u64)
    }

    /// The same, as headers want it.
    pub(crate) fn range_text(&self) -> RangeText {
        RangeText::new(self.offset, self.last())
    }

    /// The last byte.
    pub(crate) fn last(&self) -> u64 {
        self.range().end.saturating_sub(1)
    }
}

impl Operation<'_> {
    /// Whether a server that knows nothing of ranges would destroy a volume by it.
    pub(crate) const fn needs_fit_server(&self) -> bool {
        matches!(self, Self::Create(_) | Self::SetSize(..) | Self::Write(_))
    }

    /// Whether a server that gets it twice answers the same twice.
    ///
    /// Otherwise it goes on a fresh connection: on a kept one that turns out dead nobody could tell
    /// whether the server got it, and what its answer to the second request means.
    pub(crate) const fn has_one_answer(&self) -> bool {
        !matches!(self, Self::Create(_) | Self::Delete(_))
    }

    /// The volume that it is about.
    pub(crate) const fn volume(&self) -> Option<&Volume> {
        match self {
            Self::List => None,
            Self::Size(volume)
            | Self::Create(volume)
            | Self::SetSize(volume, _)
            | Self::Delete(volume)
            | Self::Read(Io { volume, .. })
            | Self::Write(Io { volume, .. }) => Some(volume),
        }
    }

    /// Data bytes read and written.
    pub(crate) const fn data_bytes(&self) -> (u64, u64) {
        match self {
            Self::Read(io) => (io.len as u64, 0),
            Self::Write(io) => (0, io.len as u64),
            _ => (0, 0),
        }
    }

    /// The request, in origin form; `path` is that of the volume, `headers` an empty map.
    pub(crate) fn request(
        &self,
        url: &Url,
        path: Uri,
        headers: HeaderMap,
    ) -> Result<Request<Payload>, Failure> {
        let mut request = Request::new(self.body()?);
        *request.method_mut() = match self {
            Self::List | Self::Size(_) | Self::Read(_) => Method::GET,
            Self::Create(_) | Self::SetSize(..) | Self::Write(_) => Method::PUT,
            Self::Delete(_) => Method::DELETE,
        };
        *request.uri_mut() = match self {
            Self::List => uri(format!("{}/", url.path()))?,
            Self::Size(_) => uri(format!("{}?metadata", path.path()))?,
            _ => path,
        };
        *request.headers_mut() = headers;
        let headers = request.headers_mut();
        headers.reserve(4);
        headers.insert(HOST, url.host_header().clone());
        headers.insert(USER_AGENT, AGENT);
        self.own_headers(headers)?;
        Ok(request)
    }

    fn body(&self) -> Result<Payload, Failure> {
        let Self::Write(io) = self else { return Ok(Payload::empty()) };
        let too_long = || Failure::new(ErrorKind::Invalid, "was not asked: no such window");
        io.window.payload(io.len).ok_or_else(too_long)
    }

    fn own_headers(&self, headers: &mut HeaderMap) -> Result<(), Failure> {
        match self {
            Self::List => {
                headers.insert(CDMI_VERSION, CDMI_VERSION_SPOKEN);
                headers.insert(ACCEPT, CONTAINER);
            }
            Self::Size(_) | Self::Delete(_) => {}
            Self::Create(_) => {
                headers.insert(IF_NONE_MATCH, ANY);
                headers.insert(CONTENT_LENGTH, ZERO);
            }
            Self::SetSize(_, size) => {
                headers.insert(TRUNCATE, HeaderValue::from(*size));
                headers.insert(CONTENT_LENGTH, ZERO);
            }
            // The body's length becomes a header by itself.
            Self::Read(io) | Self::Write(io) => {
                headers.insert(RANGE, range_value(io)?);
            }
        }
        Ok(())
    }
}

/// `bytes=FIRST-LAST`.
fn range_value(io: &Io<'_>) -> Result<HeaderValue, Failure> {
    let range = io.range_text();
    let mut text = Vec::with_capacity(64);
    text.extend_from_slice(b"bytes=");
    text.extend_from_slice(range.as_bytes());
    HeaderValue::from_bytes(&text)
        .map_err(|_| Failure::new(ErrorKind::Invalid, "was not asked: no such range"))
}

/// A URI in origin form.
pub(crate) fn uri(path: String) -> Result<Uri, Failure> {
    Uri::try_from(path).map_err(|error| {
        Failure::new(ErrorKind::Invalid, format!("was not asked: the path is not valid: {error}"))
    })
}

impl fmt::Display for Operation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List => f.write_str("list of volumes"),
            Self::Size(volume) => write!(f, "size of volume {}", volume.name()),
            Self::Create(volume) => write!(f, "create of volume {}", volume.name()),
            Self::SetSize(volume, size) => {
                write!(f, "setting the size of volume {} to {size} bytes", volume.name())
            }
            Self::Delete(volume) => write!(f, "delete of volume {}", volume.name()),
            Self::Read(Io { volume, offset, len, .. }) => {
                write!(f, "read of {len} bytes at {offset} of volume {}", volume.name())
            }
            Self::Write(Io { volume, offset, len, .. }) => {
                write!(f, "write of {len} bytes at {offset} of volume {}", volume.name())
            }
        }
    }
}
