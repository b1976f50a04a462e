// SPDX-License-Identifier: GPL-2.0-only
//! What has come over a connection and was not looked at yet.
//!
//! Belongs to a [`super::link`], which keeps it as long as the connection lives: nothing is
//! allocated for an answer whose head has the usual length.
//!
//! # Invariants
//! `start <= end <= bytes.len()`; the bytes between `start` and `end` are those that have come.

/// What there is room for: an answer with 4 KiB of data, and its head.
pub(crate) const USUAL_BYTES: usize = 8 << 10;

/// The bytes.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; USUAL_BYTES], start: 0, end: 0 }
    }

    /// Those that have come.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Forgets the first `count` bytes.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Room for more, at the end; none if there are `most` bytes already.
    pub(crate) fn room(&mut self, most: usize) -> &mut [u8] {
        if self.end == self.bytes.len() && self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end.saturating_sub(self.start));
        }
        if self.end == self.bytes.len() {
            let len = self.bytes.len().saturating_mul(2).min(most).max(self.end);
            self.bytes.resize(len, 0);
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// `count` bytes were put where there was room.
    pub(crate) fn filled(&mut self, count: usize) {
        self.end = self.end.saturating_add(count).min(self.bytes.len());
    }

    /// Gives back what a long head took, if nothing is left of it.
    pub(crate) fn shrink(&mut self) {
        if self.bytes.len() > USUAL_BYTES && self.is_empty() {
            self.bytes.truncate(USUAL_BYTES);
            self.bytes.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_grows_up_to_the_bound_and_shrinks_when_it_is_empty() {
        let (mut buffer, most) = (Buffer::new(), 3 * USUAL_BYTES);
        let mut taken = 0;
        loop {
            let count = buffer.room(most).len();
            if count == 0 {
                break;
            }
            buffer.filled(count);
            taken += count;
        }
        assert_eq!((taken, buffer.bytes().len()), (most, most));
        buffer.shrink();
        assert_eq!(buffer.bytes().len(), most, "it is in use");
        buffer.consume(most);
        buffer.shrink();
        assert_eq!((buffer.bytes.len(), buffer.bytes.capacity()), (USUAL_BYTES, USUAL_BYTES));
    }

    proptest! {
        /// What comes out is what went in, whatever the pieces.
        #[test]
        fn bytes_keep_their_order(
            pieces in proptest::collection::vec((0usize..9000, 0usize..9000), 0..20),
        ) {
            let (mut buffer, mut next, mut expected) = (Buffer::new(), 0u8, Vec::new());
            for (put, take) in pieces {
                let room = buffer.room(64 << 10);
                let put = put.min(room.len());
                for place in &mut room[..put] {
                    *place = next;
                    expected.push(next);
                    next = next.wrapping_add(1);
                }
                buffer.filled(put);
                prop_assert_eq!(buffer.bytes(), &*expected);
                buffer.consume(take);
                expected.drain(..take.min(expected.len()));
                prop_assert_eq!(buffer.bytes(), &*expected);
                prop_assert_eq!(buffer.is_empty(), expected.is_empty());
            }
        }
    }
}
