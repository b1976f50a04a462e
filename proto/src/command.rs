// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The words that users write into sysfs: sizes, names, URLs, and the commands made of them.
//!
//! Past these parsers all values are valid; nothing is checked twice. Every rejection has a
//! sentence ([`CommandError::reason`]) that the module logs and `srbctl` prints.

mod name;
mod policy;
mod size;
mod url;

pub use self::name::{
    check_device_name, check_volume_name, encoded, NameError, MAX_DEVICE_BYTES, MAX_VOLUME_BYTES,
};
pub use self::policy::{Policy, PolicyError, MAX_QUEUE_SECS};
pub use self::size::{parse_size, SizeError, MAX_SIZE_BYTES};
pub use self::url::{Kind, RepositoryUrl, UrlError, MAX_URL_BYTES};

/// URLs that can be configured at a time.
pub const MAX_URLS: usize = 32;

/// Why a command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// Nothing was written, or white space alone.
    Empty,
    /// More words than the command takes.
    ExtraWord,
    /// Fewer words than the command takes.
    MissingWord,
    /// A word that the command does not know.
    UnknownWord,
    /// A byte sequence that is no UTF-8.
    NotUtf8,
    /// A name that cannot be.
    Name(NameError),
    /// A size that cannot be.
    Size(SizeError),
}

impl CommandError {
    /// What is wrong, for people.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Empty => "the command is empty",
            Self::ExtraWord => "the command has too many words",
            Self::MissingWord => "the command lacks a word",
            Self::UnknownWord => "the command does not know the second word",
            Self::NotUtf8 => "the command is not UTF-8",
            Self::Name(error) => error.reason(),
            Self::Size(error) => error.reason(),
        }
    }
}

/// Splits a command into exactly `N` words.
fn words<const N: usize>(command: &[u8]) -> Result<[&str; N], CommandError> {
    let text = core::str::from_utf8(command).map_err(|_| CommandError::NotUtf8)?;
    let mut rest = text.trim_ascii().split_ascii_whitespace();
    let mut words = [""; N];
    for (at, word) in words.iter_mut().enumerate() {
        let missing = if at == 0 { CommandError::Empty } else { CommandError::MissingWord };
        *word = rest.next().ok_or(missing)?;
    }
    match rest.next() {
        Some(_) => Err(CommandError::ExtraWord),
        None => Ok(words),
    }
}

/// Parses `VOLUME SIZE`, as `create` and `extend` take it; the size is in bytes.
///
/// # Errors
/// See [`CommandError`].
pub fn parse_volume_and_size(command: &[u8]) -> Result<(&str, u64), CommandError> {
    let [volume, size] = words(command)?;
    check_volume_name(volume).map_err(CommandError::Name)?;
    Ok((volume, parse_size(size).map_err(CommandError::Size)?))
}

/// Parses `VOLUME`, as `destroy` takes it.
///
/// # Errors
/// See [`CommandError`].
pub fn parse_volume(command: &[u8]) -> Result<&str, CommandError> {
    let [volume] = words(command)?;
    check_volume_name(volume).map_err(CommandError::Name)?;
    Ok(volume)
}

/// Parses `VOLUME DEVICE`, as `attach` takes it.
///
/// # Errors
/// See [`CommandError`].
pub fn parse_volume_and_device(command: &[u8]) -> Result<(&str, &str), CommandError> {
    let [volume, device] = words(command)?;
    check_volume_name(volume).map_err(CommandError::Name)?;
    check_device_name(device).map_err(CommandError::Name)?;
    Ok((volume, device))
}

/// How a device is detached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detach {
    /// Only if nobody has it open.
    Unused,
    /// In any case; whatever is in flight, or comes later, fails.
    Force,
}

/// Parses `DEVICE` or `DEVICE force`, as `detach` takes it.
///
/// # Errors
/// See [`CommandError`].
pub fn parse_detach(command: &[u8]) -> Result<(&str, Detach), CommandError> {
    let (device, how) = match words(command) {
        Ok([device]) => (device, Detach::Unused),
        Err(CommandError::ExtraWord) => match words(command)? {
            [device, "force"] => (device, Detach::Force),
            [_, _] => return Err(CommandError::UnknownWord),
        },
        Err(error) => return Err(error),
    };
    check_device_name(device).map_err(CommandError::Name)?;
    Ok((device, how))
}

