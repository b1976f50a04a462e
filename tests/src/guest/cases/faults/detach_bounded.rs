// SPDX-License-Identifier: GPL-2.0-only
//! Whatever state srb is in, and whoever uses its devices: detaching all of them by force and
//! unloading the module end soon, and no task is left stuck.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{millis, Campaign, Figures, Plan};
use crate::guest::cases::hostile_program::WORD;
use crate::guest::cases::io::disk::Disk;
use crate::guest::cases::io::join;
use crate::guest::process::{self, stuck};
use crate::guest::random::Random;
use crate::guest::udev::settle;
use crate::guest::wait::{patiently, wait_until};
use crate::guest::{clean, sysfs, Device, Machine, Mount, TestResult};

/// How long all of it may take.
const BOUND: Duration = Duration::from_secs(10);
/// How long a step may take before the test gives up.
const STEP: Duration = Duration::from_secs(60);
/// How long a task may be about to leave D state.
const D_STATE: Duration = Duration::from_secs(1);
/// The longest that a state lasts before the detach, in milliseconds.
const STATE_MS: u64 = 600;

/// Its size is the number of states.
pub(super) const CAMPAIGN: Campaign = Campaign {
    name: "detach_bounded",
    run,
    short: 6,
    full: 60,
    bound: Duration::from_secs(3600),
    memory_mib: 2048,
    fails_requests: true,
    allowed: &["EXT4-fs", "JBD2", "Aborting journal", "Buffer I/O error on device disk"],
};

/// What is wrong when the devices are detached.
#[derive(Debug, Clone, Copy)]
enum State {
    NoAgent,
    StuckAgent,
    NoServer,
    FrozenServer,
    CorruptRing,
    PolicyQueue,
}

const STATES: [State; 6] = [
    State::NoAgent,
    State::StuckAgent,
    State::NoServer,
    State::FrozenServer,
    State::CorruptRing,
    State::PolicyQueue,
];

impl State {
    fn enter(self, machine: &mut Machine, devices: &[Device], random: &mut Random) -> TestResult {
        match self {
            Self::NoAgent => machine.kill_agent(),
            Self::StuckAgent => machine.agent()?.stop(),
            Self::NoServer => machine.playground(0)?.kill(),
            Self::FrozenServer => machine.playground(0)?.daemon()?.stop(),
            Self::CorruptRing => {
                machine.kill_agent()?;
                let mut command = Command::new("/proc/self/exe");
                let seed = random.below(1 << 30).to_string();
                command.args([WORD, "storm", &seed, "400"]);
                process::run(&mut command, STEP)?.success().map(drop)
            }
            Self::PolicyQueue => {
                for device in devices {
                    sysfs::write(device.sysfs("srb_policy"), "queue")?;
                }
                machine.playground(0)?.kill()
            }
        }
    }
}

/// Somebody who reads and writes a device and takes no offence at errors.
struct User {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<TestResult>,
}

impl User {
    fn start(work: impl Fn() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            // ORDERING: a flag that guards nothing.
            while !told.load(Ordering::Relaxed) {
                work();
                // A dead device fails at once, and would take all of a CPU.
                thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        });
        Self { stop, thread }
    }

    /// Of the device itself.
    fn direct(path: PathBuf) -> TestResult<Self> {
        let disk = Disk::open(&path)?;
        Ok(Self::start(move || {
            // Whatever comes of it will do, as long as something does.
            let _ = disk.write(8192, &[7; 65536]);
            let _ = disk.read(0, 4096);
        }))
    }

    /// Of a mounted filesystem, through the page cache.
    fn files(folder: &Path) -> Self {
        let path = folder.join("file");
        Self::start(move || {
            let written = std::fs::write(&path, vec![3; 256 << 10]);
            // As above.
            let _ = written.and_then(|()| std::fs::File::open(&path)?.sync_all());
        })
    }

    fn finish(self) -> TestResult {
        // ORDERING: as above.
        self.stop.store(true, Ordering::Relaxed);
        wait_until("a user's request ends", STEP, || self.thread.is_finished())?;
        join(self.thread)
    }
}

/// One machine in one state, from loading the module to unloading it; returns how long the latter
/// part took.
fn round(state: State, random: &mut Random) -> TestResult<Duration> {
    let mut machine = Machine::builder().start()?;
    let (mut devices, mut users, mut mounts) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..=random.below(3) {
        machine.create(&format!("vol{number}"), "32M")?;
        devices.push(machine.attach(&format!("vol{number}"), &format!("disk{number}"))?);
    }
    settle()?;
    for device in &devices {
        match random.below(3) {
            0 => {}
            1 => users.push(User::direct(device.path())?),
            _ => {
                machine.sh(&format!("mkfs.ext4 -q {}", device.path().display()))?;
                let mount = device.mount()?;
                users.push(User::files(mount.path()));
                mounts.push(mount);
            }
        }
    }
    let used = (users.len(), mounts.len());
    println!("detach_bounded: {state:?}, {} devices, (users, mounts) {used:?}", devices.len());
    state.enter(&mut machine, &devices, random)?;
    thread::sleep(random.pause(0, STATE_MS));

    let began = Instant::now();
    let mut steps = Vec::new();
    for device in &devices {
        let line = format!("{} force", device.name());
        sysfs::command("detach", &line).map_err(|errno| format!("detach {line}: {errno}"))?;
        steps.push(began.elapsed());
    }
    // Users and mounts hold the module: they let go of disks that are dead, and so cannot hang.
    users.into_iter().try_for_each(User::finish)?;
    steps.push(began.elapsed());
    mounts.into_iter().try_for_each(Mount::unmount)?;
    steps.push(began.elapsed());
    if !matches!(state, State::NoAgent | State::CorruptRing) {
        machine.kill_agent()?;
    }
    clean::unload()?;
    let took = began.elapsed();
    steps.push(took);
    if took > patiently(BOUND) {
        return Err(format!("{state:?}: {steps:.2?}").into());
    }
    drop(devices);
    if let State::FrozenServer = state {
        machine.playground(0)?.daemon()?.signal(Signal::SIGCONT)?;
    }
    match stuck(D_STATE).as_slice() {
        [] => Ok(took),
        stuck => Err(format!("{state:?}: stuck in D state: {stuck:?}").into()),
    }
}

fn run(plan: &Plan, figures: &mut Figures) -> TestResult {
    let mut random = plan.random();
    let (mut count, mut worst) = (0u64, Duration::ZERO);
    let outcome = (0..plan.size).try_for_each(|number| {
        // Each state as often as any other; the seed decides on the rest.
        let state = STATES.get(number as usize % STATES.len()).copied().ok_or("a state")?;
        worst = worst.max(round(state, &mut random)?);
        count += 1;
        Ok(())
    });
    figures.set("count", count);
    figures.set("worst_ms", millis(worst));
    outcome
}
