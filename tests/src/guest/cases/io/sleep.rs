// SPDX-License-Identifier: GPL-2.0-only
//! The machine goes to sleep: with requests and commands under way, and with some that nobody can
//! end.
//!
//! The kernel freezes all processes first, for as long as `pm_freeze_timeout` allows; one that
//! waits for a request keeps it from that. `pm_test` has it wake again right after that step.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::disk::Disk;
use super::{
    expect_error, expect_within, in_flight, join, leave, parked, set_parameter, timed,
    wait_for_log, with_failing_requests,
};
use crate::guest::kmsg::KernelLog;
use crate::guest::udev::settle;
use crate::guest::wait::wait_for;
use crate::guest::{sysfs, Case, Device, Machine, TestResult};

const STATE: &str = "/sys/power/state";
const TEST: &str = "/sys/power/pm_test";
const TIMEOUT: &str = "/sys/power/pm_freeze_timeout";
/// How long a machine that is being tested sleeps, in seconds.
const DELAY: &str = "/sys/module/suspend/parameters/pm_test_delay";

/// How often it is sent to sleep in one test.
const ROUNDS: u32 = 5;
/// Seconds that the kernel tries to freeze processes.
const FREEZING: u64 = 5;
/// How long a busy VM may be late with anything, in seconds.
const LATE: u64 = 12;
const SOON: Duration = Duration::from_secs(LATE);

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        named!("sleep", it_comes_under_load_and_the_load_goes_on),
        named!("sleep", it_comes_though_commands_wait),
        named!("sleep", it_is_refused_in_time_if_a_process_waits_for_an_agent),
        named!("sleep", it_is_refused_in_time_if_a_process_waits_for_a_server),
    ];
    // What the kernel says of processes that it could not freeze.
    let told = ["Freezing user space processes failed", "task:", "Call Trace", " PM: "];
    let case = |case: Case| {
        let case = with_failing_requests(case).needs(missing);
        told.iter().fold(case, |case, line| case.allow_log(line))
    };
    cases.into_iter().map(case).collect()
}

fn missing() -> Option<String> {
    let there = [STATE, TEST, TIMEOUT].iter().all(|path| Path::new(path).exists());
    (!there).then(|| "this kernel cannot be tested for sleep (CONFIG_PM_DEBUG)".to_owned())
}

/// The settings of sleep, as they were when this is dropped.
struct Settings;

impl Settings {
    fn new() -> TestResult<Self> {
        let settings = Self;
        fs::write(TIMEOUT, (FREEZING * 1000).to_string())?;
        fs::write(DELAY, "1")?;
        Ok(settings)
    }

    /// Sends the machine to sleep as far as that processes are frozen, for a second, and says what
    /// came of it when it is awake again.
    fn sleep(&self) -> TestResult<Result<(), Errno>> {
        fs::write(TEST, "freezer")?;
        let (outcome, took) = timed(|| sysfs::write(STATE, "freeze"));
        println!("sleep: {outcome:?} after {took:.1?}");
        expect_within("the sleep", took, 0, FREEZING + LATE)?;
        Ok(outcome)
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        for (path, word) in [(TEST, "none"), (TIMEOUT, "20000"), (DELAY, "5")] {
            if let Err(error) = fs::write(path, word) {
                println!("{path}: {error}");
            }
        }
    }
}

/// Threads that do I/O until they are told to stop; each has an own part of the device.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<TestResult<u64>>>,
}

impl Load {
    fn start(device: &Device) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for number in 0..4u64 {
            let (told, path) = (Arc::clone(&stop), device.path());
            threads.push(thread::spawn(move || {
                let (disk, at, mut count) = (Disk::open(&path)?, number << 22, 0);
                // ORDERING: a flag that guards nothing.
                while !told.load(Ordering::Relaxed) {
                    match number % 2 {
                        0 => drop(disk.read(at, 4096)?),
                        _ => drop(disk.write(at, &[7; 1 << 16])?),
                    }
                    count += 1;
                }
                Ok(count)
            }));
        }
        // Through the page cache, whose pages threads of the kernel write.
        let (told, path) = (Arc::clone(&stop), device.path());
        threads.push(thread::spawn(move || {
            let mut count = 0;
            // ORDERING: as above.
            while !told.load(Ordering::Relaxed) {
                let file = fs::OpenOptions::new().write(true).open(&path)?;
                std::os::unix::fs::FileExt::write_all_at(&file, &[9; 1 << 20], 32 << 20)?;
                file.sync_data()?;
                count += 1;
            }
            Ok(count)
        }));
        Self { stop, threads }
    }

    /// How much each thread did.
    fn finish(self) -> TestResult<Vec<u64>> {
        // ORDERING: as above.
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(join).collect()
    }
}

