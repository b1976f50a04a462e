// SPDX-License-Identifier: GPL-2.0-only
//! Processes of a test: commands that end within a bound, and daemons that end with their owner.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{channel, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{kill, killpg, Signal};
use nix::unistd::Pid;

use super::wait::patiently;
use super::wait::wait_until;
use super::{Failed, TestResult};

/// How long a process may take to die once it was told to.
pub const DEATH: Duration = Duration::from_secs(10);
/// How long a process may take to stop: a request that it waits for may be under way.
const STOP: Duration = Duration::from_secs(30);
/// How long the output of an ended command is waited for.
const PIPE: Duration = Duration::from_secs(3);
const STEP: Duration = Duration::from_millis(10);

/// What a command printed and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its stdout.
    pub stdout: String,
    /// Its stderr.
    pub stderr: String,
}

impl Output {
    /// The stdout of a command that succeeded.
    ///
    /// # Errors
    /// When it did not; the error has its status and all that it printed.
    pub fn success(self) -> TestResult<String> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        Err(Failed::from(format!(
            "{} ({}): {}{}",
            self.command, self.status, self.stdout, self.stderr
        )))
    }

    /// The stderr of a command that failed by itself, not by a signal.
    ///
    /// # Errors
    /// When it succeeded or was killed.
    pub fn failure(self) -> TestResult<String> {
        if self.status.code().is_some_and(|code| code != 0) {
            return Ok(self.stderr);
        }
        Err(Failed::from(format!("{} ({}): {}", self.command, self.status, self.stdout)))
    }
}

/// Runs a command to its end, at most for `bound`; then its whole process group is killed.
///
/// # Errors
/// When it cannot be started or does not end in time. An exit status other than 0 is no error here.
pub fn run(command: &mut Command, bound: Duration) -> TestResult<Output> {
    let name = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(|error| format!("{name}: {error}"))?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let Some(status) = wait_at_most(&mut child, bound)? else {
        signal_group(&child, Signal::SIGKILL);
        let died = wait_at_most(&mut child, DEATH)?.is_some();
        let text = text(&stdout) + &text(&stderr);
        let text = if died { text } else { format!("it cannot be killed; {text}") };
        return Err(Failed::from(format!("{name}: no end after {bound:?}: {text}")));
    };
    Ok(Output { command: name, status, stdout: text(&stdout), stderr: text(&stderr) })
}

/// Runs a line of shell, at most for `bound`.
///
/// # Errors
/// As [`run`].
pub fn sh(line: &str, bound: Duration) -> TestResult<Output> {
    run(Command::new("bash").arg("-c").arg(line), bound)
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read until an error is still worth showing.
            let _ = pipe.read_to_end(&mut bytes);
        }
        // Nobody listens any more if the pipe was held open for too long.
        let _ = sender.send(bytes);
    });
    receiver
}

/// What was collected; a daemon that the command left behind may hold its pipe open for ever.
fn text(collector: &Receiver<Vec<u8>>) -> String {
    match collector.recv_timeout(PIPE) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => "(a process that it left behind holds its output open)".to_owned(),
    }
}

fn wait_at_most(child: &mut Child, bound: Duration) -> TestResult<Option<ExitStatus>> {
    let (began, bound) = (Instant::now(), patiently(bound));
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if began.elapsed() > bound {
            return Ok(None);
        }
        thread::sleep(STEP);
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().unwrap_or(i32::MAX))
}

fn signal_group(child: &Child, signal: Signal) {
    // A group that is gone is what we want.
    let _ = killpg(pid(child), signal);
}

