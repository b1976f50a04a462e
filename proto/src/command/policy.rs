// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What becomes of a device's request when no server could be reached: `fail`, `queue` or
//! `queue=SECONDS`.

use core::fmt;

/// The longest time that [`Policy::QueueFor`] can say, in seconds: a day.
pub const MAX_QUEUE_SECS: u32 = 86_400;

/// Why a policy was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyError {
    /// None of the three words.
    Unknown,
    /// No number of seconds from 1 to [`MAX_QUEUE_SECS`].
    Seconds,
}

impl PolicyError {
    /// What is wrong, for people.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Unknown => "a policy is fail, queue or queue=SECONDS",
            Self::Seconds => "the seconds of a policy are a number from 1 to 86400",
        }
    }
}

/// What becomes of a request after its tries, when a server may be back later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// It fails.
    #[default]
    Fail,
    /// It is held and tried again until a server answers.
    Queue,
    /// The same, for so many seconds, then it fails. Not 0.
    QueueFor(u32),
}

/// [`Policy::Queue`] as a number.
const FOR_EVER: i64 = -1;

impl Policy {
    /// Parses a policy; white space around it is of no account.
    ///
    /// # Errors
    /// See [`PolicyError`].
    pub fn parse(text: &[u8]) -> Result<Self, PolicyError> {
        let text = text.trim_ascii();
        match text {
            b"fail" => return Ok(Self::Fail),
            b"queue" => return Ok(Self::Queue),
            _ => {}
        }
        let digits = text.strip_prefix(b"queue=").ok_or(PolicyError::Unknown)?;
        let number = core::str::from_utf8(digits).map_err(|_| PolicyError::Seconds)?;
        // `parse` would take a sign.
        let plain = number.bytes().all(|byte| byte.is_ascii_digit());
        let secs = number.parse().ok().filter(|_| plain).unwrap_or(0);
        match secs {
            1..=MAX_QUEUE_SECS => Ok(Self::QueueFor(secs)),
            _ => Err(PolicyError::Seconds),
        }
    }

    /// As a number of seconds, for an atomic or a message: 0 fails, -1 holds for ever.
    #[must_use]
    pub const fn to_secs(self) -> i64 {
        match self {
            Self::Fail => 0,
            Self::Queue => FOR_EVER,
            Self::QueueFor(secs) => secs as i64,
        }
    }

    /// From [`Self::to_secs`]; what is out of range counts as the nearest.
    #[must_use]
    #[cfg_attr(
        not(MODULE),
        expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range")
    )]
    pub const fn from_secs(secs: i64) -> Self {
        match secs {
            0 => Self::Fail,
            1..=86_400 => Self::QueueFor(secs as u32),
            i64::MIN..=-1 => Self::Queue,
            _ => Self::QueueFor(MAX_QUEUE_SECS),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail => f.write_str("fail"),
            Self::Queue => f.write_str("queue"),
            Self::QueueFor(secs) => write!(f, "queue={secs}"),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;
    use std::vec::Vec;

    extern crate std;

    #[test]
    fn the_three_words() {
        assert_eq!(Policy::parse(b"fail\n"), Ok(Policy::Fail));
        assert_eq!(Policy::parse(b" queue "), Ok(Policy::Queue));
        assert_eq!(Policy::parse(b"queue=30\n"), Ok(Policy::QueueFor(30)));
        assert_eq!(Policy::parse(b"queue=86400"), Ok(Policy::QueueFor(MAX_QUEUE_SECS)));
        for text in ["", "Fail", "queue 30", "hold", "queue30"] {
            assert_eq!(Policy::parse(text.as_bytes()), Err(PolicyError::Unknown), "{text}");
        }
        for text in ["queue=", "queue=0", "queue=-1", "queue=+1", "queue=86401", "queue=1s"] {
            assert_eq!(Policy::parse(text.as_bytes()), Err(PolicyError::Seconds), "{text}");
        }
    }

    #[test]
    fn as_seconds_as_the_ring_carries_it() {
        let pairs = [
            (Policy::Fail, 0),
            (Policy::Queue, -1),
            (Policy::QueueFor(1), 1),
            (Policy::QueueFor(MAX_QUEUE_SECS), 86_400),
        ];
        for (policy, secs) in pairs {
            assert_eq!((policy.to_secs(), Policy::from_secs(secs)), (secs, policy));
        }
        assert_eq!(Policy::from_secs(i64::MIN), Policy::Queue);
        assert_eq!(Policy::from_secs(i64::MAX), Policy::QueueFor(MAX_QUEUE_SECS));
    }

    #[test]
    fn each_refusal_has_a_sentence_of_its_own() {
        super::super::tests::expect_sentences(
            [PolicyError::Unknown, PolicyError::Seconds].map(PolicyError::reason),
        );
    }

    proptest! {
        #[test]
        fn every_policy_survives(secs in -2i64..100_000) {
            let policy = Policy::from_secs(secs);
            prop_assert_eq!(Policy::parse(policy.to_string().as_bytes()), Ok(policy));
            prop_assert_eq!(Policy::from_secs(policy.to_secs()), policy);
        }

        #[test]
        fn no_input_panics(bytes: Vec<u8>) {
            let _ = Policy::parse(&bytes);
        }
    }
}
