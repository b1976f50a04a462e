// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! URLs of repositories: `http://HOST[:PORT][/PATH]`, or `null:[SIZE]` for measuring without a
//! server.
//!
//! A URL is kept in one canonical form, so that adding and removing compare equal what means the
//! same: scheme and host in lower case, no port 80, no slash at the end. The grammar is RFC 3986's
//! without user information, query and fragment: a URL is shown to everybody who may read sysfs, so
//! no secret belongs into it.

use super::size::parse_size;

/// The longest URL, in canonical form.
pub const MAX_URL_BYTES: usize = 512;
/// The port of `http`.
const HTTP_PORT: u16 = 80;
/// What a `null:` repository says of its volumes' size, unless told: 1 TiB.
const NULL_SIZE_BYTES: u64 = 1 << 40;

/// Why a URL was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlError {
    /// Not `http://` or `null:`.
    Scheme,
    /// Longer than [`MAX_URL_BYTES`].
    TooLong,
    /// No host, or one that cannot be.
    Host,
    /// Not a number from 1 to 65535.
    Port,
    /// A character that a path cannot have, or `.` and `..` in it.
    Path,
    /// User information, query or fragment.
    Extra,
    /// The size after `null:`.
    NullSize,
}

impl UrlError {
    /// What is wrong, for people.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Scheme => "the URL does not begin with http:// (or is not null:)",
            Self::TooLong => "the URL is longer than 512 bytes",
            Self::Host => "the URL has no valid host",
            Self::Port => "the port is not a number from 1 to 65535",
            Self::Path => "the path has a character that must be percent-encoded, or . or ..",
            Self::Extra => "a repository URL has no user, password, query or fragment",
            Self::NullSize => "null: is followed by a size that is not valid",
        }
    }
}

/// What a URL leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A CDMI server.
    Http {
        /// Name or address, an IPv6 address without its brackets.
        host: &'a str,
        /// TCP port.
        port: u16,
        /// Empty, or `/` and more without a slash at the end.
        path: &'a str,
    },
    /// Reads zeros, drops writes.
    Null {
        /// Of every volume, in bytes.
        size_bytes: u64,
    },
}

/// A repository's URL in canonical form.
#[derive(Clone, Copy)]
pub struct RepositoryUrl {
    bytes: [u8; MAX_URL_BYTES],
    len: usize,
}

impl RepositoryUrl {
    /// Parses a URL and makes it canonical.
    ///
    /// # Errors
    /// See [`UrlError`].
    pub fn parse(url: &[u8]) -> Result<Self, UrlError> {
        let mut out = Self { bytes: [0; MAX_URL_BYTES], len: 0 };
        if let Some(size) = strip_scheme(url, b"null:") {
            parse_null(size)?;
            out.push_lowercase(url)?;
            return Ok(out);
        }
        let rest = strip_scheme(url, b"http://").ok_or(UrlError::Scheme)?;
        if rest.iter().any(|byte| b"?#@".contains(byte)) {
            return Err(UrlError::Extra);
        }
        let slash = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(slash);
        let (host, port) = split_authority(authority)?;
        check_path(path)?;
        out.push_lowercase(b"http://")?;
        out.push_lowercase(host)?;
        if port != HTTP_PORT {
            out.push_port(port)?;
        }
        let end =
            path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last.wrapping_add(1));
        for byte in path.get(..end).unwrap_or_default() {
            out.push(*byte)?;
        }
        Ok(out)
    }

    /// The canonical form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // INVARIANT: `parse` lets only ASCII in, and `len` never passes the end.
        self.bytes.get(..self.len).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or("")
    }

    /// The parts.
    #[must_use]
    pub fn kind(&self) -> Kind<'_> {
        let text = self.as_str();
        let Some(rest) = text.strip_prefix("http://") else {
            let size = text.strip_prefix("null:").unwrap_or("").as_bytes();
            return Kind::Null { size_bytes: parse_null(size).unwrap_or(NULL_SIZE_BYTES) };
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().unwrap_or(HTTP_PORT)),
            _ => (authority, HTTP_PORT),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Kind::Http { host, port, path }
    }

    fn push(&mut self, byte: u8) -> Result<(), UrlError> {
        *self.bytes.get_mut(self.len).ok_or(UrlError::TooLong)? = byte;
        self.len = self.len.wrapping_add(1);
        Ok(())
    }

    fn push_lowercase(&mut self, bytes: &[u8]) -> Result<(), UrlError> {
        bytes.iter().try_for_each(|byte| self.push(byte.to_ascii_lowercase()))
    }

    #[cfg_attr(
        not(MODULE),
        expect(clippy::arithmetic_side_effects, reason = "the divisor is not 0 in the loop")
    )]
    fn push_port(&mut self, port: u16) -> Result<(), UrlError> {
        self.push(b':')?;
        let mut divisor = 10_000;
        while divisor > port {
            divisor /= 10;
        }
        while divisor > 0 {
            self.push(b'0'.wrapping_add((port / divisor % 10) as u8))?;
            divisor /= 10;
        }
        Ok(())
    }
}

