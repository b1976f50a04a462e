// SPDX-License-Identifier: GPL-2.0-only
//! What systemd's units have srbctl do, on a machine made of files.

mod site;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;

use site::{Fault, Outcome, Site};

fn boot(site: &Site, words: &[&str]) -> Outcome {
    site.run(&[&["--etc-root", etc(site).as_str(), "boot"], words].concat())
}

fn etc(site: &Site) -> String {
    site.path("etc").display().to_string()
}

#[test]
fn the_configuration_reaches_the_module() {
    let site = Site::loaded();
    site.file("etc/srb.conf", "URLS='http://a http://b/x/'\n");
    site.file("etc/srb/srb.conf", "URLS=http://c\nreq_timeout=5\nthread_pool_size=8\n");
    let outcome = boot(&site, &["load"]);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    assert_eq!(site.commanded("add_urls"), "http://a\nhttp://b/x\nhttp://c\n");
    assert_eq!(site.read("sys/module/srb/parameters/req_timeout").lines().next(), Some("5"));
}

#[test]
fn what_is_wrong_is_named_and_the_rest_is_done() {
    let site = Site::loaded();
    site.file("etc/srb/srb.conf", "nonsense\nthread_pool_size=9\nURLS=http://a\nagent_grace=7\n");
    let outcome = boot(&site, &["load"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.err.contains("srb.conf:1: this is not NAME=VALUE"), "{}", outcome.err);
    let fixed = "srb.conf:2: thread_pool_size can be set only when the module is loaded";
    assert!(outcome.err.contains(fixed), "{}", outcome.err);
    assert_eq!(site.commanded("add_urls"), "http://a\n");
    assert_eq!(site.read("sys/module/srb/parameters/agent_grace").lines().next(), Some("7"));
    site.file("etc/srb/srbtab", "vol1\n");
    let outcome = boot(&site, &["check"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.err.contains("srbtab:1: "), "{}", outcome.err);
}

#[test]
fn urls_that_are_there_already_are_no_failure() {
    let site = Site::loaded();
    site.file("etc/srb/srb.conf", "URLS=http://a\n");
    let fault = Fault::Write { bytes: "http://a\n".len(), errno: Errno::EEXIST as i32 };
    let outcome = site.run_with(fault, &["--etc-root", &etc(&site), "boot", "load"]);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
}

#[test]
fn a_line_of_the_table_is_attached() {
    let site = Site::loaded();
    site.file("etc/srb/srbtab", "vol1 disk1\nvol2 disk2 timeout=1\n");
    let outcome = boot(&site, &["attach", "disk1"]);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    assert_eq!(site.commanded("attach"), "vol1 disk1\n");
    let outcome = boot(&site, &["attach", "disk3"]);
    assert_eq!(outcome.code, Some(2));
    assert_eq!(outcome.err, "srbctl: srbtab has no line for disk3\n");
}

#[test]
fn what_is_attached_already_is_done() {
    let site = Site::loaded();
    site.file("etc/srb/srbtab", "vol1 disk1 policy=queue=60\nvol2 disk2\n");
    site.device("disk1", "vol1", 1 << 20);
    site.device("disk2", "vol9", 1 << 20);
    let outcome = boot(&site, &["attach", "disk1"]);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    assert_eq!(site.read("sys/block/disk1/srb_policy"), "queue=60\n");
    let outcome = boot(&site, &["attach", "disk2"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.err.contains("the volume vol9 is attached as that"), "{}", outcome.err);
    assert_eq!(site.commanded("attach"), "");
}

#[test]
fn an_agent_that_does_not_come_is_waited_for_as_long_as_the_line_says() {
    let site = Site::loaded();
    site.file("etc/srb/srbtab", "vol1 disk1 timeout=2\n");
    let words = ["--etc-root", &etc(&site), "boot", "attach", "disk1"];
    for (errno, ends) in
        [(Errno::ENOTCONN, "(tried for 2 s"), (Errno::ENOENT, "there is no volume vol1")]
    {
        let fault = Fault::Write { bytes: "vol1 disk1\n".len(), errno: errno as i32 };
        let outcome = site.run_with(fault, &words);
        assert_eq!(outcome.code, Some(1));
        assert!(outcome.err.contains(ends), "{}", outcome.err);
    }
}

#[test]
fn detaching_what_is_not_there_is_done() {
    let site = Site::loaded();
    let outcome = boot(&site, &["detach", "disk1"]);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    assert!(site.is_untouched());
    site.device("disk1", "vol1", 1 << 20);
    let outcome = boot(&site, &["detach", "disk1"]);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    assert_eq!(site.commanded("detach"), "disk1\n");
}

#[test]
fn nothing_is_taken_from_a_machine_that_does_not_stop() {
    let site = Site::loaded();
    site.device("disk1", "vol1", 1 << 20);
    let outcome = boot(&site, &["shutdown"]);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    assert!(site.is_untouched());
}

#[test]
fn by_its_other_name_it_is_the_generator_and_never_fails() {
    let folder = tempfile::tempdir().expect("a folder");
    for arguments in [vec![folder.path()], vec![Path::new("/nonexistent")], vec![]] {
        let mut generator = Command::new(env!("CARGO_BIN_EXE_srbctl"));
        let status = generator.arg0("/usr/lib/x/srb-generator").args(arguments).status();
        assert!(status.expect("started").success());
    }
    // This machine has no srbtab.
    assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 0);
}
