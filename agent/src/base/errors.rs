// SPDX-License-Identifier: GPL-2.0-only
//! What can go wrong between the agent and the repository, and what follows from it.
//!
//! Before: a try fails somewhere in [`crate::paths`]. After: whoever asked logs the error, once,
//! and completes the request with its errno. The table is [`ErrorKind::rule`]; nothing else decides
//! on retries or numbers.

use std::fmt;
use std::time::Duration;

use nix::libc;

/// Why a request failed. In the order of what an error made of several answers is named after: the
/// last one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorKind {
    /// No URL is configured.
    NoUrl,
    /// `null:` stands beside other URLs.
    MixedNull,
    /// The operation makes no sense on this volume or repository.
    Invalid,
    /// The server does not honour ranges: nothing may be written to it.
    Unfit,
    /// This machine has no file descriptor, port or memory left for a connection.
    Shortage,
    /// The host's name has no address.
    Unresolved,
    /// No way to the host.
    Unreachable,
    /// Nobody listens at the port.
    Refused,
    /// No connection within the time.
    ConnectTimeout,
    /// No whole answer within the time.
    Timeout,
    /// The connection broke before the answer was whole.
    Broken,
    /// The answer is no HTTP.
    Garbage,
    /// The server cannot now: 408, 429, or 5xx.
    ServerFailed,
    /// The server answered with a status or a body that makes no sense for the request.
    Protocol,
    /// 416: beyond the volume's end.
    OutOfRange,
    /// Another 4xx.
    Rejected,
    /// 401 or 403.
    Denied,
    /// 413 or 507.
    Full,
    /// The volume exists.
    Exists,
    /// No such volume.
    NotFound,
    /// What became of the operation could not be found out.
    Unknown,
    /// Whoever asked for it does not want it any more, and what was done is undone.
    Cancelled,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whether another try can help.
    pub retry: bool,
    /// Whether another URL may do what this one never will.
    pub elsewhere: bool,
    /// Whether it counts against the URL's health, and how much.
    pub blame: Blame,
    /// Whether the server may have carried out the request all the same.
    pub ambiguous: bool,
    /// Positive.
    pub errno: i32,
}

/// What a failure says about the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Nothing: it was not asked.
    Ours,
    /// Nothing: the server works.
    None,
    /// It may be ill: several in a row make it down.
    Some,
    /// It is down.
    Down,
}

impl ErrorKind {
    /// Every kind, in order.
    pub const ALL: [Self; 22] = [
        Self::NoUrl,
        Self::MixedNull,
        Self::Invalid,
        Self::Unfit,
        Self::Shortage,
        Self::Unresolved,
        Self::Unreachable,
        Self::Refused,
        Self::ConnectTimeout,
        Self::Timeout,
        Self::Broken,
        Self::Garbage,
        Self::ServerFailed,
        Self::Protocol,
        Self::OutOfRange,
        Self::Rejected,
        Self::Denied,
        Self::Full,
        Self::Exists,
        Self::NotFound,
        Self::Unknown,
        Self::Cancelled,
    ];

    /// The table: kind → retry? → blame → ambiguous? → errno.
    #[must_use]
    pub const fn rule(self) -> Rule {
        use Blame::{Down, None, Ours, Some};
        let (retry, blame, ambiguous, errno) = match self {
            Self::NoUrl => (false, Ours, false, libc::EDESTADDRREQ),
            Self::MixedNull | Self::Invalid => (false, Ours, false, libc::EINVAL),
            Self::Unfit => (false, None, false, libc::EPROTO),
            Self::Shortage => (true, Ours, false, libc::EIO),
            Self::Unresolved | Self::Unreachable => (true, Down, false, libc::EHOSTUNREACH),
            Self::Refused => (true, Down, false, libc::ECONNREFUSED),
            Self::ConnectTimeout => (true, Down, false, libc::ETIMEDOUT),
            Self::Timeout => (true, Down, true, libc::ETIMEDOUT),
            Self::Broken => (true, Some, true, libc::EIO),
            Self::Garbage => (true, Some, true, libc::EPROTO),
            Self::ServerFailed => (true, Some, true, libc::EIO),
            Self::Protocol => (false, None, false, libc::EPROTO),
            Self::OutOfRange | Self::Rejected => (false, None, false, libc::EIO),
            Self::Denied => (false, None, false, libc::EACCES),
            Self::Full => (false, None, false, libc::ENOSPC),
            Self::Exists => (false, None, false, libc::EEXIST),
            Self::NotFound => (false, None, false, libc::ENOENT),
            Self::Unknown => (false, Ours, false, libc::EIO),
            Self::Cancelled => (false, Ours, false, libc::EINTR),
        };
        let elsewhere = retry || matches!(self, Self::Unfit);
        Rule { retry, elsewhere, blame, ambiguous, errno }
    }
}

