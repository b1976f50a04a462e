// SPDX-License-Identifier: GPL-2.0-only
//! What a disk says of itself: `srb_debug`, `srb_urls`, `srb_name`, `srb_size`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;

use super::{attached, detach, done, set_parameter};
use crate::guest::wait::wait_until;
use crate::guest::{sysfs, udev, Case, Machine, TestResult};

const BOUND: Duration = Duration::from_secs(20);

pub(super) fn cases() -> Vec<Case> {
    named!["disk":
        a_disk_tells_its_volume_its_size_and_its_urls,
        the_url_in_use_comes_first,
        a_log_level_is_inherited_and_then_the_devices_own,
        a_log_level_is_a_number_from_0_to_7,
        a_disk_has_an_identity_where_other_drivers_have_it,
        udev_rules_can_use_what_a_disk_says_of_itself,
    ]
    .into()
}

fn a_disk_tells_its_volume_its_size_and_its_urls() -> TestResult {
    let machine = Machine::builder().start()?;
    let name = "a,b?c=d#e%f-grüße";
    let device = attached(&machine, name, "5M", "disk1")?;
    assert_eq!(sysfs::read(device.sysfs("srb_name"))?, format!("{name}\n"));
    assert_eq!(sysfs::read(device.sysfs("srb_size"))?, "5242880\n");
    let full = "http://127.0.0.1:8080/a%2Cb%3Fc%3Dd%23e%25f-gr%C3%BC%C3%9Fe";
    assert_eq!(sysfs::read(device.sysfs("srb_urls"))?, format!("{full}\n"));
    // It is a URL: a server gives the volume for it.
    let size = machine.sh(&format!("curl -sS -o /dev/null -w '%{{size_download}}' '{full}'"))?;
    assert_eq!(size, "5242880");
    done("add_urls", "http://10.0.0.1/path");
    let second = "http://10.0.0.1/path/a%2Cb%3Fc%3Dd%23e%25f-gr%C3%BC%C3%9Fe";
    assert_eq!(sysfs::read(device.sysfs("srb_urls"))?, format!("{full},{second}\n"));
    done("remove_urls", "http://10.0.0.1/path");
    assert_eq!(sysfs::read(device.sysfs("srb_urls"))?, format!("{full}\n"));
    detach(device)
}

fn the_url_in_use_comes_first() -> TestResult {
    let builder = Machine::builder().playgrounds(2);
    let mut machine = builder.start()?;
    let device = attached(&machine, "vol1", "1M", "disk1")?;
    let (first, second) = ("http://127.0.0.1:8080/vol1", "http://127.0.0.1:8081/vol1");
    assert_eq!(sysfs::read(device.sysfs("srb_urls"))?, format!("{first},{second}\n"));
    machine.playground(0)?.kill()?;
    machine.sh("dd if=/dev/disk1 of=/dev/null bs=4k count=1 iflag=direct status=none")?;
    let turned = Ok(format!("{second},{first}\n"));
    wait_until("the second URL is in use", BOUND, || {
        sysfs::read(device.sysfs("srb_urls")) == turned
    })?;
    detach(device)
}

fn a_disk_has_an_identity_where_other_drivers_have_it() -> TestResult {
    let machine = Machine::builder().start()?;
    let device = attached(&machine, "a,b-grüße", "1M", "disk1")?;
    let wwid = "srb.http://127.0.0.1:8080/a%2Cb-gr%C3%BC%C3%9Fe\n";
    let expected = [
        ("serial", "a,b-grüße\n"),
        ("wwid", wwid),
        ("vendor", "srb\n"),
        ("model", "REST volume\n"),
    ];
    // The identity is that of the attachment, whatever happens to the list.
    for change in ["", "http://10.0.0.1/path"] {
        if !change.is_empty() {
            done("add_urls", change);
            done("remove_urls", "http://127.0.0.1:8080/");
        }
        for (file, content) in expected {
            assert_eq!(sysfs::read(device.sysfs(file))?, content, "{file}");
            assert_eq!(sysfs::write(device.sysfs(file), "x"), Err(Errno::EACCES), "{file}");
        }
    }
    done("add_urls", "http://127.0.0.1:8080/");
    done("remove_urls", "http://10.0.0.1/path");
    detach(device)
}

