// SPDX-License-Identifier: GPL-2.0-only
//! What went wrong, and the exit code of it.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use nix::errno::Errno;
use serde_json::json;

use crate::terminal::shown;

/// One failure, for people and for programs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Error {
    /// Whether the command line is to blame, and nothing was tried.
    pub(crate) usage: bool,
    /// What failed and why.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// What the system said.
    pub(crate) errno: Option<i32>,
    /// What the agent says of it.
    pub(crate) agent: Option<String>,
}

impl Error {
    /// The command line makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { usage: true, ..Self::failed(message) }
    }

    /// Something did not work.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    /// With what to do about it.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    fn to_json(&self) -> String {
        let name = self.errno.map(errno_name);
        json!({ "error": {
            "errno": self.errno, "name": name, "message": self.message, "hint": self.hint,
            "agent": self.agent,
        }})
        .to_string()
    }

    fn to_text(&self) -> String {
        let mut text = format!("srbctl: {}", lines(&self.message));
        for (what, more) in [("hint", &self.hint), ("agent", &self.agent)] {
            if let Some(more) = more {
                let _ = write!(text, "\n  {what}: {}", lines(more));
            }
        }
        text
    }
}

/// Safe for a terminal, with the line breaks that are meant.
fn lines(text: &str) -> String {
    text.split('\n').map(shown).collect::<Vec<_>>().join("\n")
}

/// Such as `EBUSY`.
pub(crate) fn errno_name(errno: i32) -> String {
    match Errno::from_raw(errno) {
        Errno::UnknownErrno => format!("errno {errno}"),
        known => format!("{known:?}"),
    }
}

/// All that a command failed at; never empty.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failures(pub(crate) Vec<Error>);

impl From<Error> for Failures {
    fn from(error: Error) -> Self {
        Self(vec![error])
    }
}

impl Failures {
    /// Tells stderr, and gives the exit code. Nobody is left to tell when stderr itself is gone.
    pub(crate) fn report(self, json: bool) -> ExitCode {
        let mut stderr = io::stderr().lock();
        for error in &self.0 {
            let text = if json { error.to_json() } else { error.to_text() };
            let _ = writeln!(stderr, "{text}");
        }
        ExitCode::from(if self.0.iter().all(|error| error.usage) { 2 } else { 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_cause_then_remedy_then_what_the_agent_knows() {
        let error = Error {
            agent: Some("http://a answered 503".into()),
            ..Error::failed("cannot do it: no").hint("something else")
        };
        assert_eq!(
            error.to_text(),
            "srbctl: cannot do it: no\n  hint: something else\n  agent: http://a answered 503"
        );
    }

    #[test]
    fn json_has_every_field() {
        let error = Error { errno: Some(17), ..Error::failed("it\u{1b} exists") };
        assert_eq!(
            error.to_json(),
            r#"{"error":{"agent":null,"errno":17,"hint":null,"#.to_owned()
                + r#""message":"it\u001b exists","name":"EEXIST"}}"#
        );
        assert_eq!(error.to_text(), r"srbctl: it\u{1b} exists");
        assert_eq!(errno_name(12345), "errno 12345");
    }
}
