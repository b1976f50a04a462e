// SPDX-License-Identifier: GPL-2.0-only
//! `srbctl`, each command of it against the real thing.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{attached, detach, parameter};
use crate::guest::process::{self, Output};
use crate::guest::udev::settle;
use crate::guest::wait::wait_for;
use crate::guest::{load_module, sysfs, Case, Machine, TestResult};

const BOUND: Duration = Duration::from_secs(30);

pub(super) fn cases() -> Vec<Case> {
    named!["srbctl":
        volumes_and_devices_can_be_managed_with_srbctl_alone,
        programs_get_json,
        parameters_are_shown_and_set,
        a_wrong_command_line_is_told_from_a_failure,
        without_the_module_it_says_what_to_do,
        without_an_agent_it_shows_what_the_module_knows,
        a_failure_says_why_and_what_to_do,
        whoever_keeps_a_device_open_is_named,
        what_waits_in_the_kernel_is_counted,
    ]
    .into()
}

fn srbctl(line: &str) -> TestResult<Output> {
    process::run(Command::new("srbctl").args(line.split(' ')), BOUND)
}

/// What a command prints that must succeed.
fn shown(line: &str) -> TestResult<String> {
    srbctl(line)?.success()
}

/// A change must succeed, and says nothing.
fn changed(line: &str) -> TestResult {
    let output = srbctl(line)?;
    let said = format!("{}{}", output.stdout, output.stderr);
    assert!(output.status.success() && said.is_empty(), "{line}: {:?}: {said}", output.status);
    Ok(())
}

fn json(line: &str) -> TestResult<Value> {
    Ok(serde_json::from_str(&shown(line)?)?)
}

/// The command must fail with this status, and say all these words.
fn fails(line: &str, status: i32, parts: &[&str]) -> TestResult {
    let Output { status: found, stdout, stderr, .. } = srbctl(line)?;
    assert_eq!(found.code(), Some(status), "{line}: {stdout}{stderr}");
    assert_eq!(stdout, "", "{line}");
    for part in parts {
        assert!(stderr.contains(part), "{line}: no `{part}` in: {stderr}");
    }
    Ok(())
}

fn volumes_and_devices_can_be_managed_with_srbctl_alone() -> TestResult {
    let _machine = Machine::builder().without_urls().start()?;
    changed("url add http://127.0.0.1:8080/")?;
    assert!(shown("url list")?.starts_with("http://127.0.0.1:8080 "));
    changed("volume create vol1 8M")?;
    changed("volume create vol2 1k")?;
    changed("attach vol1 disk1")?;
    let listed = shown("volume list")?;
    let rows: Vec<Vec<&str>> = listed.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows, [["vol1", "disk1"], ["vol2", "-"]]);
    changed("volume extend vol1 16M")?;
    assert_eq!(sysfs::read("/sys/block/disk1/srb_size")?, "16777216\n");
    let status = shown("status")?;
    for part in ["module   0.", "agent    0.", "session", "http://127.0.0.1:8080", "disk1", "16M"] {
        assert!(status.contains(part), "no `{part}` in: {status}");
    }
    settle()?;
    changed("detach disk1")?;
    changed("volume destroy vol1")?;
    changed("volume destroy vol2")?;
    assert_eq!(shown("volume list")?, "");
    changed("url remove http://127.0.0.1:8080")?;
    assert_eq!(shown("url list")?, "");
    Ok(())
}

fn programs_get_json() -> TestResult {
    let machine = Machine::builder().start()?;
    let device = attached(&machine, "vol1", "1M", "disk1")?;
    machine.sh("dd if=/dev/disk1 of=/dev/null bs=4k count=1 iflag=direct status=none")?;
    let status = json("status --json")?;
    let at = |path: &str| status.pointer(path).cloned().unwrap_or(Value::Null);
    assert_eq!(at("/devices/0/name"), "disk1", "{status}");
    assert_eq!(at("/devices/0/volume"), "vol1");
    assert_eq!(at("/devices/0/size_bytes"), 1 << 20);
    assert_eq!(at("/devices/0/log_level"), 6);
    assert_eq!(at("/devices/0/urls/0"), "http://127.0.0.1:8080/vol1");
    assert!(at("/devices/0/reads").as_u64().is_some_and(|reads| reads > 0), "{status}");
    assert_eq!(at("/devices/0/errors"), 0);
    assert_eq!(at("/urls/0/url"), "http://127.0.0.1:8080");
    assert_eq!(at("/urls/0/state"), "up");
    assert_eq!(at("/urls/0/active"), true);
    assert!(at("/agent/pid").is_u64() && at("/module/version").is_string(), "{status}");
    assert_eq!(at("/notes"), Value::Array(Vec::new()), "{status}");
    let volumes = json("volume list --json")?;
    let first = volumes.pointer("/volumes/0").cloned().unwrap_or_default();
    assert_eq!(first.get("name"), Some(&"vol1".into()), "{volumes}");
    assert_eq!(first.get("device"), Some(&"disk1".into()), "{volumes}");
    assert_eq!(json("url list --json")?.pointer("/urls/0/active"), Some(&true.into()));
    let failed = srbctl("--json volume create vol1 1M")?.failure()?;
    let error: Value = serde_json::from_str(&failed)?;
    assert_eq!(error.pointer("/error/name"), Some(&"EBUSY".into()), "{error}");
    assert!(error.pointer("/error/message").is_some_and(Value::is_string), "{error}");
    detach(device)
}

