// SPDX-License-Identifier: GPL-2.0-only
//! The kernel's log: a line for each failure, and no more than the levels let through.

use nix::errno::Errno;

use super::server::Server;
use super::{attached, detach, done, logged, machine_at, refused, set_parameter};
use crate::guest::{clean, sysfs, Case, Machine, TestResult};

pub(super) fn cases() -> Vec<Case> {
    named!["log":
        a_failure_is_one_line_that_says_what_was_wrong,
        a_failure_at_the_servers_is_one_line_with_each_answer,
        a_refused_url_is_one_line,
        what_users_write_cannot_forge_lines,
        the_modules_level_decides_what_is_logged,
        a_devices_level_decides_what_is_logged_of_it,
    ]
    .into()
}

/// The command fails, and logs a single line, an error with all these words in it.
fn one_line(file: &str, words: &str, errno: Errno, parts: &[&str]) -> TestResult {
    let ((), lines) = logged(|| refused(file, words, errno))?;
    let [line] = lines.as_slice() else {
        return Err(format!("{file} {words}: {} lines: {lines:?}", lines.len()).into());
    };
    assert_eq!(line.level, 3, "{line:?}");
    for part in [file].iter().chain(parts) {
        assert!(line.text.contains(part), "{file} {words}: no `{part}` in: {}", line.text);
    }
    Ok(())
}

fn a_failure_is_one_line_that_says_what_was_wrong() -> TestResult {
    let mut machine = Machine::builder().without_urls().start()?;
    let no_url: &[&str] = &["vol1", "no URL is configured"];
    one_line("create", "vol1 1M", Errno::EDESTADDRREQ, no_url)?;
    one_line("attach", "vol1 disk1", Errno::EDESTADDRREQ, no_url)?;
    done("add_urls", "http://127.0.0.1:8080");
    one_line("create", "vol1 5X", Errno::EINVAL, &["vol1 5X", "a size is an integer"])?;
    one_line("create", "vol1", Errno::EINVAL, &["vol1", "lacks a word"])?;
    one_line("extend", "vol1 511", Errno::EINVAL, &["vol1 511", "multiple of 512"])?;
    one_line("destroy", "a/b", Errno::EINVAL, &["a/b", "slash"])?;
    one_line("attach", "vol1 a!b", Errno::EINVAL, &["vol1 a!b", "letters, digits"])?;
    one_line("detach", "nosuch", Errno::ENOENT, &["nosuch", "no such device"])?;
    let device = attached(&machine, "vol1", "1M", "disk1")?;
    let node = std::fs::File::open("/dev/disk1")?;
    one_line("detach", "disk1", Errno::EBUSY, &["disk1", "in use"])?;
    drop(node);
    one_line("destroy", "vol1", Errno::EBUSY, &["vol1", "attached"])?;
    one_line("attach", "vol1 disk2", Errno::EEXIST, &["vol1", "disk2", "attached"])?;
    one_line("attach", "vol2 null", Errno::EEXIST, &["vol2", "null", "taken"])?;
    one_line("extend", "vol1 512", Errno::EINVAL, &["vol1", "only be raised"])?;
    detach(device)?;
    machine.stop_agent()?;
    one_line("destroy", "vol1", Errno::ENOTCONN, &["vol1", "no agent", "start srb-agent"])
}

