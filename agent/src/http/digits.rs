// SPDX-License-Identifier: GPL-2.0-only
//! Numbers as headers have them. Written for each request, so without
//! `fmt`, which costs several times as much.

/// Of the largest number.
const MAX_DIGITS: usize = 20;

/// Writes a number in decimal digits.
pub(crate) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; MAX_DIGITS];
    let mut start = MAX_DIGITS;
    for place in digits.iter_mut().rev() {
        *place = b'0'.wrapping_add(u8::try_from(number % 10).unwrap_or(0));
        start = start.saturating_sub(1);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(start..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_are_written_as_everybody_writes_them(number: u64, digits in 0u32..20) {
            for number in [0, u64::MAX, number, number % 10u64.pow(digits)] {
                let mut text = b"x".to_vec();
                put_number(&mut text, number);
                prop_assert_eq!(text, format!("x{number}").into_bytes());
            }
        }
    }
}