fn parameters_are_shown_and_set() -> TestResult {
    load_module(&["thread_pool_size=7".to_owned()])?;
    let all = shown("params")?;
    assert_eq!(all.lines().count(), 8, "{all}");
    let shown_pool = shown("params thread_pool_size")?;
    assert!(shown_pool.contains(" 7 ") && shown_pool.contains("at load"), "{shown_pool}");
    changed("params req_timeout=5 nb_req_retries=1 agent_grace=-1")?;
    let found = ["req_timeout", "nb_req_retries", "agent_grace"].map(parameter);
    assert_eq!(found.into_iter().collect::<Result<Vec<_>, _>>()?, ["5", "1", "-1"]);
    fails("params debug=9", 1, &["does not take 9", "0 to 7"])?;
    fails("params thread_pool_size=1", 2, &["only when the module is loaded", "rmmod"])?;
    fails("params nosuch", 2, &["no parameter", "req_timeout"])?;
    let all = json("params --json")?;
    let parameters = all.get("parameters").and_then(Value::as_array).cloned().unwrap_or_default();
    let timeout = parameters.iter().find(|it| it.get("name") == Some(&"req_timeout".into()));
    assert_eq!(timeout.and_then(|it| it.get("value")), Some(&5.into()), "{all}");
    Ok(())
}

fn a_wrong_command_line_is_told_from_a_failure() -> TestResult {
    let _machine = Machine::builder().start()?;
    for line in [
        "nonsense",
        "volume create vol1",
        "volume create vol1 5X",
        "volume create a/b 1M",
        "attach vol1 a/b",
        "attach vol1 /dev/disk1",
        "detach",
        "url add ftp://a",
    ] {
        fails(line, 2, &[])?;
    }
    fails("volume destroy nosuch", 1, &["cannot destroy nosuch", "no such volume"])?;
    fails("attach nosuch disk1", 1, &["no volume nosuch", "srbctl volume create"])?;
    fails("detach nosuch", 1, &["no device is attached"])?;
    fails("url remove http://a", 1, &["http://127.0.0.1:8080"])?;
    // A bad URL does not keep the good one out, here neither.
    fails("url add ftp://a http://b", 1, &["ftp://a"])?;
    assert!(sysfs::urls().contains(&"http://b".to_owned()));
    Ok(())
}

fn without_the_module_it_says_what_to_do() -> TestResult {
    for line in ["status", "volume list", "volume create v 1M", "attach v d", "detach d", "params"]
    {
        fails(line, 1, &["module is not loaded", "modprobe srb"])?;
    }
    assert!(shown("completion bash")?.contains("srbctl") && shown("--help")?.contains("attach"));
    let error: Value = serde_json::from_str(&srbctl("status --json")?.failure()?)?;
    assert_eq!(error.pointer("/error/name"), Some(&"ENOENT".into()), "{error}");
    Ok(())
}

fn without_an_agent_it_shows_what_the_module_knows() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let device = attached(&machine, "vol1", "1M", "disk1")?;
    machine.stop_agent()?;
    let status = shown("status")?;
    for part in ["http://127.0.0.1:8080", "disk1", "vol1", "not running", "start it"] {
        assert!(status.contains(part), "no `{part}` in: {status}");
    }
    let screen = json("status --json")?;
    assert_eq!(screen.get("agent"), Some(&Value::Null));
    // For how long it still waits, of 60 seconds.
    let wait = |screen: &Value| screen.pointer("/devices/0/agent_wait").cloned();
    let left = |screen: &Value| -> TestResult<u64> {
        Ok(wait(screen).and_then(|it| it.as_str()?.parse().ok()).ok_or(screen.to_string())?)
    };
    let (first, begun) = (left(&screen)?, Instant::now());
    assert!((1..=60).contains(&first), "{screen}");
    thread::sleep(Duration::from_secs(2));
    let passed = begun.elapsed().as_secs();
    let then = left(&json("status --json")?)?;
    assert!((then + 2..=then + passed + 2).contains(&first), "{first}, {passed} s later {then}");
    for (grace, word, line) in [
        ("600", None, "waits    disk1 for an agent, 9m "),
        ("-1", Some("forever"), "waits    disk1 for an agent, for ever\n"),
        ("0", Some("failing"), "waits    disk1 no more: no agent came in time"),
    ] {
        changed(&format!("params agent_grace={grace}"))?;
        let is_so = |screen: &Value| word.is_none() || wait(screen) == word.map(Value::from);
        wait_for("the change holds", BOUND, || Ok(is_so(&json("status --json")?).then_some(())))?;
        let status = shown("status")?;
        assert!(status.contains(line), "no `{line}` in: {status}");
    }
    let hint: &[&str] = &["no agent is connected", "start srb-agent"];
    fails("volume create vol2 1M", 1, hint)?;
    fails("volume list", 1, hint)?;
    fails("attach vol2 disk2", 1, hint)?;
    machine.start_agent()?;
    assert_eq!(sysfs::read(device.sysfs("srb_agent_wait"))?, "connected\n");
    assert!(!shown("status")?.contains("waits "));
    detach(device)
}

