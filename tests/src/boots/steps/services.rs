// SPDX-License-Identifier: GPL-2.0-only
//! What can befall an agent under systemd, and what its users see of it.

use std::thread;
use std::time::Duration;

use super::load::Load;
use super::{expect, run, started, FIGURE, STARTED};
use crate::guest::wait::{wait_for, wait_until};
use crate::guest::{Failed, TestResult};

/// The process that serves, of whichever unit: the last one that the module has told of.
fn serving() -> TestResult<String> {
    let connected = "s/.*srb: agent connected: process \\([0-9]*\\),.*/\\1/p";
    Ok(run(&format!("journalctl -kb -o cat | sed -n '{connected}' | tail -n 1"))?.trim().to_owned())
}

/// Seconds from the end of one agent to the next one, as the kernel's log has it.
fn gap() -> TestResult<f64> {
    let log = run("journalctl -kb -o short-monotonic | grep -E 'srb: agent (gone|connected)'")?;
    let time = |word: &str| {
        let line = log.lines().rev().find(|line| line.contains(word))?;
        line.trim_start_matches(['[', ' ']).split(']').next()?.parse::<f64>().ok()
    };
    match (time("agent gone"), time("agent connected")) {
        // One that takes over is there before the old one goes.
        (Some(gone), Some(connected)) => Ok((connected - gone).max(0.0)),
        _ => Err(Failed::from(format!("no agent has come and gone: {log}"))),
    }
}

/// What befalls the serving agent, or its unit; another one serves afterwards. The pause is the
/// longest that a write through to the volume took.
fn pause(what: &str, event: &str, bound: Duration) -> TestResult {
    let before = serving()?;
    let unit = run(&format!("ps -o unit= -p {before}"))?;
    let load = Load::start()?;
    thread::sleep(Duration::from_secs(1));
    run(&event.replace("PID", &before).replace("UNIT", unit.trim()))?;
    wait_for("another agent", bound, || Ok((serving()? != before).then_some(())))?;
    thread::sleep(Duration::from_secs(2));
    let longest = load.end()?;
    let (longest_ms, gap_ms) = (longest.as_millis(), gap()? * 1000.0);
    println!("{FIGURE}{what}: {gap_ms:.0} ms without an agent, longest write {longest_ms} ms");
    assert!(longest < bound, "{what}: {longest:?}");
    // Both units are at work again.
    wait_until("an agent stands by", STARTED, || run("grep -qx 1 /sys/class/srb/standbys").is_ok())
}

/// What befalls an agent under systemd, while a file system is written to.
pub(super) fn services() -> TestResult {
    expect("the machine", &started()?, "running")?;
    let load = Load::start()?;
    thread::sleep(Duration::from_secs(3));
    println!("{FIGURE}undisturbed: longest write {} ms", load.end()?.as_millis());
    let bound = Duration::from_secs(15);
    pause("kill -9", "kill -9 PID", bound)?;
    pause("reload", "systemctl reload srb-agent", bound)?;
    pause("restart", "systemctl restart UNIT", bound)?;
    // The watchdog ends a stuck process after half a minute, and by force ten seconds later.
    pause("the watchdog", "kill -STOP PID", Duration::from_secs(58))?;
    let why = run("journalctl -b -u 'srb-agent*' -o cat | grep -c -i watchdog")?;
    assert_ne!(why.trim(), "0", "no word of the watchdog");
    // The bound of a shutdown is none of anything else.
    run("systemctl restart srb-shutdown && findmnt /mnt")?;
    Ok(())
}

/// A later version of the packages that have the programs is installed, under load.
pub(super) fn next_version() -> TestResult {
    expect("the machine", &started()?, "running")?;
    pause("an upgrade", "dpkg -i /srb/next/srb_*.deb", Duration::from_secs(15))?;
    let version = run("dpkg-query -W -f '${Version}' srb")?;
    assert!(version.ends_with("+next"), "{version}");
    for process in run("pgrep -x srb-agent")?.split_whitespace() {
        let program = run(&format!("readlink /proc/{process}/exe"))?;
        expect("what an agent runs", &program, "/usr/sbin/srb-agent")?;
    }
    expect("failed units", &run("systemctl --failed --no-legend")?, "")
}
