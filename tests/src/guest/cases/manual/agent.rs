// SPDX-License-Identifier: GPL-2.0-only
//! The agent as an operator meets it: missing, twice, restarted.

use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::{attached, detach, done, read_class, refused};
use crate::guest::wait::{patiently, wait_for};
use crate::guest::{process, sysfs, Case, Machine, TestResult};

const BOUND: Duration = Duration::from_secs(20);

/// What needs a server, and hence an agent.
const COMMANDS: [(&str, &str); 4] =
    [("create", "vol1 1M"), ("extend", "vol1 1M"), ("destroy", "vol1"), ("attach", "vol1 disk1")];

pub(super) fn cases() -> Vec<Case> {
    named!["agent":
        without_a_url_a_command_says_that_one_is_missing,
        without_an_agent_a_command_says_so_at_once,
        a_second_agent_is_refused_and_the_first_one_goes_on,
        a_stopped_agent_can_be_started_again,
        an_agent_that_is_ended_names_the_devices_that_it_leaves,
        an_agent_without_the_module_says_what_to_do,
    ]
    .into()
}

fn without_a_url_a_command_says_that_one_is_missing() -> TestResult {
    let _machine = Machine::builder().without_urls().start()?;
    for (file, words) in COMMANDS {
        refused(file, words, Errno::EDESTADDRREQ);
    }
    assert_eq!(read_class("volumes"), Err(Errno::EDESTADDRREQ));
    Ok(())
}

fn without_an_agent_a_command_says_so_at_once() -> TestResult {
    let mut machine = Machine::builder().without_agent().start()?;
    for _ in 0..2 {
        let (_, time) = super::timed(|| {
            for (file, words) in COMMANDS {
                refused(file, words, Errno::ENOTCONN);
            }
            assert_eq!(read_class("volumes"), Err(Errno::ENOTCONN));
        });
        assert!(time < patiently(Duration::from_secs(5)), "it took {time:?}");
        // The same after there was one.
        machine.start_agent()?;
        assert_eq!(read_class("volumes").as_deref(), Ok(""));
        machine.stop_agent()?;
    }
    Ok(())
}

fn a_second_agent_is_refused_and_the_first_one_goes_on() -> TestResult {
    let machine = Machine::builder().start()?;
    let device = attached(&machine, "vol1", "1M", "disk1")?;
    let second = process::run(&mut Command::new("srb-agent"), BOUND)?;
    let said = format!("{}{}", second.stdout, second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("another agent is connected"), "{said}");
    machine.sh("dd if=/dev/disk1 of=/dev/null bs=4k count=1 iflag=direct status=none")?;
    machine.sh("srbctl status --json | grep -q '\"session\":'")?;
    detach(device)
}

fn a_stopped_agent_can_be_started_again() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let device = attached(&machine, "vol1", "1M", "disk1")?;
    machine.sh("printf data | dd of=/dev/disk1 conv=fsync status=none")?;
    machine.stop_agent()?;
    refused("create", "vol2 1M", Errno::ENOTCONN);
    assert_eq!(sysfs::devices(), ["disk1"]);
    machine.start_agent()?;
    machine.sh("sysctl -q vm.drop_caches=3")?;
    assert_eq!(machine.sh("head -c 4 /dev/disk1")?, "data");
    done("create", "vol2 1M");
    detach(device)
}

/// What the agent has said since `begun`, after one of these signals.
fn last_words(machine: &mut Machine, signal: Signal, begun: usize) -> TestResult<String> {
    let mut agent = machine.take_agent()?;
    agent.signal(signal)?;
    let status = wait_for("the agent ends", BOUND, || agent.ended())?;
    assert!(status.success(), "{status}\n{}", agent.log());
    Ok(agent.log().get(begun..).unwrap_or_default().to_owned())
}

fn an_agent_that_is_ended_names_the_devices_that_it_leaves() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let one = attached(&machine, "vol1", "1M", "disk1")?;
    let two = attached(&machine, "vol2", "1M", "disk2")?;
    // Whatever the module's level is.
    machine.sh("srbctl params debug=0")?;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let begun = machine.agent()?.log().len();
        let said = last_words(&mut machine, signal, begun)?;
        assert!(said.contains("stopping while 2 devices are attached: disk1, disk2; "), "{said}");
        machine.start_agent()?;
    }
    machine.playground(0)?.daemon()?.stop()?;
    let write = "dd if=/dev/zero of=/dev/disk2 bs=4k count=1 oflag=direct status=none";
    let writer = thread::spawn(move || process::sh(write, BOUND));
    wait_for("the agent has the write", BOUND, || {
        let listed = machine.sh("srbctl inflight disk2")?;
        Ok(listed.contains("write").then_some(()))
    })?;
    let begun = machine.agent()?.log().len();
    let said = last_words(&mut machine, Signal::SIGTERM, begun)?;
    assert!(said.contains("disk1, disk2 (under way: 1 write, 0 reads); "), "{said}");
    machine.playground(0)?.daemon()?.signal(Signal::SIGCONT)?;
    machine.start_agent()?;
    writer.join().map_err(|_| "a thread panicked")??.success()?;
    // Nothing is said where nothing is left.
    detach(one)?;
    detach(two)?;
    let begun = machine.agent()?.log().len();
    let said = last_words(&mut machine, Signal::SIGTERM, begun)?;
    assert!(!said.contains("attached"), "{said}");
    Ok(())
}

fn an_agent_without_the_module_says_what_to_do() -> TestResult {
    let agent = process::run(&mut Command::new("srb-agent"), BOUND)?;
    let said = format!("{}{}", agent.stdout, agent.stderr);
    assert_eq!(agent.status.code(), Some(1), "{said}");
    assert!(said.contains("load srb.ko first"), "{said}");
    Ok(())
}