fn a_failure_says_why_and_what_to_do() -> TestResult {
    let machine = Machine::builder().without_urls().start()?;
    fails("volume create vol1 1M", 1, &["no URL is configured", "srbctl url add"])?;
    changed("url add http://127.0.0.1:8080")?;
    let device = attached(&machine, "vol1", "2M", "disk1")?;
    fails("volume create vol1 1M", 1, &["attached as disk1"])?;
    fails("volume destroy vol1", 1, &["attached as disk1", "srbctl detach disk1"])?;
    fails("volume extend vol1 1M", 1, &["can only grow", "2M"])?;
    fails("attach vol1 disk2", 1, &["already attached as disk1"])?;
    fails("url remove http://127.0.0.1:8080", 1, &["last URL", "disk1"])?;
    fails("detach vol1", 1, &["is a volume", "srbctl detach disk1"])?;
    changed("volume create vol2 1M")?;
    fails("volume create vol2 1M", 1, &["exists", "agent: ", "412"])?;
    fails("attach vol2 disk1", 1, &["disk1 is taken by the device of volume vol1"])?;
    fails("attach vol2 vda", 1, &["taken by another block device"])?;
    fails("attach vol2 disk1p1", 1, &["partition"])?;
    detach(device)?;
    changed("url add http://127.0.0.1:1")?;
    changed("url remove http://127.0.0.1:8080")?;
    changed("params nb_req_retries=0")?;
    let refused: &[&str] = &["every server refused", "agent: ", "http://127.0.0.1:1"];
    fails("volume create vol3 1M", 1, refused)?;
    fails("volume list", 1, refused)
}

fn whoever_keeps_a_device_open_is_named() -> TestResult {
    let machine = Machine::builder().start()?;
    let device = attached(&machine, "vol1", "16M", "disk1")?;
    machine.sh("mkfs.ext4 -q -O ^has_journal /dev/disk1")?;
    let mount = device.mount()?;
    settle()?;
    fails("detach disk1", 1, &["disk1 is mounted on /mnt/disk1", "umount /mnt/disk1"])?;
    mount.unmount()?;
    settle()?;
    let node = std::fs::File::open("/dev/disk1")?;
    let pid = std::process::id().to_string();
    fails("detach disk1", 1, &["disk1 is open in process", &pid])?;
    drop(node);
    machine.sh("echo 0 2048 linear /dev/disk1 0 | dmsetup create held")?;
    settle()?;
    fails("detach disk1", 1, &["held by dm-", "(held)", "dmsetup remove held"])?;
    machine.sh("dmsetup remove --retry held")?;
    detach(device)
}

fn what_waits_in_the_kernel_is_counted() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let device = attached(&machine, "vol1", "1M", "disk1")?;
    changed("device policy disk1 queue=30")?;
    assert_eq!(shown("device policy disk1")?, "queue=30\n");
    settle()?;
    assert_eq!(waiting()?, (true, 0));
    machine.stop_agent()?;
    let mut read = Command::new("dd")
        .args(["if=/dev/disk1", "of=/dev/null", "bs=4k", "count=1", "iflag=direct"])
        .spawn()?;
    let deadline = Instant::now() + BOUND;
    while waiting()? != (false, 1) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(waiting()?, (false, 1));
    machine.start_agent()?;
    assert!(read.wait()?.success());
    assert_eq!(waiting()?, (true, 0));
    detach(device)
}

/// Whether an agent tells of its requests, and how many of the first device wait in the kernel.
fn waiting() -> TestResult<(bool, u64)> {
    let screen = json("inflight --json")?;
    let count = screen.pointer("/devices/0/waiting").and_then(Value::as_u64);
    let told = screen.get("requests").is_some_and(Value::is_array);
    Ok((told, count.ok_or_else(|| format!("no count in {screen}"))?))
}