fn a_failure_at_the_servers_is_one_line_with_each_answer() -> TestResult {
    let machine = Machine::builder().parameter("nb_req_retries", 1).start()?;
    let url = "http://127.0.0.1:8080";
    machine.create("vol1", "1M")?;
    one_line("create", "vol1 1M", Errno::EEXIST, &["vol1", url, "412", "1 try"])?;
    one_line("extend", "vol1 1M", Errno::EINVAL, &["vol1", "1048576", "not grow"])?;
    one_line("attach", "vol2 disk1", Errno::ENOENT, &["vol2", url, "404", "1 try"])?;
    one_line("destroy", "vol2", Errno::ENOENT, &["vol2", url, "404", "1 try"])?;
    drop(machine);
    clean::unload()?;
    let failing = Server::of_status("503 Service Unavailable")?;
    let machine = machine_at(&failing, &[("nb_req_retries", 3)])?;
    let refusing = "http://127.0.0.1:1";
    done("add_urls", refusing);
    let answers = [&failing.url(), "503", refusing, "refused the connection", "8 tries"];
    one_line("attach", "vol1 disk1", Errno::EIO, &[&["vol1"], &answers[..]].concat())?;
    let (_, lines) = logged(|| super::read_class("volumes"))?;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines.iter().all(|line| line.text.contains("volumes") && line.text.contains("503")));
    drop(machine);
    Ok(())
}

fn a_refused_url_is_one_line() -> TestResult {
    let _machine = Machine::builder().playgrounds(0).without_agent().start()?;
    done("add_urls", "http://a");
    one_line("add_urls", "http://b,ftp://c", Errno::EINVAL, &["ftp://c", "begin with http"])?;
    one_line("add_urls", "http://a,http://d", Errno::EEXIST, &["http://a", "already"])?;
    one_line("remove_urls", "http://b,http://x", Errno::ENOENT, &["http://x", "not there"])?;
    one_line("add_urls", "\n", Errno::EINVAL, &["empty"])
}

fn what_users_write_cannot_forge_lines() -> TestResult {
    let _machine = Machine::builder().playgrounds(0).without_agent().start()?;
    let forged = "a\nsrb: all is well\u{1b}[2J";
    let ((), lines) = logged(|| refused("destroy", format!("{forged} b c"), Errno::EINVAL))?;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines.iter().all(|line| line.text.starts_with("srb: destroy ")), "{lines:?}");
    let long = "x".repeat(4000);
    let ((), lines) = logged(|| refused("create", &long, Errno::EINVAL))?;
    assert!(lines.len() == 1 && lines.iter().all(|line| line.text.len() < 1000), "{lines:?}");
    Ok(())
}

/// How many lines of the module's there are when a volume is created, and when it cannot be.
fn lines_of_a_create(machine: &Machine, volume: &str) -> TestResult<(usize, usize)> {
    let (created, info) = logged(|| machine.create(volume, "1M"))?;
    created?;
    let ((), error) = logged(|| refused("create", format!("{volume} 1M"), Errno::EEXIST))?;
    Ok((info.len(), error.len()))
}

fn the_modules_level_decides_what_is_logged() -> TestResult {
    let machine = Machine::builder().parameter("debug", 3).start()?;
    assert_eq!(lines_of_a_create(&machine, "vol1")?, (0, 1));
    set_parameter("debug", 6)?;
    assert_eq!(lines_of_a_create(&machine, "vol2")?, (1, 1));
    set_parameter("srb_log", 2)?;
    assert_eq!(lines_of_a_create(&machine, "vol3")?, (0, 0));
    Ok(())
}

fn a_devices_level_decides_what_is_logged_of_it() -> TestResult {
    let machine = Machine::builder().start()?;
    let detach_lines = |device| -> TestResult<usize> {
        super::settle()?;
        let (result, lines) = logged(|| detach(device))?;
        result?;
        Ok(lines.iter().filter(|line| line.text.ends_with(": detached")).count())
    };
    // Louder than the module, which is silent by then.
    let device = attached(&machine, "vol1", "1M", "disk1")?;
    set_parameter("debug", 0)?;
    assert_eq!(detach_lines(device)?, 1);
    // Silent like the module when it was attached.
    let device = machine.attach("vol1", "disk1")?;
    set_parameter("debug", 6)?;
    assert_eq!(detach_lines(device)?, 0);
    // Silenced by itself.
    let device = machine.attach("vol1", "disk1")?;
    sysfs::write(device.sysfs("srb_debug"), "5")?;
    assert_eq!(detach_lines(device)?, 0);
    Ok(())
}
