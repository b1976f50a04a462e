// SPDX-License-Identifier: GPL-2.0-only
//! Runs tests one at a time, each with a bound, and looks at the machine after each.

use std::any::Any;
use std::fs;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::mpsc::{channel, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Conclusion, Trial};

use super::kmsg::KernelLog;
use super::wait::patiently;
use super::{clean, machine, races, Failed, TestResult};

/// How long a test may take if it does not say so itself; TCG is slow.
const BOUND: Duration = Duration::from_secs(120);
/// How long a test that was too slow may take to end once its processes are killed.
const LAST_CHANCE: Duration = Duration::from_secs(20);

type Body = Box<dyn FnOnce() -> TestResult + Send>;

/// A test: its name, what it does, and what it is allowed.
pub struct Case {
    name: String,
    body: Body,
    bound: Duration,
    allowed: Vec<String>,
    missing: fn() -> Option<String>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Case {
    /// A test of this name (`area::what_a_user_relies_on`).
    #[must_use]
    pub fn new(name: &str, body: impl FnOnce() -> TestResult + Send + 'static) -> Self {
        Self {
            name: name.to_owned(),
            body: Box::new(body),
            bound: BOUND,
            allowed: Vec::new(),
            missing: || None,
        }
    }

    /// Lets it take this long instead of two minutes.
    #[must_use]
    pub fn bound(mut self, bound: Duration) -> Self {
        self.bound = bound;
        self
    }

    /// Allows it to make the kernel log lines that contain this, such as the I/O errors that it
    /// provokes.
    #[must_use]
    pub fn allow_log(mut self, part: &str) -> Self {
        self.allowed.push(part.to_owned());
        self
    }

    /// Skips it where something is missing: the function says what.
    #[must_use]
    pub fn needs(mut self, missing: fn() -> Option<String>) -> Self {
        self.missing = missing;
        self
    }

    /// Runs it, looks at the machine, and restores it.
    ///
    /// # Errors
    /// The test's own failure, and all that it left behind.
    pub fn execute(self) -> TestResult {
        let mut log = KernelLog::from_now()?;
        let mut wrong: Vec<String> = Vec::new();
        let allowed = self.allowed;
        if let Err(why) = within(patiently(self.bound), self.body) {
            wrong.push(machine::message(&why));
        }
        wrong.extend(clean::check());
        let records = races::without_others(log.records()?);
        let findings = records.iter().filter(|record| record.is_finding());
        let findings: Vec<&str> = findings
            .map(|record| record.text.as_str())
            .filter(|text| !allowed.iter().any(|part| text.contains(part.as_str())))
            .collect();
        for text in &findings {
            wrong.push(format!("the kernel's log: {text}"));
        }
        if wrong.is_empty() {
            return Ok(());
        }
        wrong.extend(clean::restore().into_iter().map(|what| format!("NOT RESTORED: {what}")));
        let tail = records.len().saturating_sub(TAIL);
        let recent = records.iter().skip(tail).map(|record| format!("    {}", record.text));
        let recent: Vec<String> = recent.collect();
        Err(Failed::from(format!(
            "{}\nthe end of the kernel's log:\n{}",
            wrong.join("\n"),
            recent.join("\n")
        )))
    }
}

/// How many lines of the kernel's log a failure shows.
const TAIL: usize = 40;

/// Runs the body in a thread of its own; one that is late gets its processes killed, and is left
/// behind if that does not help.
fn within(bound: Duration, body: Body) -> TestResult {
    let (done, end) = channel();
    let runner = thread::Builder::new().name("test".to_owned());
    runner.spawn(move || {
        let result = catch_unwind(AssertUnwindSafe(body));
        let result = result.unwrap_or_else(|panic| Err(Failed::from(panic_text(&*panic))));
        // Nobody listens any more if it came too late.
        let _ = done.send(result);
    })?;
    match end.recv_timeout(bound) {
        Ok(result) => result,
        Err(RecvTimeoutError::Disconnected) => Err(Failed::from("the test's thread died")),
        Err(RecvTimeoutError::Timeout) => {
            // The stacks of blocked tasks: what it hangs in stands in the kernel's log then.
            fs::write("/proc/sysrq-trigger", "w")?;
            let restored = clean::restore();
            let ended = end.recv_timeout(LAST_CHANCE).is_ok();
            let how = if ended { "ended then" } else { "still hangs" };
            let text = format!("no end after {bound:?}; {how}, its processes killed {restored:?}");
            Err(Failed::from(text))
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("(no text)"))
}

/// Which of several machines this is, that share the tests among them: `SRB_SHARE=1/2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    first: usize,
    step: usize,
}

impl Share {
    fn parse(text: &str) -> Option<Self> {
        let (number, of) = text.split_once('/')?;
        let (number, step) = (number.parse::<usize>().ok()?, of.parse().ok()?);
        (1..=step).contains(&number).then(|| Self { first: number - 1, step })
    }

    fn from_environment() -> Self {
        let text = std::env::var("SRB_SHARE").unwrap_or_else(|_| "1/1".to_owned());
        Self::parse(&text).unwrap_or_else(|| panic!("SRB_SHARE={text}: not NUMBER/OF"))
    }
}

/// Runs those of the cases that the command line selects, as `cargo test` would: `[FILTER]
/// [--exact] [--list]`...
pub fn run(cases: Vec<Case>) -> Conclusion {
    let mut arguments = Arguments::from_args();
    // The machine is one.
    arguments.test_threads = Some(1);
    let share = Share::from_environment();
    let trials = cases.into_iter().skip(share.first).step_by(share.step).map(|case| {
        let name = case.name.clone();
        Trial::ignorable_test(name, move || match (case.missing)() {
            Some(reason) => {
                println!("SKIP: {}: {reason}", case.name);
                Ok(Completion::ignored_with(reason))
            }
            // Now as well as at the end: a long run may be cut off.
            None => case
                .execute()
                .inspect_err(|why| eprintln!("{}", machine::message(why)))
                .map(|()| Completion::Completed),
        })
    });
    libtest_mimic::run(&arguments, trials.collect())
}

#[cfg(test)]
mod tests {
    use super::Share;

    #[test]
    fn shares() {
        assert_eq!(Share::parse("2/3"), Some(Share { first: 1, step: 3 }));
        for text in ["", "1", "0/2", "3/2", "1/0", "a/b"] {
            assert_eq!(Share::parse(text), None, "{text}");
        }
    }
}