/// The servers of other tests would be frozen with all else: this load has none.
fn it_comes_under_load_and_the_load_goes_on() -> TestResult {
    let machine = Machine::builder().playgrounds(0).start()?;
    sysfs::command("add_urls", "null:64M")?;
    let device = machine.attach("any", "disk1")?;
    settle()?;
    let settings = Settings::new()?;
    let load = Load::start(&device);
    let slept = (0..ROUNDS).try_for_each(|round| -> TestResult {
        thread::sleep(Duration::from_millis(300));
        settings.sleep()?.map_err(|errno| format!("sleep {round}: {errno}").into())
    });
    thread::sleep(Duration::from_millis(300));
    let done = load.finish()?;
    println!("rounds of I/O: {done:?}");
    slept?;
    assert!(done.iter().all(|count| *count > 0));
    leave(device)
}

fn it_comes_though_commands_wait() -> TestResult {
    let mut machine = Machine::builder().start()?;
    machine.create("vol1", "16M")?;
    let device = machine.attach("vol1", "disk1")?;
    settle()?;
    let settings = Settings::new()?;
    machine.playground(0)?.daemon()?.stop()?;
    let creating = thread::spawn(|| Ok(sysfs::command("create", "vol2 16M")));
    let listing = thread::spawn(|| Ok(sysfs::read("/sys/class/srb/volumes")));
    thread::sleep(Duration::from_secs(1));
    for _ in 0..ROUNDS {
        assert_eq!(settings.sleep()?, Ok(()));
    }
    assert!(!creating.is_finished() && !listing.is_finished(), "they did not wait");
    machine.playground(0)?.daemon()?.signal(Signal::SIGCONT)?;
    assert_eq!(join(creating)?, Ok(()));
    assert!(join(listing)?.is_ok_and(|names| names.contains("vol1")));
    assert_eq!(Disk::open(&device.path())?.read(0, 4096)?.len(), 4096);
    leave(device)
}

type Outcome = Result<usize, Errno>;

fn writing(device: &Device) -> JoinHandle<TestResult<Outcome>> {
    let path = device.path();
    thread::spawn(move || Ok(Disk::open(&path).and_then(|disk| disk.write(4096, &[7; 4096]))))
}

/// Nobody but the process itself could take it off its wait; the kernel gives up in time, and all
/// goes on as before.
fn expect_refused(settings: &Settings, writer: &JoinHandle<TestResult<Outcome>>) -> TestResult {
    let outcome = settings.sleep()?;
    expect_error("sleep while a process waits", outcome, &[Errno::EBUSY])?;
    assert!(!writer.is_finished(), "the write did not wait");
    Ok(())
}

fn it_is_refused_in_time_if_a_process_waits_for_an_agent() -> TestResult {
    let mut machine = Machine::builder().parameter("agent_grace", -1).start()?;
    machine.create("vol1", "16M")?;
    let device = machine.attach("vol1", "disk1")?;
    settle()?;
    let settings = Settings::new()?;
    machine.kill_agent()?;
    // Nobody waits yet.
    assert_eq!(settings.sleep()?, Ok(()));
    let writer = writing(&device);
    wait_for("the write waits", SOON, || Ok((parked(&device)? > 0).then_some(())))?;
    expect_refused(&settings, &writer)?;
    machine.start_agent()?;
    assert_eq!(join(writer)?, Ok(4096));
    assert_eq!(settings.sleep()?, Ok(()));
    assert_eq!(Disk::open(&device.path())?.read(4096, 4096)?, [7; 4096]);
    leave(device)
}

fn it_is_refused_in_time_if_a_process_waits_for_a_server() -> TestResult {
    let machine = Machine::builder().parameter("nb_req_retries", 0).parameter("policy", "queue");
    let mut machine = machine.parameter("req_timeout", 1).start()?;
    machine.create("vol1", "16M")?;
    let device = machine.attach("vol1", "disk1")?;
    settle()?;
    let settings = Settings::new()?;
    let mut log = KernelLog::from_now()?;
    machine.playground(0)?.daemon()?.stop()?;
    let writer = writing(&device);
    wait_for_log(&mut log, "no server answers; requests are held", SOON)?;
    expect_refused(&settings, &writer)?;
    set_parameter("req_timeout", 30)?;
    machine.playground(0)?.daemon()?.signal(Signal::SIGCONT)?;
    assert_eq!(join(writer)?, Ok(4096));
    wait_for("nothing is under way", SOON, || Ok((in_flight(&device)? == 0).then_some(())))?;
    assert_eq!(settings.sleep()?, Ok(()));
    leave(device)
}
