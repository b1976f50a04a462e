// SPDX-License-Identifier: GPL-2.0-only
//! Deviations of servers in the field, switched on one by one to test what a client makes of them.

use std::num::NonZeroU32;
use std::str::FromStr;

/// One deviation; its name on the command line is in `from_str`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quirk {
    /// A ranged GET is answered 200 with exactly the bytes asked for.
    Reply200,
    /// The listing's JSON has a comma after its last child.
    TrailingComma,
    /// `cdmi_size` is a string, as in standard CDMI.
    SizeAsString,
    /// Each connection is closed after so many requests, with no `Connection: close` before.
    CloseAfter(NonZeroU32),
    /// Ranges are unknown: GET answers 200 with everything, a ranged PUT replaces the volume.
    IgnoreRange,
}

/// The deviations that a server has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quirks {
    /// See [`Quirk::Reply200`].
    pub reply_200: bool,
    /// See [`Quirk::TrailingComma`].
    pub trailing_comma: bool,
    /// See [`Quirk::SizeAsString`].
    pub size_as_string: bool,
    /// See [`Quirk::CloseAfter`].
    pub close_after: Option<NonZeroU32>,
    /// See [`Quirk::IgnoreRange`].
    pub ignore_range: bool,
}

/// A quirk's name that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "quirks are reply-200, trailing-comma, size-as-string, ignore-range, \
     and close-after=N with N at least 1"
)]
pub struct QuirkError;

impl FromStr for Quirk {
    type Err = QuirkError;

    fn from_str(text: &str) -> Result<Self, QuirkError> {
        match text {
            "reply-200" => Ok(Self::Reply200),
            "trailing-comma" => Ok(Self::TrailingComma),
            "size-as-string" => Ok(Self::SizeAsString),
            "ignore-range" => Ok(Self::IgnoreRange),
            _ => {
                let count = text.strip_prefix("close-after=").ok_or(QuirkError)?;
                count.parse().map(Self::CloseAfter).map_err(|_| QuirkError)
            }
        }
    }
}

impl FromIterator<Quirk> for Quirks {
    fn from_iter<I: IntoIterator<Item = Quirk>>(quirks: I) -> Self {
        let mut all = Self::default();
        for quirk in quirks {
            match quirk {
                Quirk::Reply200 => all.reply_200 = true,
                Quirk::TrailingComma => all.trailing_comma = true,
                Quirk::SizeAsString => all.size_as_string = true,
                Quirk::CloseAfter(count) => all.close_after = Some(count),
                Quirk::IgnoreRange => all.ignore_range = true,
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_switches_its_quirk() -> Result<(), QuirkError> {
        let names =
            ["reply-200", "trailing-comma", "size-as-string", "close-after=3", "ignore-range"];
        let quirks: Quirks =
            names.iter().map(|name| name.parse::<Quirk>()).collect::<Result<_, _>>()?;
        let all = Quirks {
            reply_200: true,
            trailing_comma: true,
            size_as_string: true,
            close_after: NonZeroU32::new(3),
            ignore_range: true,
        };
        assert_eq!(quirks, all);
        Ok(())
    }

    #[test]
    fn other_names_are_refused() {
        for name in ["", "reply", "close-after", "close-after=", "close-after=0", "close-after=-1"]
        {
            assert_eq!(name.parse::<Quirk>(), Err(QuirkError), "{name:?}");
        }
    }
}