impl PartialEq for RepositoryUrl {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}
impl Eq for RepositoryUrl {}

impl core::fmt::Debug for RepositoryUrl {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

fn strip_scheme<'a>(url: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = url.split_at_checked(scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then_some(rest)
}

fn parse_null(size: &[u8]) -> Result<u64, UrlError> {
    if size.is_empty() {
        return Ok(NULL_SIZE_BYTES);
    }
    let text = core::str::from_utf8(size).map_err(|_| UrlError::NullSize)?;
    parse_size(text).map_err(|_| UrlError::NullSize)
}

/// Splits `HOST[:PORT]`; the host keeps its brackets.
fn split_authority(authority: &[u8]) -> Result<(&[u8], u16), UrlError> {
    let (host, port) = if authority.first() == Some(&b'[') {
        let close = authority.iter().position(|byte| *byte == b']').ok_or(UrlError::Host)?;
        let (host, rest) = authority.split_at(close.wrapping_add(1));
        let inner = host.get(1..close).unwrap_or_default();
        check_ipv6(inner)?;
        (host, rest)
    } else {
        let colon = authority.iter().position(|byte| *byte == b':').unwrap_or(authority.len());
        let (host, rest) = authority.split_at(colon);
        check_host_name(host)?;
        (host, rest)
    };
    match port.split_first() {
        None => Ok((host, HTTP_PORT)),
        Some((b':', digits)) => Ok((host, parse_port(digits)?)),
        Some(_) => Err(UrlError::Host),
    }
}

fn check_ipv6(address: &[u8]) -> Result<(), UrlError> {
    let text = core::str::from_utf8(address).map_err(|_| UrlError::Host)?;
    text.parse::<core::net::Ipv6Addr>().map(drop).map_err(|_| UrlError::Host)
}

/// A DNS name (RFC 1123, and the underscores that are found in practice) or an IPv4 address.
fn check_host_name(host: &[u8]) -> Result<(), UrlError> {
    let valid_label = |label: &[u8]| {
        (1..=63).contains(&label.len())
            && label.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte))
            && label.first() != Some(&b'-')
            && label.last() != Some(&b'-')
    };
    let labels = host.strip_suffix(b".").unwrap_or(host);
    if host.len() > 253 || !labels.split(|byte| *byte == b'.').all(valid_label) {
        return Err(UrlError::Host);
    }
    // A name whose last label is a number can only be meant as an address.
    let last = labels.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
    if last.iter().all(u8::is_ascii_digit) {
        let text = core::str::from_utf8(host).map_err(|_| UrlError::Host)?;
        return text.parse::<core::net::Ipv4Addr>().map(drop).map_err(|_| UrlError::Host);
    }
    Ok(())
}

fn parse_port(digits: &[u8]) -> Result<u16, UrlError> {
    // `parse` would take a sign; and no digits at all it refuses as well.
    if digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(UrlError::Port);
    }
    let text = core::str::from_utf8(digits).map_err(|_| UrlError::Port)?;
    match text.parse() {
        Ok(0) | Err(_) => Err(UrlError::Port),
        Ok(port) => Ok(port),
    }
}

