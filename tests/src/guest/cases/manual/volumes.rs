// SPDX-License-Identifier: GPL-2.0-only
//! `volumes`.

use std::fs::File;

use super::{attached, detach, read_class};
use crate::guest::{Case, Machine, TestResult};

/// What sysfs shows of a file at most.
const PAGE: usize = 4096;

pub(super) fn cases() -> Vec<Case> {
    named!["volumes":
        volumes_are_listed_one_on_a_line_attached_or_not,
        a_hundred_volumes_are_listed,
        a_listing_beyond_a_page_ends_with_a_whole_name_and_says_so,
    ]
    .into()
}

/// Volumes as their server has them; returns their names.
fn make_volumes(machine: &mut Machine, count: usize) -> TestResult<Vec<String>> {
    let data = machine.playground(0)?.data().to_owned();
    let names: Vec<String> = (0..count).map(|index| format!("volume-{index:04}")).collect();
    for name in &names {
        File::create(data.join(name))?.set_len(1 << 20)?;
    }
    Ok(names)
}

fn volumes_are_listed_one_on_a_line_attached_or_not() -> TestResult {
    let machine = Machine::builder().start()?;
    assert_eq!(read_class("volumes").as_deref(), Ok(""));
    machine.create("vol2", "1M")?;
    machine.create("vol1", "1M")?;
    let device = attached(&machine, "vol3", "1M", "disk3")?;
    assert_eq!(read_class("volumes").as_deref(), Ok("vol1\nvol2\nvol3\n"));
    detach(device)?;
    machine.destroy("vol2")?;
    assert_eq!(read_class("volumes").as_deref(), Ok("vol1\nvol3\n"));
    Ok(())
}

fn a_hundred_volumes_are_listed() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let names = make_volumes(&mut machine, 100)?;
    assert_eq!(read_class("volumes")?.lines().collect::<Vec<_>>(), names);
    Ok(())
}

fn a_listing_beyond_a_page_ends_with_a_whole_name_and_says_so() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let names = make_volumes(&mut machine, 1000)?;
    let text = read_class("volumes")?;
    let mut lines: Vec<&str> = text.lines().collect();
    let note = lines.pop().unwrap_or_default();
    assert!(text.len() <= PAGE && lines.len() > 250, "{} lines", lines.len());
    assert!(lines.iter().zip(&names).all(|(line, name)| line == name), "{text}");
    let left_out = names.len() - lines.len();
    assert_eq!(note, format!("({left_out} more volumes: srbctl volume list)"));
    let all = machine.sh("srbctl volume list | awk '{print $1}'")?;
    assert_eq!(all.lines().collect::<Vec<_>>(), names);
    Ok(())
}
