// SPDX-License-Identifier: GPL-2.0-only
//! `create` and `destroy`.

use std::fs;
use std::path::Path;

use nix::errno::Errno;

use super::server::{Answer, Server};
use super::{attached, detach, done, machine_at, read_class, refused};
use crate::guest::{Case, Machine, TestResult};

const PLAYGROUND: u16 = 8080;

pub(super) fn cases() -> Vec<Case> {
    named!["create":
        a_volume_has_the_size_that_was_asked_for,
        what_is_no_size_creates_nothing,
        a_volume_may_have_any_name_of_its_255_bytes,
        what_is_no_name_creates_nothing,
        a_volume_that_exists_is_left_alone,
        a_create_whose_second_half_fails_leaves_no_volume,
        a_destroyed_volume_is_gone,
        an_attached_volume_is_not_destroyed,
    ]
    .into()
}

fn size_of(data: &Path, volume: &str) -> TestResult<u64> {
    Ok(fs::metadata(data.join(volume)).map_err(|error| format!("{volume}: {error}"))?.len())
}

/// The names in the playground's folder; an agent's own scratch volumes do not count.
fn volumes_in(data: &Path) -> TestResult<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(data)?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with(".srb-probe-"))
        .collect();
    names.sort();
    Ok(names)
}

fn a_volume_has_the_size_that_was_asked_for() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let data = machine.playground(0)?.data().to_owned();
    let sizes = [
        ("512", 512),
        ("1k", 1 << 10),
        ("3K", 3 << 10),
        ("5m", 5 << 20),
        ("7M", 7 << 20),
        ("1g", 1 << 30),
        ("10G", 10 << 30),
        ("2t", 2 << 40),
        ("3T", 3 << 40),
        ("007k", 7 << 10),
        ("9223372036854775296", (1 << 63) - 512),
    ];
    for (size, bytes) in sizes {
        let volume = format!("vol-{size}");
        done("create", format!("{volume} {size}\n"));
        assert_eq!(size_of(&data, &volume)?, bytes, "{size}");
    }
    // Any white space parts the words.
    done("create", " tabs\t 1k ");
    assert_eq!(size_of(&data, "tabs")?, 1 << 10);
    Ok(())
}

fn what_is_no_size_creates_nothing() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let data = machine.playground(0)?.data().to_owned();
    for size in [
        "0",
        "0k",
        "511",
        "513",
        "5X",
        "k",
        "-1k",
        "+512",
        "1.5G",
        "1kk",
        "1kB",
        "0x200",
        "99999999999G",
        "9223372036854775808",
        "18446744073709551616",
        "1k extra",
    ] {
        refused("create", format!("vol1 {size}\n"), Errno::EINVAL);
        refused("extend", format!("vol1 {size}\n"), Errno::EINVAL);
    }
    for words in ["", " ", "vol1", "vol1\n", "1k"] {
        refused("create", format!("{words}\n"), Errno::EINVAL);
        refused("extend", format!("{words}\n"), Errno::EINVAL);
    }
    assert_eq!(volumes_in(&data)?, [""; 0]);
    Ok(())
}

fn a_volume_may_have_any_name_of_its_255_bytes() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let data = machine.playground(0)?.data().to_owned();
    let longest = "x".repeat(255);
    let names = ["...", "%41", "-v", "a,b?c=d#e%f", "a\\b\"c'", "grüße", "null:", &longest];
    for name in names {
        done("create", format!("{name} 1k"));
        assert_eq!(size_of(&data, name)?, 1 << 10, "{name}");
    }
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    assert_eq!(volumes_in(&data)?, sorted);
    assert_eq!(read_class("volumes")?.lines().collect::<Vec<_>>(), sorted);
    for name in names {
        done("destroy", name);
    }
    assert_eq!(volumes_in(&data)?, [""; 0]);
    Ok(())
}

fn what_is_no_name_creates_nothing() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let data = machine.playground(0)?.data().to_owned();
    let too_long = "x".repeat(256);
    for name in [
        "a/b", "/", "/a", "a/", ".", "..", "../a", "a\u{1}b", "a\u{7f}", "a\u{85}b", "a\0b",
        &too_long,
    ] {
        refused("create", format!("{name} 1k\n"), Errno::EINVAL);
        refused("extend", format!("{name} 1k\n"), Errno::EINVAL);
        refused("destroy", format!("{name}\n"), Errno::EINVAL);
        refused("attach", format!("{name} disk1\n"), Errno::EINVAL);
    }
    refused("create", b"a\xffb 1k", Errno::EINVAL);
    for words in ["\n", " ", "vol1 vol2\n"] {
        refused("destroy", words, Errno::EINVAL);
    }
    assert_eq!(volumes_in(&data)?, [""; 0]);
    assert!(data.parent().is_some_and(|folder| !folder.join("a").exists()));
    Ok(())
}

fn a_volume_that_exists_is_left_alone() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let data = machine.playground(0)?.data().to_owned();
    let content = vec![7; 1 << 20];
    fs::write(data.join("vol1"), &content)?;
    refused("create", "vol1 2M", Errno::EEXIST);
    assert!(fs::read(data.join("vol1"))? == content, "its content has changed");
    let device = machine.attach("vol1", "disk1")?;
    refused("create", "vol1 2M", Errno::EBUSY);
    assert_eq!(size_of(&data, "vol1")?, 1 << 20);
    detach(device)
}

fn a_create_whose_second_half_fails_leaves_no_volume() -> TestResult {
    let server = Server::start(|request| match request {
        request if request.sets_size_of("vol1") => Answer::status("500 Internal Server Error"),
        request if request.sets_size_of("vol2") => Answer::status("507 Insufficient Storage"),
        _ => Answer::Of(PLAYGROUND),
    })?;
    let mut machine = machine_at(&server, &[("nb_req_retries", 1)])?;
    let data = machine.playground(0)?.data().to_owned();
    refused("create", "vol1 1M", Errno::EIO);
    refused("create", "vol2 1M", Errno::ENOSPC);
    for volume in ["vol1", "vol2"] {
        server.wait_for("the second half was tried", |request| request.sets_size_of(volume))?;
    }
    assert_eq!(volumes_in(&data)?, [""; 0]);
    server.behave(|_| Answer::Of(PLAYGROUND));
    done("create", "vol1 1M");
    assert_eq!(size_of(&data, "vol1")?, 1 << 20);
    Ok(())
}

fn a_destroyed_volume_is_gone() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let data = machine.playground(0)?.data().to_owned();
    machine.create("vol1", "1M")?;
    machine.create("vol2", "1M")?;
    done("destroy", "vol1\n");
    assert_eq!(volumes_in(&data)?, ["vol2"]);
    refused("destroy", "vol1", Errno::ENOENT);
    refused("attach", "vol1 disk1", Errno::ENOENT);
    machine.create("vol1", "2M")?;
    assert_eq!(size_of(&data, "vol1")?, 2 << 20);
    Ok(())
}

fn an_attached_volume_is_not_destroyed() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let data = machine.playground(0)?.data().to_owned();
    let device = attached(&machine, "vol1", "1M", "disk1")?;
    refused("destroy", "vol1", Errno::EBUSY);
    assert_eq!(volumes_in(&data)?, ["vol1"]);
    detach(device)?;
    done("destroy", "vol1");
    Ok(())
}
