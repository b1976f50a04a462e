// SPDX-License-Identifier: GPL-2.0-only
//! Commands that fail halfway, again and again: nothing of them is left, on the server, in the
//! kernel or in the agent.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::admin::Admin;
use super::{Campaign, Figures, Plan};
use crate::guest::cases::io::leaks::Usage;
use crate::guest::cases::io::proxy::Proxy;
use crate::guest::cases::io::set_parameter;
use crate::guest::process::Daemon;
use crate::guest::random::Random;
use crate::guest::udev::settle;
use crate::guest::wait::{wait_for, wait_until};
use crate::guest::{sysfs, Machine, TestResult};

const PORT: u16 = 8080;
const ADMIN_PORT: u16 = 8180;
/// Rounds until caches have all that they keep.
const WARM_UP: u64 = 5;
/// How long freed memory may take to be free, and udev to be done.
const SOON: Duration = Duration::from_secs(30);
/// What the scratch volumes begin with that an agent makes to see whether a server honours ranges.
/// It tries once to delete such a one, and again after a day; no listing shows it meanwhile.
const SCRATCH: &str = ".srb-probe-";
/// What the volume of a create that fails is called.
const HALF: &str = "half";

/// Its size is the number of rounds, in each of which every command fails in every way.
pub(super) const CAMPAIGN: Campaign = Campaign {
    name: "half_done",
    run,
    short: 2,
    full: 50,
    bound: Duration::from_secs(3600),
    memory_mib: 2048,
    fails_requests: true,
    allowed: &[],
};

/// The machine, whose agent reaches the server through a proxy.
struct Bench {
    machine: Machine,
    proxy: Proxy,
    admin: Admin,
    /// Scratch volumes that were left, and then removed here.
    scratch: u64,
}

impl Bench {
    fn start() -> TestResult<Self> {
        let machine = Machine::builder()
            .parameter("nb_req_retries", 1)
            .parameter("agent_grace", 0)
            .playground_arg("--admin-port")
            .playground_arg(ADMIN_PORT.to_string())
            .without_urls()
            .start()?;
        let proxy = Proxy::start(PORT)?;
        sysfs::command("add_urls", proxy.url())?;
        machine.create("vol1", "16M")?;
        Ok(Self { machine, proxy, admin: Admin(ADMIN_PORT), scratch: 0 })
    }

    /// Fails if there is anything of a device, or a volume that no command has made.
    fn expect_nothing(&mut self, after: &str) -> TestResult {
        let devices = sysfs::devices();
        if !devices.is_empty() || Path::new("/dev/disk1").exists() {
            return Err(format!("{after}: left {devices:?} or a node").into());
        }
        let data = self.machine.playground(0)?.data().to_owned();
        let mut volumes = Vec::new();
        for entry in fs::read_dir(data)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(SCRATCH) {
                self.scratch += 1;
                fs::remove_file(entry.path())?;
            } else {
                volumes.push(entry.file_name());
            }
        }
        if volumes != ["vol1"] {
            return Err(format!("{after}: left the volumes {volumes:?}").into());
        }
        Ok(())
    }
}

/// A command that must fail; with any of these errors.
fn refused(what: &str, file: &str, words: &str, expected: &[Errno]) -> TestResult {
    match sysfs::command(file, words) {
        Err(errno) if expected.contains(&errno) => Ok(()),
        outcome => Err(format!("{what}: {outcome:?}, not one of {expected:?}").into()),
    }
}

fn attach_refused(what: &str, expected: &[Errno]) -> TestResult {
    refused(what, "attach", "vol1 disk1", expected)
}

/// The connection ends between the two halves of a create.
fn create_cut_between_its_halves(bench: &mut Bench) -> TestResult {
    let before = bench.proxy.cuts();
    bench.proxy.cut_at(Some("x-scal-truncate"));
    let outcome = refused("create", "create", &format!("{HALF} 1M"), &[Errno::EIO]);
    bench.proxy.cut_at(None);
    outcome?;
    // The first try and the other one that is allowed, each again if it met an old connection.
    let cuts = bench.proxy.cuts() - before;
    if !(2..=4).contains(&cuts) {
        return Err(format!("{cuts} tries were cut").into());
    }
    bench.expect_nothing("a create cut between its halves")
}

/// The server refuses the second half of a create.
fn create_fails_for_good(bench: &mut Bench, random: &mut Random) -> TestResult {
    // Half of the requests fail: which halves of a create do, the seed decides.
    let seed = random.below(1 << 30);
    bench.admin.set_plan(&format!("seed={seed} control:30%:status=500 control:20%:lost-reply"))?;
    let outcome = sysfs::command("create", format!("{HALF} 1M"));
    bench.admin.clear_plan()?;
    match outcome {
        // It was tried again with success; or it has not happened.
        Ok(()) => bench.machine.destroy(HALF)?,
        Err(Errno::EIO) => {
            // What undoes it may have failed as well: then the operator is told, and destroys it.
            let left = bench.machine.playground(0)?.data().join(HALF).exists();
            if left {
                println!("half_done: seed {seed}: undoing the create failed too");
                bench.machine.destroy(HALF)?;
            }
        }
        Err(errno) => return Err(format!("create with seed {seed}: {errno}").into()),
    }
    bench.expect_nothing(&format!("a create that fails (plan's seed {seed})"))
}

