// SPDX-License-Identifier: GPL-2.0-only
//! A request of a device, once its submission was checked.
//!
//! Before: [`super::queue`] makes it of a submission that says nothing which is not there. After:
//! whoever carries it out, counts it, or completes it; none of them checks anything again.

use srb_proto::descriptor::{DataOp, Generation, Submission, Tag};
use srb_proto::layout::SECTOR_BYTES;

/// A request to read or write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Whose window has the data.
    pub tag: Tag,
    /// For the completion.
    pub generation: Generation,
    /// What to do.
    pub op: DataOp,
    /// Whether it may have been done already: an agent was given it before.
    pub repeated: bool,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Length in bytes, more than 0.
    pub len: u32,
}

impl Transfer {
    /// What the submission asks, for a window of `window_bytes`; or what is wrong with it.
    pub(super) fn new(submission: &Submission, window_bytes: usize) -> Result<Self, &'static str> {
        let Submission { tag, op, repeated, generation, arg, len } = *submission;
        let op = op.on_a_device().ok_or("not an op for a device")?;
        if len == 0 || len as usize > window_bytes {
            return Err("length out of range");
        }
        let offset = arg.checked_mul(SECTOR_BYTES).ok_or(BEYOND_THE_END)?;
        offset.checked_add(len.into()).ok_or(BEYOND_THE_END)?;
        Ok(Self { tag, generation, op, repeated, offset, len })
    }

    /// The first byte behind it.
    #[must_use]
    pub fn end(&self) -> u64 {
        // INVARIANT: `new` has seen that this does not overflow.
        self.offset.saturating_add(self.len.into())
    }
}

/// What is wrong with a request that leaves the volume.
pub(super) const BEYOND_THE_END: &str = "beyond the end of the volume";

#[cfg(test)]
mod tests {
    use super::*;
    use srb_proto::descriptor::Op;

    #[test]
    fn what_makes_no_sense_is_no_transfer() {
        let (tag, generation) = (Tag(1), Generation(2));
        let good = Submission { tag, op: Op::Write, repeated: true, generation, arg: 8, len: 4096 };
        let transfer = Transfer::new(&good, 4096).expect("as it should be");
        let op = DataOp::Write;
        let expected = Transfer { tag, generation, op, repeated: true, offset: 4096, len: 4096 };
        assert_eq!((transfer, transfer.end()), (expected, 8192));
        for (bad, why) in [
            (Submission { op: Op::List, ..good }, "not an op for a device"),
            (Submission { len: 0, ..good }, "length out of range"),
            (Submission { len: 4097, ..good }, "length out of range"),
            (Submission { arg: u64::MAX, ..good }, BEYOND_THE_END),
            (Submission { arg: u64::MAX / SECTOR_BYTES, ..good }, BEYOND_THE_END),
        ] {
            assert_eq!(Transfer::new(&bad, 4096), Err(why));
        }
    }
}
