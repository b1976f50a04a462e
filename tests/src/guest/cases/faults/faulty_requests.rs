// SPDX-License-Identifier: GPL-2.0-only
//! A server that fails a fifth of all requests, in every way that another try helps against: users
//! see no error. And faults that no try helps against: their errno, at once, and no harm done.

use std::time::Duration;

use nix::errno::Errno;

use super::admin::Admin;
use super::load::SMALL_SIZES;
use super::loaded::Loaded;
use super::{Campaign, Figures, Plan};
use crate::guest::cases::io::disk::Disk;
use crate::guest::cases::io::{leave, timed};
use crate::guest::udev::settle;
use crate::guest::wait::{patiently, wait_for};
use crate::guest::{sysfs, Machine, TestResult};

const ADMIN_PORT: u16 = 8180;
/// What another try helps against: together 20 %.
const RETRYABLE: &str = "any:3%:delay=5..100 any:2.5%:status=500 any:2%:status=503 \
    any:1%:status=502 any:1%:status=408 any:0.2%:busy=1 any:2%:reset-before any:2%:reset-amid \
    any:1%:reset-after any:1.5%:short-body any:1%:long-body any:1.2%:garbage any:1.5%:lost-reply \
    any:0.05%:late=300 any:0.05%:freeze=2500";
/// Tries after the first. Of 10^6 requests, a fifth of whose tries fails, 10^6 x 0.2^(n+1) fail n
/// more times: with 15, less than one in 10^4 campaigns sees one that fails for good.
const RETRIES: u64 = 15;
/// Seconds for an answer: shorter than a freeze, so that it is noticed.
const ANSWER_SECS: u64 = 2;
/// How soon a fault that no try helps against must be reported.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Its size is the number of faulty requests.
pub(super) const CAMPAIGN: Campaign = Campaign {
    name: "faulty_requests",
    run,
    short: 300,
    full: 20_000,
    bound: Duration::from_secs(3600),
    memory_mib: 2048,
    fails_requests: true,
    allowed: &[],
};

/// What no try helps against: how the server fails, what an attach then fails with (nothing if the
/// fault is none of such requests), and what a read and a write fail with. The block layer knows
/// fewer errors than commands.
type Fatal = (&'static str, Option<Errno>, Option<Errno>, Option<Errno>);
const FATAL: [Fatal; 7] = [
    ("status=401", Some(Errno::EACCES), Some(Errno::EIO), Some(Errno::EIO)),
    ("status=403", Some(Errno::EACCES), Some(Errno::EIO), Some(Errno::EIO)),
    ("status=404", Some(Errno::ENOENT), Some(Errno::EIO), Some(Errno::EIO)),
    ("status=507", Some(Errno::ENOSPC), Some(Errno::ENOSPC), Some(Errno::ENOSPC)),
    ("full", Some(Errno::ENOSPC), Some(Errno::ENOSPC), Some(Errno::ENOSPC)),
    ("wrong-range", None, Some(Errno::EIO), None),
    ("ignore-range", None, Some(Errno::EIO), None),
];

fn run(plan: &Plan, figures: &mut Figures) -> TestResult {
    let machine = Machine::builder()
        .parameter("nb_req_retries", RETRIES)
        .parameter("req_timeout", ANSWER_SECS)
        .playground_arg("--admin-port")
        .playground_arg(ADMIN_PORT.to_string())
        .start()?;
    let admin = Admin(ADMIN_PORT);
    let fatal = fatal_faults(&machine, admin)?;
    figures.set("fatal_faults", fatal);
    retryable_faults(plan, figures, &machine, admin)
}

fn retryable_faults(
    plan: &Plan,
    figures: &mut Figures,
    machine: &Machine,
    admin: Admin,
) -> TestResult {
    let loaded = Loaded::start(machine, SMALL_SIZES, plan.random())?;
    let before = admin.faulty()?;
    admin.set_plan(&format!("seed={} {RETRYABLE}", plan.seed))?;
    let mut count = 0;
    let outcome = wait_for("enough requests were faulty", CAMPAIGN.bound, || {
        count = admin.faulty()?.saturating_sub(before);
        if !loaded.goes_on() {
            return Err("a load has ended".into());
        }
        Ok((count >= plan.size).then_some(()))
    });
    let report = admin.report()?;
    admin.clear_plan()?;
    admin.flush_late()?;
    figures.set("count", count);
    for name in ["requests", "kinds"] {
        figures.set(name, report.get(name).cloned().unwrap_or_default());
    }
    loaded.finish(machine, figures, outcome)
}

/// Goes through [`FATAL`]; returns how many faults it has seen reported.
fn fatal_faults(machine: &Machine, admin: Admin) -> TestResult<u64> {
    machine.create("vol4", "1M")?;
    let device = machine.attach("vol4", "disk4")?;
    settle()?;
    let disk = Disk::open(&device.path())?;
    let (written, other) = (vec![0x5a; 8192], vec![0xa5; 8192]);
    assert_eq!(disk.write(4096, &written), Ok(written.len()));
    machine.create("vol3", "1M")?;
    let mut seen = 0;
    for (fault, command, read, write) in FATAL {
        let mut check = |what: &str, expected: Option<Errno>, run: &dyn Fn() -> Outcome| {
            let Some(errno) = expected else { return Ok(()) };
            seen += 1;
            expect_at_once(&format!("{what} with {fault}"), errno, run)
        };
        let attach = || sysfs::command("attach", "vol3 disk3");
        if command.is_some() {
            admin.set_plan(&format!("control:100%:{fault}"))?;
            check("attach", command, &attach)?;
        }
        if read.is_some() {
            admin.set_plan(&format!("read:100%:{fault}"))?;
            check("a read", read, &|| disk.read(4096, 8192).map(drop))?;
        }
        if write.is_some() {
            admin.set_plan(&format!("write:100%:{fault}"))?;
            check("a write", write, &|| disk.write(4096, &other).map(drop))?;
        }
        admin.clear_plan()?;
        if disk.read(4096, 8192)? != written {
            return Err(format!("{fault}: other data than before").into());
        }
    }
    assert_eq!(sysfs::devices().len(), 1, "an attach that failed left a device");
    machine.destroy("vol3")?;
    drop(disk);
    leave(device)?;
    Ok(seen)
}

type Outcome = Result<(), Errno>;

fn expect_at_once(what: &str, errno: Errno, run: &dyn Fn() -> Outcome) -> TestResult {
    let (outcome, took) = timed(run);
    if outcome != Err(errno) {
        return Err(format!("{what}: {outcome:?}, not {errno}").into());
    }
    if took > patiently(AT_ONCE) {
        return Err(format!("{what}: {errno} after {took:?} only").into());
    }
    Ok(())
}
