// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Submission and completion entries, packed into words.
//!
//! | word | bits | submission | completion |
//! |---|---|---|---|
//! | 0 | 0–15 | tag | tag |
//! | 0 | 16–23 | op | zero |
//! | 0 | 24–31 | flags | flags |
//! | 0 | 32–63 | generation | generation |
//! | 1 | 0–31 | first sector, or what the op says | status |
//! | 1 | 32–63 | its upper half | bytes |
//! | 2 | 0–31 | bytes | (no such word) |

use super::status::Status;

/// Words of a submission.
pub const SUBMISSION_WORDS: usize = 3;
/// Words of a completion.
pub const COMPLETION_WORDS: usize = 2;

/// Of a submission: this may have been done already. The request was given to an agent before, who
/// did not complete it, or could not carry it out.
const FLAG_REPEATED: u64 = 1;
/// Of a completion: the failure may pass. No server answered as one that works.
const FLAG_TRANSIENT: u64 = 1;

/// A request's place among those in flight on its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u16);

impl Tag {
    /// As an index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// How often a tag has been used: tells a completion from a late one for an earlier use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Generation(pub u32);

impl Generation {
    /// The one after.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// What is asked of the agent. [`Submission::arg`] and the window hold what the op says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Op {
    /// arg: first sector; fills the window.
    Read = 1,
    /// arg: first sector; the window holds the data.
    Write = 2,
    /// arg: room for the reply in bytes; fills the window with a [`super::control::Listing`].
    List = 16,
    /// The window names a volume; the reply is its size, a u64.
    Stat = 17,
    /// arg: size in bytes; the window names the volume to create.
    Create = 18,
    /// arg: new size in bytes; the window names the volume. The reply is empty.
    Extend = 19,
    /// The window names the volume to delete.
    Destroy = 20,
    /// arg: device index; the agent maps its channels and serves them.
    Open = 21,
    /// arg: device index; the agent stops serving and unmaps them.
    Close = 22,
    /// arg: tag and generation ([`Submission::cancel_arg`]) of a control request that nobody waits
    /// for any more.
    Cancel = 23,
    /// The window names a volume that a create may have left which nobody waits for any more, and
    /// whose agent is gone: deletes it if it has 0 bytes, or `arg` bytes. `arg` is 0 unless that
    /// create is known to have made it.
    Undo = 24,
}

/// What may be asked on a device's own channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataOp {
    /// [`Op::Read`].
    Read,
    /// [`Op::Write`].
    Write,
}

impl DataOp {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Read, Self::Write];

    /// How it is called in logs, lists and errors.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }

    /// As it stands in a submission.
    #[must_use]
    pub const fn op(self) -> Op {
        match self {
            Self::Read => Op::Read,
            Self::Write => Op::Write,
        }
    }
}

impl Op {
    /// What it asks of a device; `None` for one of the control channel.
    #[must_use]
    pub const fn on_a_device(self) -> Option<DataOp> {
        match self {
            Self::Read => Some(DataOp::Read),
            Self::Write => Some(DataOp::Write),
            Self::List
            | Self::Stat
            | Self::Create
            | Self::Extend
            | Self::Destroy
            | Self::Open
            | Self::Close
            | Self::Cancel
            | Self::Undo => None,
        }
    }

    /// The op with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Read,
            2 => Self::Write,
            16 => Self::List,
            17 => Self::Stat,
            18 => Self::Create,
            19 => Self::Extend,
            20 => Self::Destroy,
            21 => Self::Open,
            22 => Self::Close,
            23 => Self::Cancel,
            24 => Self::Undo,
            _ => return None,
        })
    }
}

/// A request to the agent.
///
/// It goes into a ring as words, and comes out as something that may be nonsense:
///
/// ```
/// use srb_proto::descriptor::{BadSubmission, Generation, Op, Submission, Tag};
///
/// let read = Submission {
///     tag: Tag(3),
///     op: Op::Read,
///     repeated: false,
///     generation: Generation(1),
///     arg: 8, // the first sector
///     len: 4096,
/// };
/// let [first, arg, len] = read.to_words();
/// assert_eq!(Submission::from_words([first, arg, len]), Ok(read));
/// let unknown = first | 0xff << 16;
/// assert_eq!(Submission::from_words([unknown, arg, len]), Err(BadSubmission::Op(0xff)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Whose window is used.
    pub tag: Tag,
    /// What to do.
    pub op: Op,
    /// Whether it may have been done already: an agent was given it before.
    pub repeated: bool,
    /// To be sent back in the completion.
    pub generation: Generation,
    /// What the op says.
    pub arg: u64,
    /// Bytes to read or written; for control ops the bytes of the window that are filled.
    pub len: u32,
}

/// Why a submission makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadSubmission {
    /// No op has this number.
    Op(u8),
    /// A flag that this version does not know.
    Flags(u8),
}

impl Submission {
    /// As it goes into the ring.
    #[must_use]
    pub const fn to_words(self) -> [u64; SUBMISSION_WORDS] {
        let flags = if self.repeated { FLAG_REPEATED } else { 0 };
        let first = self.tag.0 as u64
            | (self.op as u64) << 16
            | flags << 24
            | (self.generation.0 as u64) << 32;
        [first, self.arg, self.len as u64]
    }

