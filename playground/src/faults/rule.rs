// SPDX-License-Identifier: GPL-2.0-only
//! One rule of a plan, `SCOPE:RATE%:KIND[=ARGUMENT]`, read and written.
//!
//! What each kind does to a request is in `docs/faults.md`, and in code in `act`.

use std::fmt;

/// A rate of 100 %: rates are counted in millionths.
pub(crate) const WHOLE: u32 = 1_000_000;
/// Decimals of a percentage that a millionth can show.
const DECIMALS: usize = 4;
/// The longest time that an argument may give: an hour.
const LONGEST_MS: u64 = 3_600_000;

/// What a request is, as far as rules care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// A GET of a part of a volume.
    Read,
    /// A PUT to a part of a volume.
    Write,
    /// Everything else.
    Control,
}

impl Class {
    pub(crate) const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Control];
}

/// The requests that a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// `read`: a GET with a range.
    Read,
    /// `write`: a PUT with a range.
    Write,
    /// `any`: both of them.
    Any,
    /// `control`: everything but these two.
    Control,
    /// `all`: every request.
    All,
}

impl Scope {
    const NAMES: [(Self, &'static str); 5] = [
        (Self::Read, "read"),
        (Self::Write, "write"),
        (Self::Any, "any"),
        (Self::Control, "control"),
        (Self::All, "all"),
    ];

    pub(crate) fn covers(self, class: Class) -> bool {
        match self {
            Self::Read => class == Class::Read,
            Self::Write => class == Class::Write,
            Self::Any => class != Class::Control,
            Self::Control => class == Class::Control,
            Self::All => true,
        }
    }
}

/// A fault without its argument, to count it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The answer is kept back.
    Delay,
    /// A status in place of doing it.
    Status,
    /// 429 with `Retry-After`.
    Busy,
    /// The connection is reset after the request's head.
    ResetBefore,
    /// The connection is reset amid the body.
    ResetAmid,
    /// The connection is reset after the answer.
    ResetAfter,
    /// The answer ends before it is whole.
    ShortBody,
    /// The answer goes on after its end.
    LongBody,
    /// Another range than was asked for.
    WrongRange,
    /// An answer that is no HTTP.
    Garbage,
    /// Done, and not answered.
    LostReply,
    /// Not answered, and done later.
    Late,
    /// 507 in place of doing it.
    Full,
    /// The request is held before it is done.
    Freeze,
    /// The range is overlooked.
    IgnoreRange,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 15] = [
        Self::Delay,
        Self::Status,
        Self::Busy,
        Self::ResetBefore,
        Self::ResetAmid,
        Self::ResetAfter,
        Self::ShortBody,
        Self::LongBody,
        Self::WrongRange,
        Self::Garbage,
        Self::LostReply,
        Self::Late,
        Self::Full,
        Self::Freeze,
        Self::IgnoreRange,
    ];

    /// Its name in a plan.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delay => "delay",
            Self::Status => "status",
            Self::Busy => "busy",
            Self::ResetBefore => "reset-before",
            Self::ResetAmid => "reset-amid",
            Self::ResetAfter => "reset-after",
            Self::ShortBody => "short-body",
            Self::LongBody => "long-body",
            Self::WrongRange => "wrong-range",
            Self::Garbage => "garbage",
            Self::LostReply => "lost-reply",
            Self::Late => "late",
            Self::Full => "full",
            Self::Freeze => "freeze",
            Self::IgnoreRange => "ignore-range",
        }
    }

    /// Whether every request covered by the scope has what this kind falsifies.
    fn suits(self, scope: Scope) -> bool {
        match self {
            Self::WrongRange => scope == Scope::Read,
            Self::IgnoreRange => matches!(scope, Scope::Read | Scope::Write | Scope::Any),
            _ => true,
        }
    }
}

/// A fault with its argument; times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Not shorter than `min_ms`, not longer than `max_ms`.
    Delay {
        min_ms: u64,
        max_ms: u64,
    },
    /// 400 to 599.
    Status(u16),
    Busy {
        retry_after_secs: u32,
    },
    ResetBefore,
    ResetAmid,
    ResetAfter,
    ShortBody,
    LongBody,
    WrongRange,
    Garbage,
    LostReply,
    Late {
        ms: u64,
    },
    Full,
    Freeze {
        ms: u64,
    },
    IgnoreRange,
}