/// The last that one URL had to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlAnswer {
    /// In canonical form.
    pub url: String,
    /// What its last answer amounts to.
    pub kind: ErrorKind,
    /// That answer, for people.
    pub text: String,
}

/// Why a try failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    /// What the URL did, as the rest of a sentence.
    pub(crate) text: String,
    /// How long the server wants to be left alone.
    pub(crate) retry_after: Option<Duration>,
    /// The server may have carried the operation out all the same.
    pub(crate) ambiguous: bool,
    /// What the server answered, if that was the reason.
    pub(crate) status: Option<u16>,
}

impl Failure {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        let ambiguous = kind.rule().ambiguous;
        Self { kind, text: text.into(), retry_after: None, ambiguous, status: None }
    }

    /// Whether it shows that the server does its work, whatever it thinks of the request.
    pub(crate) fn server_works(&self) -> bool {
        let answered = self.status.is_some_and(|status| status < 500);
        answered || self.kind.rule().blame == Blame::None
    }
}

/// Why a request failed, after all its tries.
///
/// Displayed as one line: what was asked, which URL answered what, after how many tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError {
    kind: ErrorKind,
    operation: String,
    answers: Vec<UrlAnswer>,
    tries: u32,
    ambiguous: bool,
    notes: Vec<String>,
}

impl RequestError {
    /// A failure in which no URL had a part, or a verdict on what the server answered well.
    #[must_use]
    pub fn plain(kind: ErrorKind, operation: impl fmt::Display, note: impl Into<String>) -> Self {
        let notes = vec![note.into()];
        let operation = operation.to_string();
        Self { kind, operation, answers: Vec::new(), tries: 0, ambiguous: false, notes }
    }

    /// A failure after tries; named after the most telling of the answers.
    #[must_use]
    pub fn after_tries(operation: impl fmt::Display, answers: Vec<UrlAnswer>, tries: u32) -> Self {
        let kind = answers.iter().map(|answer| answer.kind).max().unwrap_or(ErrorKind::NoUrl);
        let operation = operation.to_string();
        Self { kind, operation, answers, tries, ambiguous: false, notes: Vec::new() }
    }

    /// The same, after a try that a server may have carried out without saying so.
    #[must_use]
    pub fn may_have_happened_if(mut self, ambiguous: bool) -> Self {
        self.ambiguous |= ambiguous;
        self
    }

    /// The same under another name, after what was asked since.
    #[must_use]
    pub const fn became(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// The same as part of a larger operation.
    #[must_use]
    pub fn within(mut self, operation: impl fmt::Display) -> Self {
        let part = std::mem::replace(&mut self.operation, operation.to_string());
        self.notes.insert(0, format!("in {part}"));
        self
    }

    /// The same with something more to tell.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// What it amounts to.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// How many tries there were; 0 if nothing was sent.
    #[must_use]
    pub const fn tries(&self) -> u32 {
        self.tries
    }

    /// The last answer of each URL that was asked.
    #[must_use]
    pub fn answers(&self) -> &[UrlAnswer] {
        &self.answers
    }

    /// Whether a server may have carried the operation out although no answer said so.
    #[must_use]
    pub const fn may_have_happened(&self) -> bool {
        self.ambiguous
    }

    /// Whether the same request may succeed later: a server may be back then.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        self.kind.rule().retry
    }