    /// From the ring.
    ///
    /// # Errors
    /// A module of another version wrote it, or nobody did.
    #[cfg_attr(
        not(MODULE),
        expect(clippy::cast_possible_truncation, reason = "a cast takes a field out")
    )]
    pub const fn from_words(words: [u64; SUBMISSION_WORDS]) -> Result<Self, BadSubmission> {
        let [first, arg, len] = words;
        let Some(op) = Op::from_number((first >> 16) as u8) else {
            return Err(BadSubmission::Op((first >> 16) as u8));
        };
        let flags = (first >> 24) as u8;
        if flags as u64 & !FLAG_REPEATED != 0 {
            return Err(BadSubmission::Flags(flags));
        }
        Ok(Self {
            tag: Tag(first as u16),
            op,
            repeated: flags as u64 & FLAG_REPEATED != 0,
            generation: Generation((first >> 32) as u32),
            arg,
            len: len as u32,
        })
    }

    /// The `arg` of an [`Op::Cancel`].
    #[must_use]
    pub const fn cancel_arg(tag: Tag, generation: Generation) -> u64 {
        tag.0 as u64 | (generation.0 as u64) << 32
    }

    /// Reads [`Self::cancel_arg`].
    #[must_use]
    #[cfg_attr(
        not(MODULE),
        expect(clippy::cast_possible_truncation, reason = "a cast takes a field out")
    )]
    pub const fn cancelled(arg: u64) -> (Tag, Generation) {
        (Tag(arg as u16), Generation((arg >> 32) as u32))
    }
}

/// The agent's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Of the submission.
    pub tag: Tag,
    /// Of the submission.
    pub generation: Generation,
    /// Of a failure: whether trying again later may help, so that the device's policy decides.
    pub transient: bool,
    /// [`Status::to_number`], if the other side means well.
    pub status: i32,
    /// Bytes moved; of a control request, the bytes of the window that hold the reply or the
    /// error's details.
    pub len: u32,
}

impl Completion {
    /// As it goes into the ring.
    #[must_use]
    pub const fn to_words(self) -> [u64; COMPLETION_WORDS] {
        let flags = if self.transient { FLAG_TRANSIENT } else { 0 };
        [
            self.tag.0 as u64 | flags << 24 | (self.generation.0 as u64) << 32,
            self.status as u32 as u64 | (self.len as u64) << 32,
        ]
    }

    /// From the ring; any words make a completion, which the module then holds against what it
    /// knows.
    #[must_use]
    #[cfg_attr(
        not(MODULE),
        expect(clippy::cast_possible_truncation, reason = "a cast takes a field out")
    )]
    pub const fn from_words(words: [u64; COMPLETION_WORDS]) -> Self {
        let [first, second] = words;
        Self {
            tag: Tag(first as u16),
            generation: Generation((first >> 32) as u32),
            transient: (first >> 24) & FLAG_TRANSIENT != 0,
            status: second as u32 as i32,
            len: (second >> 32) as u32,
        }
    }

    /// What it says of its request; `None` if no answer may say that.
    #[must_use]
    pub const fn status(self) -> Option<Status> {
        Status::from_number(self.status)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn completions_survive(first in any::<u64>(), second in any::<u64>()) {
            let completion = Completion::from_words([first, second]);
            prop_assert_eq!(completion.to_words(), [first & !0xfeff_0000, second]);
        }

        #[test]
        fn submissions_survive_or_are_refused(words: [u64; SUBMISSION_WORDS]) {
            if let Ok(submission) = Submission::from_words(words) {
                let kept = [words[0], words[1], words[2] & 0xffff_ffff];
                prop_assert_eq!(submission.to_words(), kept);
            }
        }

        #[test]
        fn each_op_leads_back(
            number: u8,
            tag: u16,
            generation: u32,
            arg: u64,
            len: u32,
            repeated: bool,
        ) {
            if let Some(op) = Op::from_number(number) {
                prop_assert_eq!(op as u8, number);
                let (tag, generation) = (Tag(tag), Generation(generation));
                let submission = Submission { tag, op, repeated, generation, arg, len };
                prop_assert_eq!(Submission::from_words(submission.to_words()), Ok(submission));
                let arg = Submission::cancel_arg(tag, generation);
                prop_assert_eq!(Submission::cancelled(arg), (tag, generation));
            }
        }
    }

    #[test]
    fn every_op_is_known_by_its_number() {
        use Op::{Cancel, Close, Create, Destroy, Extend, List, Open, Read, Stat, Undo, Write};
        for op in [Read, Write, List, Stat, Create, Extend, Destroy, Open, Close, Cancel, Undo] {
            assert_eq!(Op::from_number(op as u8), Some(op));
        }
    }

    #[test]
    fn tags_are_places_and_generations_go_round() {
        assert_eq!([0, 7, u16::MAX].map(|tag| Tag(tag).index()), [0, 7, 65_535]);
        assert_eq!(Generation(7).next(), Generation(8));
        assert_eq!(Generation(u32::MAX).next(), Generation(0));
    }

    #[test]
    fn unknown_flags_and_ops_are_refused() {
        assert_eq!(Submission::from_words([3 << 16, 0, 0]), Err(BadSubmission::Op(3)));
        assert_eq!(Submission::from_words([1 << 16 | 2 << 24, 0, 0]), Err(BadSubmission::Flags(2)));
    }
}
