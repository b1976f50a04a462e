// SPDX-License-Identifier: GPL-2.0-only
//! Answers, and the one map from what went wrong to a status.

use std::io;

use hyper::header::{HeaderValue, ALLOW, CONTENT_RANGE, CONTENT_TYPE};
use hyper::{Response, StatusCode};
use nix::errno::Errno;

use crate::body::Body;
use crate::name::NameError;
use crate::range::RangeError;
use crate::store::StoreError;
use crate::volume::WriteError;

/// What goes back to the client.
pub(crate) type Answer = Response<Body>;

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    answer
}

/// Why a request was not done, as its client is told.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    reason: String,
    /// The volume's size, of which a 416 speaks.
    size: Option<u64>,
    /// The methods that a 405 would have taken.
    allow: Option<&'static str>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), size: None, allow: None }
    }

    /// The request contradicts the protocol or itself.
    pub(crate) fn bad_request(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason)
    }

    /// The range is not within the volume's `size` bytes.
    pub(crate) fn beyond(size: u64) -> Self {
        let reason = format!("the range is not within the volume's {size} bytes");
        Self { size: Some(size), ..Self::new(StatusCode::RANGE_NOT_SATISFIABLE, reason) }
    }

    /// The resource has other methods, those in `allow`.
    pub(crate) fn method(allow: &'static str) -> Self {
        let reason = format!("methods here are {allow}");
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, reason) }
    }

    /// The sentence in the body.
    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }

    /// The answer that says it: a line of text and the headers that the status calls for.
    pub(crate) fn into_answer(self) -> Answer {
        let mut answer = Response::new(Body::full(format!("{}\n", self.reason)));
        *answer.status_mut() = self.status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(size) = self.size {
            if let Ok(value) = HeaderValue::try_from(format!("bytes */{size}")) {
                headers.insert(CONTENT_RANGE, value);
            }
        }
        answer
    }
}

impl From<NameError> for Refusal {
    fn from(error: NameError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<RangeError> for Refusal {
    fn from(error: RangeError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let status = match &error {
            StoreError::NotFound => StatusCode::NOT_FOUND,
            StoreError::Exists => StatusCode::PRECONDITION_FAILED,
            StoreError::NotAVolume => StatusCode::FORBIDDEN,
            StoreError::Io(error) => status_of(error),
        };
        Self::new(status, error.to_string())
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        StoreError::Io(error).into()
    }
}

impl From<WriteError> for Refusal {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Beyond { size } => Self::beyond(size),
            WriteError::Io(error) => error.into(),
        }
    }
}

fn status_of(error: &io::Error) -> StatusCode {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOSPC | Errno::EDQUOT) => StatusCode::INSUFFICIENT_STORAGE,
        Some(Errno::EFBIG) => StatusCode::PAYLOAD_TOO_LARGE,
        Some(Errno::EACCES | Errno::EPERM | Errno::EROFS) => StatusCode::FORBIDDEN,
        Some(Errno::ENAMETOOLONG) => StatusCode::BAD_REQUEST,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filesystem_s_errors_have_their_statuses() {
        for (errno, status) in [
            (Errno::ENOSPC, 507),
            (Errno::EFBIG, 413),
            (Errno::EROFS, 403),
            (Errno::EMFILE, 503),
            (Errno::EIO, 500),
        ] {
            let refusal = Refusal::from(io::Error::from(errno));
            assert_eq!(refusal.into_answer().status().as_u16(), status, "{errno}");
        }
    }
}