/// The server's answer ends an attach before there is a device.
fn stat_fails(bench: &mut Bench) -> TestResult {
    for (fault, errno) in [
        ("status=404", Errno::ENOENT),
        ("status=403", Errno::EACCES),
        ("status=500", Errno::EIO),
        ("garbage", Errno::EPROTO),
        ("reset-before", Errno::EIO),
    ] {
        bench.admin.set_plan(&format!("control:100%:{fault}"))?;
        let outcome = attach_refused(fault, &[errno]);
        bench.admin.clear_plan()?;
        outcome?;
        bench.expect_nothing(fault)?;
    }
    refused("no volume", "attach", "nosuch disk1", &[Errno::ENOENT])?;
    bench.expect_nothing("attach of no volume")
}

/// The name belongs to another disk, or to anything in /dev.
fn name_is_taken(bench: &mut Bench) -> TestResult {
    for name in ["vda", "null", "srb-control"] {
        refused(name, "attach", &format!("vol1 {name}"), &[Errno::EEXIST])?;
        bench.expect_nothing(name)?;
    }
    Ok(())
}

/// The agent has no room to map the device's channels.
fn open_is_refused(bench: &mut Bench) -> TestResult {
    let pid = bench.machine.agent()?.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let size = size.and_then(|text| text.split_whitespace().next()).ok_or("no VmSize")?;
    // Room for its own needs, not for a window of each tag.
    let limit = (size.parse::<u64>()? + (16 << 10)) << 10;
    let prlimit = |value: &str| -> TestResult {
        let mut command = Command::new("prlimit");
        command.arg("--pid").arg(pid.to_string()).arg(format!("--as={value}"));
        crate::guest::process::run(&mut command, SOON)?.success().map(drop)
    };
    prlimit(&format!("{limit}:unlimited"))?;
    let expected = [Errno::ENOMEM, Errno::EIO];
    let outcome = attach_refused("an agent without memory", &expected);
    prlimit("unlimited")?;
    outcome?;
    bench.expect_nothing("an agent without memory")
}

/// The agent dies, or hangs and is then killed, at a random moment of an attach.
fn agent_dies(bench: &mut Bench, random: &mut Random) -> TestResult {
    // The server takes its time for the first step, so that the agent dies in it or after it.
    bench.admin.set_plan("control:100%:delay=20..60")?;
    let attach = thread::spawn(|| sysfs::command("attach", "vol1 disk1"));
    thread::sleep(random.pause(0, 120));
    if random.one_in(2) {
        bench.machine.agent()?.stop()?;
    }
    bench.machine.kill_agent()?;
    let outcome = attach.join().map_err(|_| "the attaching thread panicked")?;
    bench.admin.clear_plan()?;
    bench.machine.start_agent()?;
    match outcome {
        // The agent was late to die.
        Ok(()) => {
            wait_for("disk1 is detached", SOON, || match sysfs::command("detach", "disk1") {
                Ok(()) => Ok(Some(())),
                Err(Errno::EBUSY) => Ok(None),
                Err(errno) => Err(format!("detach: {errno}").into()),
            })?
        }
        Err(Errno::ENOTCONN | Errno::EIO) => {}
        Err(errno) => return Err(format!("attach while the agent dies: {errno}").into()),
    }
    wait_until("the node is gone", SOON, || !Path::new("/dev/disk1").exists())?;
    bench.expect_nothing("an agent that dies")
}

/// Whoever waits for an attach is killed.
fn user_is_killed(bench: &mut Bench, random: &mut Random) -> TestResult {
    bench.admin.set_plan("control:100%:delay=400")?;
    let mut command = Command::new("bash");
    command.args(["-c", "echo vol1 disk1 > /sys/class/srb/attach"]);
    let mut echo = Daemon::start("attaching", &mut command)?;
    thread::sleep(random.pause(50, 300));
    // It may have ended.
    let _ = echo.signal(Signal::SIGKILL);
    let ended = wait_for("echo is dead", SOON, || echo.ended())?;
    bench.admin.clear_plan()?;
    if ended.success() {
        wait_until("disk1 is detached", SOON, || sysfs::command("detach", "disk1").is_ok())?;
    }
    bench.expect_nothing("an attach whose user was killed")
}

fn round(bench: &mut Bench, random: &mut Random) -> TestResult {
    create_cut_between_its_halves(bench)?;
    create_fails_for_good(bench, random)?;
    stat_fails(bench)?;
    name_is_taken(bench)?;
    open_is_refused(bench)?;
    user_is_killed(bench, random)?;
    agent_dies(bench, random)
}

fn run(plan: &Plan, figures: &mut Figures) -> TestResult {
    let mut random = plan.random();
    let mut bench = Bench::start()?;
    set_parameter("req_timeout", 5)?;
    let warm_up = WARM_UP.min(plan.size / 2);
    let mut before = None;
    let mut count = 0u64;
    let outcome: TestResult = (0..plan.size).try_for_each(|number| {
        if number == warm_up {
            settle()?;
            before = Some(Usage::now(&mut bench.machine)?);
        }
        round(&mut bench, &mut random)?;
        count += 1;
        Ok(())
    });
    figures.set("count", count);
    figures.set("scratch_volumes_left", bench.scratch);
    outcome?;
    settle()?;
    let before = before.ok_or("no round")?;
    let mut last = before;
    let flat = wait_for("memory is free again", SOON, || {
        last = Usage::now(&mut bench.machine)?;
        Ok(last.is_flat(&before).then_some(()))
    });
    println!("half_done: before {before:?}\nafter {last:?}");
    flat
}