impl Fault {
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Delay { .. } => Kind::Delay,
            Self::Status(_) => Kind::Status,
            Self::Busy { .. } => Kind::Busy,
            Self::ResetBefore => Kind::ResetBefore,
            Self::ResetAmid => Kind::ResetAmid,
            Self::ResetAfter => Kind::ResetAfter,
            Self::ShortBody => Kind::ShortBody,
            Self::LongBody => Kind::LongBody,
            Self::WrongRange => Kind::WrongRange,
            Self::Garbage => Kind::Garbage,
            Self::LostReply => Kind::LostReply,
            Self::Late { .. } => Kind::Late,
            Self::Full => Kind::Full,
            Self::Freeze { .. } => Kind::Freeze,
            Self::IgnoreRange => Kind::IgnoreRange,
        }
    }

    fn parse(text: &str) -> Result<Self, RuleError> {
        let (name, argument) = match text.split_once('=') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        let fault = match (kind.ok_or(RuleError::Kind)?, argument) {
            (Kind::Delay, Some(span)) => {
                let (min, max) = span.split_once("..").unwrap_or((span, span));
                let (min_ms, max_ms) = (millis(min)?, millis(max)?);
                if min_ms > max_ms {
                    return Err(RuleError::Backwards);
                }
                Self::Delay { min_ms, max_ms }
            }
            (Kind::Status, Some(code)) => {
                let code = decimal(code).filter(|code| (400..600).contains(code));
                Self::Status(code.and_then(|code| code.try_into().ok()).ok_or(RuleError::Status)?)
            }
            (Kind::Busy, Some(secs)) => {
                let secs = decimal(secs).filter(|&secs| secs <= LONGEST_MS / 1000);
                let retry_after_secs = secs.and_then(|secs| secs.try_into().ok());
                Self::Busy { retry_after_secs: retry_after_secs.ok_or(RuleError::Secs)? }
            }
            (Kind::Late, Some(ms)) => Self::Late { ms: millis(ms)? },
            (Kind::Freeze, Some(ms)) => Self::Freeze { ms: millis(ms)? },
            (Kind::Delay | Kind::Status | Kind::Busy | Kind::Late | Kind::Freeze, None) => {
                return Err(RuleError::NoArgument);
            }
            (_, Some(_)) => return Err(RuleError::Argument),
            (Kind::ResetBefore, None) => Self::ResetBefore,
            (Kind::ResetAmid, None) => Self::ResetAmid,
            (Kind::ResetAfter, None) => Self::ResetAfter,
            (Kind::ShortBody, None) => Self::ShortBody,
            (Kind::LongBody, None) => Self::LongBody,
            (Kind::WrongRange, None) => Self::WrongRange,
            (Kind::Garbage, None) => Self::Garbage,
            (Kind::LostReply, None) => Self::LostReply,
            (Kind::Full, None) => Self::Full,
            (Kind::IgnoreRange, None) => Self::IgnoreRange,
        };
        Ok(fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind().name())?;
        match self {
            Self::Delay { min_ms, max_ms } if min_ms == max_ms => write!(f, "={min_ms}"),
            Self::Delay { min_ms, max_ms } => write!(f, "={min_ms}..{max_ms}"),
            Self::Status(code) => write!(f, "={code}"),
            Self::Busy { retry_after_secs } => write!(f, "={retry_after_secs}"),
            Self::Late { ms } | Self::Freeze { ms } => write!(f, "={ms}"),
            _ => Ok(()),
        }
    }
}

/// A rule: how often, which requests, what happens to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub(crate) scope: Scope,
    /// In millionths, at most [`WHOLE`].
    pub(crate) rate: u32,
    pub(crate) fault: Fault,
}

impl Rule {
    /// What it does.
    pub fn kind(&self) -> Kind {
        self.fault.kind()
    }

    /// The requests that it is for.
    pub fn scope(&self) -> Scope {
        self.scope
    }
}

/// What is wrong with a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RuleError {
    #[error("a rule is SCOPE:RATE%:KIND, such as read:2%:delay=20..200")]
    Form,
    #[error("scopes are read, write, any, control and all")]
    Scope,
    #[error("a rate is a percentage up to 100% with at most four decimals, such as 0.5%")]
    Rate,
    #[error(
        "kinds are delay, status, busy, reset-before, reset-amid, reset-after, short-body, \
         long-body, wrong-range, garbage, lost-reply, late, full, freeze and ignore-range"
    )]
    Kind,
    #[error(
        "this kind needs an argument: delay=MS or MIN..MAX, status=NNN, busy=SECS, late=MS, \
         freeze=MS"
    )]
    NoArgument,
    #[error("this kind has no argument")]
    Argument,
    #[error("a time is a number of milliseconds, at most 3600000")]
    Millis,
    #[error("a time to come back is a number of seconds, at most 3600")]
    Secs,
    #[error("the shortest delay is longer than the longest")]
    Backwards,
    #[error("a status is 400 to 599")]
    Status,
    #[error(
        "not every request of this scope has a range: wrong-range is for read, ignore-range \
         for read, write and any"
    )]
    Unsuited,
}

impl Rule {
    pub(crate) fn parse(text: &str) -> Result<Self, RuleError> {
        let (scope, rest) = text.split_once(':').ok_or(RuleError::Form)?;
        let (rate, fault) = rest.split_once(':').ok_or(RuleError::Form)?;
        let scope = Scope::NAMES.into_iter().find(|(_, name)| *name == scope);
        let (scope, _) = scope.ok_or(RuleError::Scope)?;
        let rate = rate.strip_suffix('%').and_then(percent).ok_or(RuleError::Rate)?;
        let fault = Fault::parse(fault)?;
        if !fault.kind().suits(scope) {
            return Err(RuleError::Unsuited);
        }
        Ok(Self { scope, rate, fault })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Scope::NAMES.into_iter().find(|(scope, _)| *scope == self.scope);
        let scope = name.map_or("", |(_, name)| name);
        let percent = WHOLE / 100;
        let (whole, part) = (self.rate / percent, self.rate % percent);
        let decimals = format!("{part:0DECIMALS$}");
        let decimals = decimals.trim_end_matches('0');
        let point = if decimals.is_empty() { "" } else { "." };
        write!(f, "{scope}:{whole}{point}{decimals}%:{}", self.fault)
    }
}

/// Millionths of a percentage.
fn percent(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').map_or((text, "0"), |parts| parts);
    let whole = decimal(whole).filter(|&whole| whole <= 100)?;
    if part.len() > DECIMALS {
        return None;
    }
    let part = decimal(&format!("{part:0<DECIMALS$}")).filter(|_| !part.is_empty())?;
    let millionths = whole * u64::from(WHOLE / 100) + part;
    u32::try_from(millionths).ok().filter(|&rate| rate <= WHOLE)
}

fn millis(text: &str) -> Result<u64, RuleError> {
    decimal(text).filter(|&ms| ms <= LONGEST_MS).ok_or(RuleError::Millis)
}

/// A number of digits alone: `parse` would take a sign.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}
