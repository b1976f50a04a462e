// SPDX-License-Identifier: GPL-2.0-only
//! The text of a byte range: what a request asks for and an answer has to name.
//!
//! Written by [`super::operation`], compared by [`super::answer`], once for each request; so it is
//! made of digits at once, and lies on the stack.

/// Digits of the largest number.
const DIGITS: usize = 20;
/// Of `FIRST-LAST`.
const LONGEST: usize = 2 * DIGITS + 1;

/// `FIRST-LAST`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RangeText {
    /// Filled from the end.
    bytes: [u8; LONGEST],
    start: usize,
}

impl RangeText {
    /// Of the bytes from `first` to `last`.
    pub(crate) fn new(first: u64, last: u64) -> Self {
        let mut bytes = [0; LONGEST];
        let mut places = bytes.iter_mut().rev();
        put_number(&mut places, last);
        places.next().into_iter().for_each(|place| *place = b'-');
        put_number(&mut places, first);
        let start = places.len();
        Self { bytes, start }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }
}

/// Puts the last digit into the first place, and so on.
fn put_number<'a>(places: impl Iterator<Item = &'a mut u8>, mut number: u64) {
    for place in places {
        *place = b'0'.wrapping_add(u8::try_from(number % 10).unwrap_or(0));
        number /= 10;
        if number == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_are_written_as_everybody_writes_them(first: u64, last: u64) {
            for (first, last) in [(first, last), (0, last % 1000), (u64::MAX, u64::MAX)] {
                let (text, usual) = (RangeText::new(first, last), format!("{first}-{last}"));
                prop_assert_eq!(text.as_bytes(), usual.as_bytes());
            }
        }
    }
}
