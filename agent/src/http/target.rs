// SPDX-License-Identifier: GPL-2.0-only
//! The parts of a request's head that come from URLs and names: text that can stand there and
//! nothing else, known to be so from here on.
//!
//! Before: `proto` has parsed a URL or a name. After: the store puts them together.

use srb_proto::command::encoded;

/// What all requests at one URL have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    /// Empty, or `/` and more without a slash at the end.
    path: Box<[u8]>,
    /// From the end of the path on, up to the headers that differ.
    headers: Box<[u8]>,
}

impl Target {
    /// Of a URL with this path, and what the URL has between its scheme and its path. `None` if a
    /// request cannot have them.
    pub(crate) fn new(path: &str, authority: &str) -> Option<Self> {
        let rooted = path.is_empty() || path.starts_with('/');
        let valid = rooted && path.bytes().all(is_path) && authority.bytes().all(is_authority);
        let headers = format!(" HTTP/1.1\r\nhost: {authority}\r\nuser-agent: srb-agent\r\n");
        valid.then(|| Self { path: path.as_bytes().into(), headers: headers.into_bytes().into() })
    }

    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }

    pub(crate) fn headers(&self) -> &[u8] {
        &self.headers
    }
}

/// A volume's name as the last part of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment(Box<[u8]>);

impl Segment {
    pub(crate) fn new(name: &str) -> Self {
        Self(encoded(name).collect())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// RFC 3986, 3.3: what paths are made of.
fn is_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:@/".contains(&byte)
}

/// RFC 3986, 3.2: hosts, addresses and ports.
fn is_authority(byte: u8) -> bool {
    byte != b'/' && (is_path(byte) || b"[]".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use srb_proto::command::{Kind, RepositoryUrl};

    #[test]
    fn what_would_be_another_request_is_refused() {
        assert!(Target::new("/a/b%20c", "[::1]:80").is_some() && Target::new("", "host").is_some());
        for path in ["a", "/a b", "/a\r\nx: y", "/a?b", "/a#b", "/\0", "/ä", "/a\"", "/\x7f"] {
            assert_eq!(Target::new(path, "host"), None, "{path:?}");
        }
        for authority in ["a b", "a\r\nx: y", "a\n", "a/b", "ä", "a\t"] {
            assert_eq!(Target::new("", authority), None, "{authority:?}");
        }
    }

    proptest! {
        #[test]
        fn every_url_of_a_repository_can_be_asked(
            url in "http://[a-z0-9.-]{1,9}(:[0-9]{1,5})?(/[!-~]{0,9}){0,3}",
        ) {
            let Ok(url) = RepositoryUrl::parse(url.as_bytes()) else { return Ok(()) };
            let Kind::Http { path, .. } = url.kind() else { return Ok(()) };
            let authority = url.as_str().strip_prefix("http://").expect("canonical");
            let authority = authority.split('/').next().expect("one part");
            prop_assert!(Target::new(path, authority).is_some(), "{}", url.as_str());
        }

        #[test]
        fn every_name_is_one_part_of_a_path(name: String) {
            let segment = Segment::new(&name);
            prop_assert!(segment.as_bytes().iter().all(|byte| is_path(*byte) && *byte != b'/'));
        }
    }
}
