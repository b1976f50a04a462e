// SPDX-License-Identifier: GPL-2.0-only
//! A line of shell that is ended by Ctrl-C, and what it says then.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::process::Daemon;
use super::wait::{wait_for, wait_until};
use super::TestResult;

/// How long a line may take to start, and to end at Ctrl-C.
const BOUND: Duration = Duration::from_secs(30);

/// A shell that lives through signals that it traps, and says what became of its line.
pub struct Shell(Daemon);

impl Shell {
    /// Runs the line. What it printed is in `/run/NAME.log`, which it alone has.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, line: &str) -> TestResult<Self> {
        match fs::remove_file(Path::new("/run").join(format!("{name}.log"))) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let script = format!("trap : INT; {line}; echo status $?");
        Ok(Self(Daemon::start(name, Command::new("bash").arg("-c").arg(script))?))
    }

    /// Waits until its line waits in `write(2)`: a signal from now on is for that call. One that
    /// comes between the trap and the call is spent on the trap, and the call waits on.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_until_it_writes(&self) -> TestResult {
        // proc(5): the number of the call that it waits in, or `running`.
        let file = format!("/proc/{}/syscall", self.0.pid());
        let write = format!("{} ", nix::libc::SYS_write);
        wait_until("the command waits", BOUND, || {
            fs::read_to_string(&file).is_ok_and(|call| call.starts_with(&write))
        })
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> TestResult {
        self.0.signal(signal)
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn ended(&mut self) -> TestResult<bool> {
        Ok(self.0.ended()?.is_some())
    }

    /// What it said so far.
    #[must_use]
    pub fn said(&self) -> String {
        self.0.log()
    }

    /// Ctrl-C, once, on a line that waits ([`Self::wait_until_it_writes`], or its request has been
    /// seen elsewhere): how long it took to end, and what it said.
    ///
    /// # Errors
    /// When it does not end.
    pub fn interrupt(mut self) -> TestResult<(Duration, String)> {
        let began = Instant::now();
        self.signal(Signal::SIGINT)?;
        wait_for("the command ends at Ctrl-C", BOUND, || Ok(self.ended()?.then_some(())))?;
        Ok((began.elapsed(), self.said()))
    }

    /// Ctrl-C at any moment, and again until it ends, as somebody does at a keyboard: what it said.
    ///
    /// # Errors
    /// When it does not end.
    pub fn interrupt_until_it_ends(mut self) -> TestResult<String> {
        wait_for("the command ends at Ctrl-C", BOUND, || {
            if self.ended()? {
                return Ok(Some(()));
            }
            self.signal(Signal::SIGINT)?;
            Ok(None)
        })?;
        Ok(self.said())
    }
}
