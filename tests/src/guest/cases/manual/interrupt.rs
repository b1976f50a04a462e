// SPDX-License-Identifier: GPL-2.0-only
//! Ctrl-C on a command that waits, and what others may do meanwhile.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::server::{Answer, Request, Server};
use super::{detach, done, machine_at, read_class, refused};
use crate::guest::cases::io::with_failing_requests;
use crate::guest::process::Daemon;
use crate::guest::shell::Shell;
use crate::guest::udev;
use crate::guest::wait::{patiently, wait_for, wait_until};
use crate::guest::{sysfs, Case, Machine, TestResult};

const PLAYGROUND: u16 = 8080;
/// How long a try waits for its answer; a command makes several. The agent lets go of a volume
/// whose creation was interrupted when the try under way is over.
const HELD_SECS: u32 = 5;
/// How long a user waits after Ctrl-C.
const PROMPT: Duration = Duration::from_secs(2);
const BOUND: Duration = Duration::from_secs(20);

pub(super) fn cases() -> Vec<Case> {
    named!["interrupt":
        a_waiting_command_ends_at_ctrl_c_and_leaves_nothing,
        a_waiting_listing_ends_at_ctrl_c,
        an_interrupted_create_is_undone,
        an_interrupted_attach_leaves_no_device,
        a_volume_has_one_command_at_a_time,
        a_command_that_was_interrupted_never_begins_later,
        a_hung_agent_gives_up_a_destroy_that_was_interrupted,
        signals_that_mean_nothing_to_a_command_do_not_end_it,
    ]
    .into_iter()
    // Its devices go while they are looked at for partitions.
    .chain(named!["interrupt": a_child_that_ends_does_not_end_a_command].map(with_failing_requests))
    .collect()
}

/// Ctrl-C on a line that waits: it must end soon, with EINTR.
fn interrupt(shell: Shell) -> TestResult {
    let (time, said) = shell.interrupt()?;
    assert!(said.contains("Interrupted system call"), "it said: {said}");
    assert!(said.contains("status 1"), "it said: {said}");
    assert!(time < patiently(PROMPT), "it took {time:?}");
    Ok(())
}

/// A machine at a server that passes everything on but what `holds` says, which it never answers.
fn machine_held(
    holds: impl Fn(&Request) -> bool + Send + Sync + 'static,
) -> TestResult<(Server, Machine)> {
    let server =
        Server::start(
            move |request| {
                if holds(request) {
                    Answer::Silence
                } else {
                    Answer::Of(PLAYGROUND)
                }
            },
        )?;
    let machine = machine_at(&server, &[("req_timeout", HELD_SECS)])?;
    Ok((server, machine))
}

fn a_waiting_command_ends_at_ctrl_c_and_leaves_nothing() -> TestResult {
    let (server, machine) = machine_held(|request| request.path.starts_with("/held"))?;
    machine.create("vol1", "1M")?;
    for (number, line) in [
        "echo held-1 1M > /sys/class/srb/create",
        "echo held-2 1M > /sys/class/srb/extend",
        "echo held-3 > /sys/class/srb/destroy",
        "echo held-4 disk1 > /sys/class/srb/attach",
    ]
    .into_iter()
    .enumerate()
    {
        let waiting = Shell::start("ctrl-c", line)?;
        let volume = format!("/held-{}", number + 1);
        server.wait_for(line, |request| request.path.starts_with(&volume))?;
        interrupt(waiting)?;
        // The next command is not in its way.
        detach(machine.attach("vol1", "disk1")?)?;
    }
    assert_eq!(read_class("volumes").as_deref(), Ok("vol1\n"));
    server.behave(|_| Answer::Of(PLAYGROUND));
    // The agent cannot leave a first half that may have made the volume.
    wait_until("held-1 is given up", BOUND, || {
        sysfs::command("create", "held-1 1M") != Err(Errno::EBUSY)
    })?;
    done("destroy", "held-1");
    Ok(())
}