/// Splits a comma-separated list of URLs, as `add_urls` and `remove_urls` take it, and parses each
/// on its own.
pub fn parse_urls(
    command: &[u8],
) -> impl Iterator<Item = (&[u8], Result<RepositoryUrl, UrlError>)> {
    command
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|url| !url.is_empty())
        .map(|url| (url, RepositoryUrl::parse(url)))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    extern crate std;

    /// What is told to people is told apart.
    pub(super) fn expect_sentences<const N: usize>(reasons: [&str; N]) {
        for (at, reason) in reasons.iter().enumerate() {
            assert!(reason.contains(' '), "{reason}");
            assert!(!reasons[..at].contains(reason), "{reason}");
        }
    }

    #[test]
    fn each_refusal_has_a_sentence_of_its_own() {
        use CommandError::{Empty, ExtraWord, MissingWord, Name, NotUtf8, Size, UnknownWord};
        use NameError::{Character, Control, Dots, Slash, TooLong};
        use SizeError::{Malformed, TooLarge, Unaligned, Zero};
        let words = [Empty, ExtraWord, MissingWord, UnknownWord, NotUtf8];
        let names = [NameError::Empty, TooLong, Slash, Dots, Control, Character].map(Name);
        let sizes = [Malformed, Zero, TooLarge, Unaligned].map(Size);
        let mut reasons = [""; 15];
        let all = words.into_iter().chain(names).chain(sizes);
        all.zip(&mut reasons).for_each(|(error, reason)| *reason = error.reason());
        expect_sentences(reasons);
    }

    #[test]
    fn commands_as_the_manual_writes_them() {
        assert_eq!(parse_volume_and_size(b"vol1 10G\n"), Ok(("vol1", 10 << 30)));
        assert_eq!(parse_volume_and_size(b"  vol1\t 512  \n"), Ok(("vol1", 512)));
        assert_eq!(parse_volume(b"vol1"), Ok("vol1"));
        assert_eq!(parse_volume_and_device(b"vol1 disk1\n"), Ok(("vol1", "disk1")));
        assert_eq!(parse_detach(b"disk1\n"), Ok(("disk1", Detach::Unused)));
        assert_eq!(parse_detach(b" disk1  force\n"), Ok(("disk1", Detach::Force)));
    }

    #[test]
    fn malformed_commands() {
        assert_eq!(parse_volume(b" \n"), Err(CommandError::Empty));
        assert_eq!(parse_volume(b""), Err(CommandError::Empty));
        assert_eq!(parse_volume(b"a b"), Err(CommandError::ExtraWord));
        assert_eq!(parse_volume_and_size(b"a"), Err(CommandError::MissingWord));
        assert_eq!(parse_volume_and_size(b"a 1k 2"), Err(CommandError::ExtraWord));
        assert_eq!(parse_detach(b"\n"), Err(CommandError::Empty));
        assert_eq!(parse_detach(b"disk1 now"), Err(CommandError::UnknownWord));
        assert_eq!(parse_detach(b"disk1 force now"), Err(CommandError::ExtraWord));
        assert_eq!(parse_volume(b"\xff"), Err(CommandError::NotUtf8));
        assert_eq!(parse_volume(b"a/b"), Err(CommandError::Name(NameError::Slash)));
        assert_eq!(parse_volume_and_size(b"a 5X"), Err(CommandError::Size(SizeError::Malformed)));
    }

    #[test]
    fn a_bad_url_does_not_hide_the_good_ones() {
        let parsed: Vec<_> = parse_urls(b"http://a/x, ftp://b ,,http://c:81/\n").collect();
        assert_eq!(parsed.len(), 3);
        assert_eq!(parsed[0].1.as_ref().map(RepositoryUrl::as_str), Ok("http://a/x"));
        assert_eq!(parsed[1].0, b"ftp://b");
        assert_eq!(parsed[1].1.as_ref().err(), Some(&UrlError::Scheme));
        assert_eq!(parsed[2].1.as_ref().map(RepositoryUrl::as_str), Ok("http://c:81"));
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes: Vec<u8>) {
            let _ = parse_volume_and_size(&bytes);
            let _ = parse_volume_and_device(&bytes);
            let _ = parse_volume(&bytes);
            let _ = parse_detach(&bytes);
            parse_urls(&bytes).for_each(drop);
        }

        #[test]
        fn valid_commands_are_taken(
            volume in "[a-zA-Z0-9_.-]{2,40}x",
            device in "[a-z][a-z0-9]{0,30}",
            kib in 1u64..1 << 53,
        ) {
            let command = std::format!("{volume} {device}\n");
            prop_assert_eq!(parse_volume_and_device(command.as_bytes()), Ok((&*volume, &*device)));
            let command = std::format!("{volume} {kib}k\n");
            prop_assert_eq!(parse_volume_and_size(command.as_bytes()), Ok((&*volume, kib << 10)));
        }
    }
}