fn a_log_level_is_inherited_and_then_the_devices_own() -> TestResult {
    let machine = Machine::builder().parameter("debug", 5).start()?;
    let one = attached(&machine, "vol1", "1M", "disk1")?;
    assert_eq!(sysfs::read(one.sysfs("srb_debug"))?, "5\n");
    set_parameter("debug", 3)?;
    let two = attached(&machine, "vol2", "1M", "disk2")?;
    assert_eq!(sysfs::read(one.sysfs("srb_debug"))?, "5\n");
    assert_eq!(sysfs::read(two.sysfs("srb_debug"))?, "3\n");
    sysfs::write(one.sysfs("srb_debug"), "7\n")?;
    assert_eq!(sysfs::read(one.sysfs("srb_debug"))?, "7\n");
    assert_eq!(sysfs::read(two.sysfs("srb_debug"))?, "3\n");
    assert_eq!(super::parameter("debug")?, "3");
    detach(one)?;
    detach(two)
}

fn a_log_level_is_a_number_from_0_to_7() -> TestResult {
    let machine = Machine::builder().start()?;
    let device = attached(&machine, "vol1", "1M", "disk1")?;
    let file = device.sysfs("srb_debug");
    for level in 0..=7 {
        sysfs::write(&file, format!("{level}"))?;
        assert_eq!(sysfs::read(&file)?, format!("{level}\n"));
    }
    for bad in ["8", "-1", "10", "7 7", "x", "6x", "\n", " ", "0x1", "1.0"] {
        assert_eq!(sysfs::write(&file, bad), Err(Errno::EINVAL), "{bad:?}");
        assert_eq!(sysfs::read(&file)?, "7\n");
    }
    for file in ["srb_name", "srb_size", "srb_urls"] {
        assert_eq!(sysfs::write(device.sysfs(file), "x"), Err(Errno::EACCES), "{file}");
    }
    detach(device)
}

/// A rule of udev's, in force while this lives.
struct Rule(&'static str);

impl Rule {
    fn new(path: &'static str, text: &str) -> TestResult<Self> {
        fs::create_dir_all("/run/udev/rules.d")?;
        fs::write(path, text)?;
        let rule = Self(path);
        udev::reload()?;
        Ok(rule)
    }
}

impl Drop for Rule {
    fn drop(&mut self) {
        // No later test has a device of the rule's name.
        let _ = fs::remove_file(self.0);
        let _ = udev::reload();
    }
}

fn udev_rules_can_use_what_a_disk_says_of_itself() -> TestResult {
    // What a rule matches is read when the event is handled, without a second chance.
    let rule = r#"ACTION=="add", SUBSYSTEM=="block", KERNEL=="early1", \
        ATTR{srb_name}=="vol1", ATTR{srb_size}=="3145728", ATTR{srb_debug}=="6", \
        ATTR{srb_urls}=="http://127.0.0.1:8080/vol1", \
        SYMLINK+="by-volume/$attr{srb_name}", RUN+="/bin/touch /run/early1-was-seen"
    "#;
    let _rule = Rule::new("/run/udev/rules.d/99-manual.rules", rule)?;
    let machine = Machine::builder().start()?;
    let device = attached(&machine, "vol1", "3M", "early1")?;
    let seen = Path::new("/run/early1-was-seen");
    wait_until("the rule matches", BOUND, || seen.exists())?;
    fs::remove_file(seen)?;
    assert_eq!(fs::canonicalize("/dev/by-volume/vol1")?, device.path());
    detach(device)
}
