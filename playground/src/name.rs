// SPDX-License-Identifier: GPL-2.0-only
//! A volume's name: from a URL's last segment to something that is safe as a file's name.

use percent_encoding::percent_decode_str;

/// A name's bytes at most, which is also the limit of Linux's filesystems.
const LONGEST_BYTES: usize = 255;

/// A volume's name.
///
/// # Invariants
///
/// 1 to 255 bytes of UTF-8, neither `.` nor `..`, without `/` and without control characters: as
/// a single path component it cannot leave the data folder, nor meet an unfinished upload's file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct VolumeName(Box<str>);

/// Why a name is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    #[error("a volume's name is empty")]
    Empty,
    #[error("`.` and `..` are not volume names")]
    Dots,
    #[error("a volume's name has no `/`")]
    Slash,
    #[error("a volume's name has no control characters")]
    Control,
    #[error("a volume's name has at most 255 bytes")]
    TooLong,
    #[error("a `%` in a URL is followed by two hexadecimal digits")]
    Encoding,
    #[error("a volume's name is UTF-8")]
    NotUtf8,
}

impl VolumeName {
    /// Reads the name from what follows the repository's path in a URL.
    pub(crate) fn decode(segment: &str) -> Result<Self, NameError> {
        // `percent_decode_str` passes a bad escape through, which would give one name two URLs.
        let mut escapes = segment.split('%');
        escapes.next();
        let hexadecimal = |escape: &str| {
            escape.as_bytes().get(..2).is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit))
        };
        if !escapes.all(hexadecimal) {
            return Err(NameError::Encoding);
        }
        let name = percent_decode_str(segment).decode_utf8().map_err(|_| NameError::NotUtf8)?;
        Self::parse(&name)
    }

    /// Takes a name as it is, for instance that of a file.
    pub(crate) fn parse(name: &str) -> Result<Self, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > LONGEST_BYTES {
            return Err(NameError::TooLong);
        }
        if name == "." || name == ".." {
            return Err(NameError::Dots);
        }
        if name.contains('/') {
            return Err(NameError::Slash);
        }
        if name.contains(char::is_control) {
            return Err(NameError::Control);
        }
        Ok(Self(name.into()))
    }

    /// The name, not encoded.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded() -> Result<(), NameError> {
        for (segment, name) in [
            ("vol1", "vol1"),
            ("%76ol1", "vol1"),
            ("a%20b", "a b"),
            ("a+b", "a+b"),
            ("%C3%A9", "é"),
            (".hidden", ".hidden"),
            ("...", "..."),
            ("a%25", "a%"),
            ("%2e%2e%2e", "..."),
        ] {
            assert_eq!(VolumeName::decode(segment)?.as_str(), name);
        }
        assert!(VolumeName::decode(&"v".repeat(255)).is_ok());
        Ok(())
    }

    #[test]
    fn what_could_leave_the_folder_is_refused() {
        for (segment, error) in [
            ("", NameError::Empty),
            (".", NameError::Dots),
            ("..", NameError::Dots),
            ("%2e%2E", NameError::Dots),
            (".%2e", NameError::Dots),
            ("a/b", NameError::Slash),
            ("..%2f..%2Fetc", NameError::Slash),
            ("/", NameError::Slash),
            ("a%00", NameError::Control),
            ("a%0a", NameError::Control),
            ("%1f", NameError::Control),
            ("%7f", NameError::Control),
            ("%C2%85", NameError::Control),
            ("%", NameError::Encoding),
            ("%4", NameError::Encoding),
            ("%zz", NameError::Encoding),
            ("%%41", NameError::Encoding),
            ("%ff", NameError::NotUtf8),
        ] {
            assert_eq!(VolumeName::decode(segment), Err(error), "{segment:?}");
        }
        assert_eq!(VolumeName::decode(&"v".repeat(256)), Err(NameError::TooLong));
        assert_eq!(VolumeName::decode(&"%C3%A9".repeat(128)), Err(NameError::TooLong));
    }
}