    /// The number for the module, positive.
    #[must_use]
    pub const fn errno(&self) -> i32 {
        self.kind.rule().errno
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.operation)?;
        let mut separator = ": ";
        for answer in &self.answers {
            write!(f, "{separator}{} {}", answer.url, answer.text)?;
            separator = "; ";
        }
        for note in &self.notes {
            write!(f, "{separator}{note}")?;
            separator = "; ";
        }
        match self.tries {
            0 => Ok(()),
            1 => write!(f, " (1 try)"),
            tries => write!(f, " ({tries} tries)"),
        }
    }
}

impl std::error::Error for RequestError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kinds_that_a_retry_can_help_blame_the_url() {
        for kind in ErrorKind::ALL {
            let rule = kind.rule();
            let blamed = matches!(rule.blame, Blame::Some | Blame::Down);
            // What this machine lacks comes back, and is no server's fault.
            assert_eq!(rule.retry, blamed || kind == ErrorKind::Shortage, "{kind:?}");
            assert!(rule.retry || !rule.ambiguous, "{kind:?}");
            assert!(rule.elsewhere || !rule.retry, "{kind:?}");
            assert!(rule.errno > 0, "{kind:?}");
        }
    }

    #[test]
    fn all_kinds_are_listed_in_order() {
        assert!(ErrorKind::ALL.is_sorted());
        let mut kinds = ErrorKind::ALL.to_vec();
        kinds.dedup();
        assert_eq!(kinds.len(), ErrorKind::Cancelled as usize + 1);
    }

    #[test]
    fn what_may_get_better_names_an_error_rather_than_an_unfit_server() {
        let answer = |kind| UrlAnswer { url: String::new(), kind, text: String::new() };
        let named = |kinds: &[ErrorKind]| {
            let answers = kinds.iter().copied().map(answer).collect();
            RequestError::after_tries("write", answers, 1).kind()
        };
        assert_eq!(named(&[ErrorKind::Unfit, ErrorKind::Refused]), ErrorKind::Refused);
        assert_eq!(named(&[ErrorKind::Unfit, ErrorKind::Unfit]), ErrorKind::Unfit);
    }

    #[test]
    fn the_errnos_of_the_manual() {
        let errno = |kind: ErrorKind| kind.rule().errno;
        assert_eq!(errno(ErrorKind::NoUrl), libc::EDESTADDRREQ);
        assert_eq!(errno(ErrorKind::NotFound), libc::ENOENT);
        assert_eq!(errno(ErrorKind::Exists), libc::EEXIST);
        assert_eq!(errno(ErrorKind::Denied), libc::EACCES);
        assert_eq!(errno(ErrorKind::Full), libc::ENOSPC);
        assert_eq!(errno(ErrorKind::Unfit), libc::EPROTO);
        assert_eq!(errno(ErrorKind::OutOfRange), libc::EIO);
    }

    #[test]
    fn a_failure_says_what_may_be_tried_again() {
        let text = "did not answer within 2 s".to_owned();
        let answer = UrlAnswer { url: "http://a".to_owned(), kind: ErrorKind::Timeout, text };
        let error = RequestError::after_tries("write", vec![answer.clone()], 4);
        assert_eq!((error.tries(), error.answers()), (4, &[answer][..]));
        assert!(error.may_pass() && !error.may_have_happened());
        let error = error.may_have_happened_if(false).may_have_happened_if(true);
        assert!(error.may_have_happened());
        assert!(error.may_have_happened_if(false).may_have_happened(), "once is enough");
        assert!(!RequestError::plain(ErrorKind::NotFound, "read", "no volume").may_pass());
    }

    #[test]
    fn one_line_says_what_where_and_how_often() {
        let answer = |url: &str, kind, text: &str| UrlAnswer {
            url: url.to_owned(),
            kind,
            text: text.to_owned(),
        };
        let error = RequestError::after_tries(
            "size of volume v",
            vec![
                answer("http://a", ErrorKind::Refused, "refused the connection"),
                answer("http://b", ErrorKind::Timeout, "did not answer within 2 s"),
            ],
            4,
        );
        assert_eq!(error.errno(), libc::ETIMEDOUT);
        assert_eq!(
            error.within("create of volume v").with_note("undone").to_string(),
            "create of volume v: http://a refused the connection; http://b did not answer \
             within 2 s; in size of volume v; undone (4 tries)"
        );
    }
}