fn a_waiting_listing_ends_at_ctrl_c() -> TestResult {
    let server = Server::silent()?;
    let _machine = machine_at(&server, &[])?;
    let mut waiting = Daemon::start("ctrl-c", Command::new("cat").arg("/sys/class/srb/volumes"))?;
    server.wait_for("the listing", |request| request.path == "/")?;
    let began = Instant::now();
    waiting.signal(Signal::SIGINT)?;
    let status = wait_for("the listing ends at Ctrl-C", BOUND, || waiting.ended())?;
    let time = began.elapsed();
    assert!(!status.success());
    assert!(time < patiently(PROMPT), "it took {time:?}");
    server.behave(|_| Answer::text(r#"{"children":["vol1"]}"#));
    assert_eq!(read_class("volumes").as_deref(), Ok("vol1\n"));
    Ok(())
}

fn an_interrupted_create_is_undone() -> TestResult {
    let (server, mut machine) = machine_held(|request| request.sets_size_of("vol1"))?;
    let volume = machine.playground(0)?.data().join("vol1");
    let waiting = Shell::start("ctrl-c", "echo vol1 1M > /sys/class/srb/create")?;
    server.wait_for("the second half", |request| request.sets_size_of("vol1"))?;
    assert!(volume.exists(), "the first half made no volume");
    interrupt(waiting)?;
    wait_until("the first half is undone", BOUND, || !volume.exists())?;
    server.behave(|_| Answer::Of(PLAYGROUND));
    wait_until("the volume is free", BOUND, || {
        sysfs::command("create", "vol1 2M") != Err(Errno::EBUSY)
    })?;
    assert_eq!(std::fs::metadata(&volume)?.len(), 2 << 20);
    Ok(())
}

fn an_interrupted_attach_leaves_no_device() -> TestResult {
    let (server, machine) = machine_held(|request| request.path == "/vol1?metadata")?;
    machine.create("vol1", "1M")?;
    let waiting = Shell::start("ctrl-c", "echo vol1 disk1 > /sys/class/srb/attach")?;
    server.wait_for("the size", |request| request.path == "/vol1?metadata")?;
    interrupt(waiting)?;
    assert!(sysfs::devices().is_empty() && !Path::new("/dev/disk1").exists());
    refused("detach", "disk1", Errno::ENOENT);
    server.behave(|_| Answer::Of(PLAYGROUND));
    detach(machine.attach("vol1", "disk1")?)
}

fn a_volume_has_one_command_at_a_time() -> TestResult {
    let (server, machine) = machine_held(|request| request.path.starts_with("/vol1"))?;
    let waiting = Shell::start("ctrl-c", "echo vol1 disk1 > /sys/class/srb/attach")?;
    server.wait_for("the first command", |request| request.path.starts_with("/vol1"))?;
    for (file, words) in [
        ("create", "vol1 1M"),
        ("extend", "vol1 1M"),
        ("destroy", "vol1"),
        ("attach", "vol1 disk2"),
    ] {
        refused(file, words, Errno::EBUSY);
    }
    // The name is spoken for, and the last URL is needed.
    machine.create("vol2", "1M")?;
    refused("attach", "vol2 disk1", Errno::EEXIST);
    refused("remove_urls", server.url(), Errno::EBUSY);
    detach(machine.attach("vol2", "disk2")?)?;
    interrupt(waiting)?;
    detach(machine.attach("vol2", "disk1")?)
}

/// What a line of shell says that hangs at a stopped agent until Ctrl-C.
fn interrupted_at_a_hung_agent(line: &str) -> TestResult {
    let waiting = Shell::start("ctrl-c", line)?;
    waiting.wait_until_it_writes()?;
    interrupt(waiting)
}

fn a_command_that_was_interrupted_never_begins_later() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let data = machine.playground(0)?.data().to_owned();
    machine.create("victim", "1M")?;
    machine.create("grown", "1M")?;
    machine.agent()?.stop()?;
    for (line, volume) in [
        ("echo victim > /sys/class/srb/destroy", "victim"),
        ("echo grown 2M > /sys/class/srb/extend", "grown"),
        ("echo made 1M > /sys/class/srb/create", "made"),
    ] {
        interrupted_at_a_hung_agent(line)?;
        // Nobody knows yet what the agent will do.
        refused("destroy", volume, Errno::EBUSY);
    }
    machine.kill_agent()?;
    machine.start_agent()?;
    for volume in ["victim", "grown", "made"] {
        wait_until("the volume is free", BOUND, || {
            sysfs::command("extend", format!("{volume} 512")) != Err(Errno::EBUSY)
        })?;
    }
    assert_eq!(read_class("volumes").as_deref(), Ok("grown\nvictim\n"));
    assert_eq!(std::fs::metadata(data.join("grown"))?.len(), 1 << 20);
    done("destroy", "victim");
    Ok(())
}

fn a_hung_agent_gives_up_a_destroy_that_was_interrupted() -> TestResult {
    let mut machine = Machine::builder().start()?;
    machine.create("victim", "1M")?;
    machine.agent()?.stop()?;
    interrupted_at_a_hung_agent("echo victim > /sys/class/srb/destroy")?;
    refused("destroy", "victim", Errno::EBUSY);
    machine.agent()?.signal(Signal::SIGCONT)?;
    wait_until("the volume is free", BOUND, || {
        sysfs::command("extend", "victim 512") != Err(Errno::EBUSY)
    })?;
    assert_eq!(read_class("volumes").as_deref(), Ok("victim\n"));
    done("destroy", "victim");
    Ok(())
}

fn signals_that_mean_nothing_to_a_command_do_not_end_it() -> TestResult {
    let (server, _machine) = machine_held(|_| false)?;
    // A stop is over when the command is.
    for signal in
        [Signal::SIGCHLD, Signal::SIGWINCH, Signal::SIGURG, Signal::SIGCONT, Signal::SIGTSTP]
    {
        let (name, volume) = (signal.as_str(), format!("vol-{}", signal as i32));
        let held = volume.clone();
        server.behave(move |request| match request.sets_size_of(&held) {
            true => Answer::Silence,
            false => Answer::Of(PLAYGROUND),
        });
        let line = format!("trap : {name}; echo {volume} 1M > /sys/class/srb/create");
        let mut waiting = Shell::start("signalled", &line)?;
        server.wait_for(name, |request| request.sets_size_of(&volume))?;
        for _ in 0..5 {
            waiting.signal(signal)?;
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(!waiting.ended()?, "{name} ended it: {}", waiting.said());
        server.behave(|_| Answer::Of(PLAYGROUND));
        wait_for("the create is done", BOUND, || Ok(waiting.ended()?.then_some(())))?;
        assert!(waiting.said().contains("status 0"), "{name}: {}", waiting.said());
        done("destroy", &volume);
    }
    Ok(())
}

fn a_child_that_ends_does_not_end_a_command() -> TestResult {
    let machine = Machine::builder().start()?;
    // It opens each new disk, on a busy machine for longer than a detach waits for it.
    let _udev = udev::Held::new()?;
    let script = "trap : CHLD; failed=0; for i in $(seq 40); do sleep 0.0$((i % 10)) & \
                  echo s$i 1M > /sys/class/srb/create || failed=$((failed + 1)); done; wait; \
                  for i in $(seq 40); do sleep 0.0$((i % 10)) & \
                  echo s$i disk1 > /sys/class/srb/attach || failed=$((failed + 1)); \
                  echo disk1 > /sys/class/srb/detach || failed=$((failed + 1)); \
                  cat /sys/class/srb/volumes > /dev/null || failed=$((failed + 1)); \
                  echo s$i > /sys/class/srb/destroy || failed=$((failed + 1)); done; wait; \
                  echo failed $failed";
    let said = machine.sh(&format!("bash -c '{script}' 2>&1"))?;
    assert!(said.ends_with("failed 0\n"), "{said}");
    Ok(())
}
