// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Names of volumes and devices.

/// The longest name of a volume.
pub const MAX_VOLUME_BYTES: usize = 255;
/// The longest name of a device: the kernel's `DISK_NAME_LEN` less its final zero.
pub const MAX_DEVICE_BYTES: usize = 31;

/// Why a name was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// No byte at all.
    Empty,
    /// Longer than names of its kind may be.
    TooLong,
    /// It contains `/`.
    Slash,
    /// It is `.` or `..`.
    Dots,
    /// It contains a control character or a space.
    Control,
    /// A device name with a character that udev or sysfs would change.
    Character,
}

impl NameError {
    /// What is wrong, for people.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Empty => "the name is empty",
            Self::TooLong => "the name is too long (31 bytes for a device, 255 for a volume)",
            Self::Slash => "the name contains a slash",
            Self::Dots => "the name is . or ..",
            Self::Control => "the name contains a space or a control character",
            Self::Character => "a device name may have letters, digits and #+-.:=@_ alone",
        }
    }
}

fn check(name: &str, max_bytes: usize) -> Result<(), NameError> {
    if name.is_empty() {
        Err(NameError::Empty)
    } else if name.len() > max_bytes {
        Err(NameError::TooLong)
    } else if name.contains('/') {
        Err(NameError::Slash)
    } else if matches!(name, "." | "..") {
        Err(NameError::Dots)
    } else if name.chars().any(|c| c.is_control() || c == ' ') {
        Err(NameError::Control)
    } else {
        Ok(())
    }
}

/// Checks the name of a volume.
///
/// # Errors
/// See [`NameError`].
pub fn check_volume_name(name: &str) -> Result<(), NameError> {
    check(name, MAX_VOLUME_BYTES)
}

/// Checks the name of a device.
///
/// Beyond the rules for volumes it may have only characters that reach /dev unchanged: sysfs and
/// devtmpfs take `!` for a slash, and udev replaces what is not on its list.
///
/// # Errors
/// See [`NameError`].
pub fn check_device_name(name: &str) -> Result<(), NameError> {
    check(name, MAX_DEVICE_BYTES)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"#+-.:=@_".contains(&byte);
    if name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(NameError::Character)
    }
}

/// The bytes of `name` as one segment of a URL's path: all but RFC 3986's unreserved characters
/// percent-encoded.
pub fn encoded(name: &str) -> impl Iterator<Item = u8> + '_ {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
    name.bytes().flat_map(move |byte| {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let escaped = [b'%', digit(byte >> 4), digit(byte & 0xf)];
        let (bytes, count) = if plain { ([byte, 0, 0], 1) } else { (escaped, 3) };
        bytes.into_iter().take(count)
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    extern crate std;

    #[test]
    fn names_and_their_limits() {
        let long = "x".repeat(256);
        assert_eq!(check_volume_name(&long[..255]), Ok(()));
        assert_eq!(check_volume_name(&long), Err(NameError::TooLong));
        assert_eq!(check_device_name(&long[..31]), Ok(()));
        assert_eq!(check_device_name(&long[..32]), Err(NameError::TooLong));
        for (name, error) in [
            ("", NameError::Empty),
            ("a/b", NameError::Slash),
            ("/", NameError::Slash),
            (".", NameError::Dots),
            ("..", NameError::Dots),
            ("a b", NameError::Control),
            ("a\u{7f}", NameError::Control),
            ("a\u{85}", NameError::Control),
        ] {
            assert_eq!(check_volume_name(name), Err(error), "{name:?}");
            assert_eq!(check_device_name(name), Err(error), "{name:?}");
        }
        for name in ["a!b", "ä", "a%b", "a\\b", "a,b"] {
            assert_eq!(check_volume_name(name), Ok(()), "{name}");
            assert_eq!(check_device_name(name), Err(NameError::Character), "{name}");
        }
        assert_eq!(check_volume_name("..."), Ok(()));
    }

    #[test]
    fn encoding() {
        let text = |name| String::from_utf8(encoded(name).collect::<Vec<_>>());
        assert_eq!(text("aZ09-._~").as_deref(), Ok("aZ09-._~"));
        assert_eq!(text("a,b?c#d%e").as_deref(), Ok("a%2Cb%3Fc%23d%25e"));
        assert_eq!(text("ä").as_deref(), Ok("%C3%A4"));
    }
}
