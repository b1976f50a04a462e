// SPDX-License-Identifier: GPL-2.0-only
//! What a request's URL means: the repository or one of its volumes.

use std::fmt;

use hyper::{StatusCode, Uri};

use crate::answer::Refusal;
use crate::name::VolumeName;

/// The repository's path.
///
/// # Invariants
///
/// Empty, or `/` and segments that are no relative ones, without a `/` at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prefix(String);

/// A path that cannot be a repository's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("has an empty or relative segment, or a character that a URL's path would encode")]
pub struct PrefixError;

/// The resource that a request is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Repository,
    Volume { name: VolumeName, metadata: bool },
}

impl Prefix {
    pub(crate) fn parse(path: &str) -> Result<Self, PrefixError> {
        let path = path.trim_start_matches('/').trim_end_matches('/');
        if path.is_empty() {
            return Ok(Self(String::new()));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte);
        let sound =
            |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(plain);
        if path.split('/').all(sound) {
            Ok(Self(format!("/{path}")))
        } else {
            Err(PrefixError)
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.0)
    }
}

impl Target {
    /// Reads a request's URL.
    pub(crate) fn parse(uri: &Uri, prefix: &Prefix) -> Result<Self, Refusal> {
        let outside = || Refusal::new(StatusCode::NOT_FOUND, "outside of the repository");
        let rest = uri.path().strip_prefix(&prefix.0).ok_or_else(outside)?;
        let name = match rest {
            "" | "/" => None,
            rest => Some(VolumeName::decode(rest.strip_prefix('/').ok_or_else(outside)?)?),
        };
        match (name, uri.query()) {
            (None, None) => Ok(Self::Repository),
            (Some(name), None) => Ok(Self::Volume { name, metadata: false }),
            (Some(name), Some("metadata")) => Ok(Self::Volume { name, metadata: true }),
            _ => Err(Refusal::bad_request("the only query is ?metadata, of a volume")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_normalised() {
        for (path, shown) in
            [("", "/"), ("/", "/"), ("a", "/a/"), ("/a/", "/a/"), ("/a/b.c/", "/a/b.c/")]
        {
            assert_eq!(Prefix::parse(path).unwrap().to_string(), shown);
        }
        for path in ["a//b", "../a", "a/./b", "a b", "a?b", "a#b", "a%20b", "é"] {
            assert_eq!(Prefix::parse(path), Err(PrefixError), "{path:?}");
        }
    }

    #[test]
    fn urls_below_a_prefix() {
        let prefix = Prefix::parse("/store").unwrap();
        let parse = |uri: &'static str| Target::parse(&Uri::from_static(uri), &prefix);
        let volume = |metadata| Target::Volume { name: VolumeName::parse("v").unwrap(), metadata };
        assert_eq!(parse("/store").unwrap(), Target::Repository);
        assert_eq!(parse("/store/").unwrap(), Target::Repository);
        assert_eq!(parse("/store/v").unwrap(), volume(false));
        assert_eq!(parse("/store/%76?metadata").unwrap(), volume(true));
        assert_eq!(parse("http://host:1/store/v").unwrap(), volume(false));
        for outside in ["/", "/v", "/stor", "/storev", "/storev/v"] {
            let refusal = parse(outside).unwrap_err().into_answer();
            assert_eq!(refusal.status(), StatusCode::NOT_FOUND, "{outside}");
        }
        for bad in ["/store//v", "/store/a/b", "/store/../v", "/store/v?x", "/store/?metadata"] {
            let refusal = parse(bad).unwrap_err().into_answer();
            assert_eq!(refusal.status(), StatusCode::BAD_REQUEST, "{bad}");
        }
    }
}