/// Characters of RFC 3986's path, less the comma that separates URLs in a list.
fn check_path(path: &[u8]) -> Result<(), UrlError> {
    let mut rest = path;
    while let Some((byte, after)) = rest.split_first() {
        rest = match byte {
            b'%' => match after.split_first_chunk::<2>() {
                Some((digits, after)) if digits.iter().all(u8::is_ascii_hexdigit) => after,
                _ => return Err(UrlError::Path),
            },
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => after,
            _ if b"/-._~!$&'()*+;=:".contains(byte) => after,
            _ => return Err(UrlError::Path),
        };
    }
    if path.split(|byte| *byte == b'/').any(|segment| matches!(segment, b"." | b"..")) {
        return Err(UrlError::Path);
    }
    Ok(())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::format;
    use std::string::String;
    use std::vec::Vec;

    extern crate std;

    fn canonical(url: &str) -> Result<String, UrlError> {
        RepositoryUrl::parse(url.as_bytes()).map(|url| String::from(url.as_str()))
    }

    #[test]
    fn canonical_forms() {
        for (url, expected) in [
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
            ("HTTP://Host.Example:80/Vol/", "http://host.example/Vol"),
            ("http://h", "http://h"),
            ("http://h///", "http://h"),
            ("http://h:00081/a/b//", "http://h:81/a/b"),
            ("http://[::1]:8080/x", "http://[::1]:8080/x"),
            ("http://[2001:DB8::1]", "http://[2001:db8::1]"),
            ("http://h/a%20b", "http://h/a%20b"),
            ("http://h:65535", "http://h:65535"),
            ("http://h:10000", "http://h:10000"),
            ("http://h:1000", "http://h:1000"),
            ("http://h:10", "http://h:10"),
            ("http://h:9", "http://h:9"),
            ("http://a_b.c-d./", "http://a_b.c-d."),
            ("null:", "null:"),
            ("NULL:10G", "null:10g"),
        ] {
            assert_eq!(canonical(url).as_deref(), Ok(expected), "{url}");
        }
    }

    #[test]
    fn urls_are_equal_if_their_canonical_forms_are() {
        let parse = |text: &str| RepositoryUrl::parse(text.as_bytes()).unwrap();
        assert_eq!(parse("HTTP://Store:80/a/"), parse("http://store/a"));
        assert_ne!(parse("http://store/a"), parse("http://store/b"));
    }

    #[test]
    fn refused() {
        for (url, error) in [
            ("", UrlError::Scheme),
            ("127.0.0.1", UrlError::Scheme),
            ("https://h/", UrlError::Scheme),
            ("http:/h", UrlError::Scheme),
            ("http://", UrlError::Host),
            ("http:///x", UrlError::Host),
            ("http://a..b", UrlError::Host),
            ("http://-a", UrlError::Host),
            ("http://a-.b", UrlError::Host),
            ("http://a~b", UrlError::Host),
            ("http://a b", UrlError::Host),
            ("http://256.1.1.1", UrlError::Host),
            ("http://1.2.3", UrlError::Host),
            ("http://[::1", UrlError::Host),
            ("http://[::g]", UrlError::Host),
            ("http://[::1]x", UrlError::Host),
            ("http://h:", UrlError::Port),
            ("http://h:0", UrlError::Port),
            ("http://h:65536", UrlError::Port),
            ("http://h:8a", UrlError::Port),
            ("http://h:+80", UrlError::Port),
            ("http://h:000080", UrlError::Port),
            ("http://u:p@h", UrlError::Extra),
            ("http://h/?q", UrlError::Extra),
            ("http://h/#f", UrlError::Extra),
            ("http://h/a b", UrlError::Path),
            ("http://h/%2", UrlError::Path),
            ("http://h/%zz", UrlError::Path),
            ("http://h/../x", UrlError::Path),
            ("http://h/ä", UrlError::Path),
            ("null:0", UrlError::NullSize),
            ("null:x", UrlError::NullSize),
        ] {
            assert_eq!(canonical(url), Err(error), "{url}");
        }
        let long = format!("http://h/{}", "x".repeat(MAX_URL_BYTES - 9));
        assert_eq!(canonical(&long).as_deref(), Ok(&*long));
        assert_eq!(canonical(&format!("{long}x")), Err(UrlError::TooLong));
    }

    #[test]
    fn a_host_may_have_253_bytes_and_labels_of_63() {
        let label = "x".repeat(63);
        let longest = [&*label, &label, &label, &label[..61]].join(".");
        assert_eq!(longest.len(), 253);
        assert_eq!(canonical(&format!("http://{longest}")), Ok(format!("http://{longest}")));
        assert_eq!(canonical(&format!("http://{longest}x")), Err(UrlError::Host));
        assert_eq!(canonical(&format!("http://{label}x.y")), Err(UrlError::Host));
    }

    #[test]
    fn each_refusal_has_a_sentence_of_its_own() {
        use UrlError::{Extra, Host, NullSize, Path, Port, Scheme, TooLong};
        super::super::tests::expect_sentences(
            [Scheme, TooLong, Host, Port, Path, Extra, NullSize].map(UrlError::reason),
        );
    }

    #[test]
    fn parts() {
        let parse = |url: &str| RepositoryUrl::parse(url.as_bytes()).expect("valid");
        let url = parse("http://[::1]:81/a/");
        assert_eq!(url.kind(), Kind::Http { host: "::1", port: 81, path: "/a" });
        let url = parse("http://[::1]");
        assert_eq!(url.kind(), Kind::Http { host: "::1", port: 80, path: "" });
        let url = parse("http://h/a:1");
        assert_eq!(url.kind(), Kind::Http { host: "h", port: 80, path: "/a:1" });
        assert_eq!(parse("null:1M").kind(), Kind::Null { size_bytes: 1 << 20 });
        assert_eq!(parse("null:").kind(), Kind::Null { size_bytes: 1 << 40 });
    }

    proptest! {
        #[test]
        fn no_input_panics_and_canonical_is_stable(bytes: Vec<u8>) {
            if let Ok(url) = RepositoryUrl::parse(&bytes) {
                prop_assert_eq!(RepositoryUrl::parse(url.as_str().as_bytes()), Ok(url));
            }
        }

        #[test]
        fn canonical_is_stable(
            host in "[a-z][a-z0-9-]{0,20}[a-z]",
            port in 1u16..,
            path in "(/[a-z0-9._~]{3,9}){0,4}/?",
        ) {
            let url = canonical(&format!("http://{host}:{port}{path}")).expect("valid");
            prop_assert_eq!(canonical(&url), Ok(url.clone()));
            let parsed = RepositoryUrl::parse(url.as_bytes()).expect("canonical");
            let path = path.trim_end_matches('/');
            prop_assert_eq!(parsed.kind(), Kind::Http { host: &host, port, path });
        }
    }
}
