// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Sizes: an integer of bytes, or one with k, M, G or T, in powers of 1024.

use super::super::layout::SECTOR_BYTES;

/// The largest volume: what a signed 64-bit offset reaches, in whole sectors.
pub const MAX_SIZE_BYTES: u64 = i64::MAX as u64 & !(SECTOR_BYTES - 1);

/// Why a size was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeError {
    /// Not digits with at most one suffix.
    Malformed,
    /// Nothing can be stored in it.
    Zero,
    /// Beyond [`MAX_SIZE_BYTES`].
    TooLarge,
    /// Not a multiple of the sector.
    Unaligned,
}

impl SizeError {
    /// What is wrong, for people.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "a size is an integer, or one followed by k, M, G or T",
            Self::Zero => "the size is zero",
            Self::TooLarge => "the size is above 2^63-1 bytes",
            Self::Unaligned => "the size is not a multiple of 512 bytes",
        }
    }
}

/// Parses a size into bytes.
///
/// ```
/// use srb_proto::command::{parse_size, SizeError};
///
/// assert_eq!(parse_size("10G"), Ok(10 << 30));
/// assert_eq!(parse_size("1000"), Err(SizeError::Unaligned));
/// ```
///
/// # Errors
/// See [`SizeError`].
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let (digits, shift) = match text.as_bytes().split_last() {
        Some((b'k' | b'K', digits)) => (digits, 10),
        Some((b'm' | b'M', digits)) => (digits, 20),
        Some((b'g' | b'G', digits)) => (digits, 30),
        Some((b't' | b'T', digits)) => (digits, 40),
        _ => (text.as_bytes(), 0),
    };
    if digits.is_empty() {
        return Err(SizeError::Malformed);
    }
    let mut count = Some(0u64);
    for digit in digits {
        if !digit.is_ascii_digit() {
            return Err(SizeError::Malformed);
        }
        count = count
            .and_then(|count| count.checked_mul(10))
            .and_then(|count| count.checked_add(u64::from(digit.wrapping_sub(b'0'))));
    }
    let bytes = count.and_then(|count| count.checked_mul(1 << shift)).ok_or(SizeError::TooLarge)?;
    match bytes {
        0 => Err(SizeError::Zero),
        _ if bytes > i64::MAX as u64 => Err(SizeError::TooLarge),
        _ if bytes % SECTOR_BYTES != 0 => Err(SizeError::Unaligned),
        _ => Ok(bytes),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::format;

    extern crate std;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("512", 512),
            ("1k", 1024),
            ("1K", 1024),
            ("3M", 3 << 20),
            ("10G", 10 << 30),
            ("2T", 2 << 40),
            ("007k", 7 << 10),
            ("9223372036854775296", MAX_SIZE_BYTES),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for (text, error) in [
            ("", SizeError::Malformed),
            ("k", SizeError::Malformed),
            ("5X", SizeError::Malformed),
            ("-1", SizeError::Malformed),
            ("+512", SizeError::Malformed),
            ("1.5G", SizeError::Malformed),
            ("1kk", SizeError::Malformed),
            ("99999999999999999999999x", SizeError::Malformed),
            ("0", SizeError::Zero),
            ("0G", SizeError::Zero),
            ("511", SizeError::Unaligned),
            ("9223372036854775807", SizeError::Unaligned),
            ("99999999999G", SizeError::TooLarge),
            ("9223372036854775808", SizeError::TooLarge),
            ("18446744073709551616", SizeError::TooLarge),
        ] {
            assert_eq!(parse_size(text), Err(error), "{text}");
        }
    }

    proptest! {
        /// Against 128-bit arithmetic.
        #[test]
        fn matches_wide_arithmetic(count: u64, unit in 0usize..5) {
            let suffix = ["", "k", "M", "G", "T"][unit];
            let wide = u128::from(count) << (10 * unit);
            let expected = if wide == 0 {
                Err(SizeError::Zero)
            } else if wide > i64::MAX as u128 {
                Err(SizeError::TooLarge)
            } else if wide % 512 != 0 {
                Err(SizeError::Unaligned)
            } else {
                Ok(wide as u64)
            };
            prop_assert_eq!(parse_size(&format!("{count}{suffix}")), expected);
        }
    }
}