/// A process in the background, killed when dropped. What it prints is kept in a file.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it; its output goes to `/run/NAME.log`, after what an earlier one of that name left
    /// there.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command) -> TestResult<Self> {
        Self::start_in(Path::new("/run"), name, command)
    }

    /// As [`Self::start`], its output in this folder.
    ///
    /// # Errors
    /// As there.
    pub fn start_in(folder: &Path, name: &str, command: &mut Command) -> TestResult<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
        let child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        pid(&self.child)
    }

    /// What it printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends it a signal: SIGSTOP and SIGCONT for an agent that hangs, SIGKILL for a crash.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> TestResult {
        kill(self.pid(), signal).map_err(|errno| Failed::from(format!("{}: {errno}", self.name)))
    }

    /// Stops it with SIGSTOP, and waits until none of its threads does anything.
    ///
    /// # Errors
    /// As [`stop`].
    pub fn stop(&self) -> TestResult {
        stop(self.pid())
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn ended(&mut self) -> TestResult<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Ends it as an operator would, with SIGTERM.
    ///
    /// # Errors
    /// When it does not end in time, or ends with another status than 0.
    pub fn terminate(mut self) -> TestResult {
        self.signal(Signal::SIGTERM)?;
        match wait_at_most(&mut self.child, DEATH)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(self.failed(&format!("ended with {status} at SIGTERM"))),
            None => Err(self.failed("did not end at SIGTERM")),
        }
    }

    /// Kills it with SIGKILL, and waits for its end.
    ///
    /// # Errors
    /// When it does not die: it is then stuck in the kernel.
    pub fn kill(mut self) -> TestResult {
        signal_group(&self.child, Signal::SIGKILL);
        match wait_at_most(&mut self.child, DEATH)? {
            Some(status) if status.signal().is_some() || status.code().is_some() => Ok(()),
            _ => Err(self.failed("did not die at SIGKILL")),
        }
    }

    fn failed(&self, what: &str) -> Failed {
        Failed::from(format!("{} {what}; it printed:\n{}", self.name, self.log()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        signal_group(&self.child, Signal::SIGKILL);
        // One that does not die is found by the check after the test.
        let _ = wait_at_most(&mut self.child, DEATH);
    }
}

/// Stops a process with SIGSTOP, and waits until none of its threads does anything.
///
/// # Errors
/// When it is gone, or does not stop.
pub fn stop(pid: Pid) -> TestResult {
    kill(pid, Signal::SIGSTOP)?;
    let threads = format!("/proc/{pid}/task");
    wait_until("all threads have stopped", STOP, || {
        fs::read_dir(&threads).is_ok_and(|mut threads| {
            threads.all(|thread| {
                thread
                    .is_ok_and(|thread| task(&thread.path()).is_some_and(|task| task.state == 'T'))
            })
        })
    })
}

/// A process as /proc shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its id.
    pub pid: i32,
    /// Its name, at most 15 bytes of it.
    pub name: String,
    /// Its state: `R`, `S`, `D`, `Z`...
    pub state: char,
}

/// All processes of the machine.
#[must_use]
pub fn tasks() -> Vec<Task> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| task(&entry.path())).collect()
}

/// Reads `PID (NAME) STATE`; the name may hold anything, so it ends at the last parenthesis.
fn task(folder: &Path) -> Option<Task> {
    let pid = folder.file_name()?.to_str()?.parse().ok()?;
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    let (head, tail) = stat.rsplit_once(") ")?;
    let (_, name) = head.split_once(" (")?;
    Some(Task { pid, name: name.to_owned(), state: tail.chars().next()? })
}

/// The tasks that stay in D state for so long; one that only waits for its disk is soon out of it,
/// and another one may be in it by then.
#[must_use]
pub fn stuck(bound: Duration) -> Vec<Task> {
    stay_asleep(bound, tasks)
}

fn stay_asleep(bound: Duration, mut look: impl FnMut() -> Vec<Task>) -> Vec<Task> {
    let mut asleep = move || {
        let mut tasks = look();
        tasks.retain(|task| task.state == 'D');
        tasks
    };
    let mut stuck = asleep();
    // Those that are left when the bound is over were asleep at each look.
    let _ = wait_until("no task stays in D state", bound, || {
        let now = asleep();
        stuck.retain(|task| now.iter().any(|other| other.pid == task.pid));
        stuck.is_empty()
    });
    stuck
}

/// Kills every process of one of these names.
///
/// # Errors
/// When one is still there after [`DEATH`].
pub fn kill_all(names: &[&str]) -> TestResult {
    let named = || tasks().into_iter().filter(|t| t.state != 'Z' && names.contains(&&*t.name));
    for task in named() {
        // It may have ended meanwhile.
        let _ = kill(Pid::from_raw(task.pid), Signal::SIGKILL);
    }
    wait_until(&format!("{names:?} are gone"), DEATH, || named().next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(pids: &[i32]) -> Vec<Task> {
        let task = |pid: &i32| Task { pid: *pid, name: "x".to_owned(), state: 'D' };
        let awake = Task { pid: 99, name: "y".to_owned(), state: 'S' };
        pids.iter().map(task).chain([awake]).collect()
    }

    #[test]
    fn tasks_that_take_turns_are_not_stuck() {
        // There is one at each look, and none at all of them; whoever comes later is not at fault.
        let looks: [&[i32]; 3] = [&[1, 2], &[2, 3], &[3]];
        let mut looks = looks.into_iter().chain(std::iter::repeat(&[4][..]));
        let found = stay_asleep(Duration::from_secs(5), || look(looks.next().expect("endless")));
        assert_eq!(found, []);
    }

    #[test]
    fn one_that_stays_is_stuck() {
        let mut turn = 0;
        let found = stay_asleep(Duration::from_millis(50), || {
            turn += 1;
            look(&[7, 100 + turn])
        });
        assert_eq!(found.iter().map(|task| task.pid).collect::<Vec<_>>(), [7]);
    }
}
