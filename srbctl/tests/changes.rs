// SPDX-License-Identifier: GPL-2.0-only
//! What reaches the module, and what the user is told when it refuses.

mod site;

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{kill, signal, SigHandler, Signal};
use nix::sys::stat::Mode;
use nix::unistd::{mkfifo, Pid};
use serde_json::json;

use site::{Fault, Outcome, Site};

/// How soon a process that is told to end has ended.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn each_command_writes_what_echo_would() {
    for (words, file, bytes) in [
        (&["url", "add", "http://127.0.0.1:8080/"][..], "add_urls", "http://127.0.0.1:8080\n"),
        (&["url", "remove", "HTTP://A:80/x/"], "remove_urls", "http://a/x\n"),
        (&["volume", "create", "vol1", "10G"], "create", "vol1 10G\n"),
        (&["volume", "extend", "vol1", "20G"], "extend", "vol1 20G\n"),
        (&["volume", "destroy", "vol1"], "destroy", "vol1\n"),
        (&["attach", "vol1", "disk1"], "attach", "vol1 disk1\n"),
        (&["detach", "disk1"], "detach", "disk1\n"),
        (&["detach", "--force", "disk1"], "detach", "disk1 force\n"),
        (&["volume", "destroy", "--", "-v"], "destroy", "-v\n"),
    ] {
        let site = Site::loaded();
        let outcome = site.run(words);
        assert_eq!((outcome.code, outcome.out.as_str(), outcome.err.as_str()), (Some(0), "", ""));
        assert_eq!(site.commanded(file), bytes, "{words:?}");
    }
}

#[test]
fn each_url_is_a_command_of_its_own() {
    let site = Site::loaded();
    let outcome = site.run(&["url", "add", "http://a, http://b/x/", "http://[::1]:81"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    assert_eq!(site.commanded("add_urls"), "http://a\nhttp://b/x\nhttp://[::1]:81\n");
}

#[test]
fn a_bad_url_does_not_keep_the_good_ones_out() {
    let site = Site::loaded();
    let outcome = site.run(&["url", "add", "http://a,ftp://b", "http://c?q"]);
    assert_eq!(outcome.code, Some(1));
    assert_eq!(site.commanded("add_urls"), "http://a\n");
    assert_eq!(
        outcome.err,
        "srbctl: ftp://b: the URL does not begin with http:// (or is not null:)\n\
         srbctl: http://c?q: a repository URL has no user, password, query or fragment\n"
    );
}

#[test]
fn malformed_words_never_reach_the_module() {
    for (words, reason) in [
        (&["url", "add", "ftp://b"][..], "does not begin with http://"),
        (&["url", "add", ", "], "no URL is given"),
        (&["url", "remove", "http://a b"], "no valid host"),
        (&["url", "add"], "required arguments were not provided"),
        (&["volume", "create", "a/b", "1G"], "the name contains a slash"),
        (&["volume", "create", "a", "1.5G"], "a size is an integer"),
        (&["volume", "create", "a", "0"], "the size is zero"),
        (&["volume", "extend", "a", "99999999T"], "above 2^63-1 bytes"),
        (&["volume", "destroy", "a\tb"], "a space or a control character"),
        (&["attach", "a", "/dev/b"], "without /dev/"),
        (&["attach", "a", "toolong-toolong-toolong-toolong-"], "the name is too long"),
        (&["detach", ".."], "the name is . or .."),
        (&["frobnicate"], "unrecognized subcommand"),
    ] {
        let site = Site::loaded();
        let outcome = site.run(words);
        assert_eq!(outcome.code, Some(2), "{words:?}");
        assert!(outcome.err.contains(reason), "{words:?}: {}", outcome.err);
        assert!(site.is_untouched(), "{words:?}");
        let json = site.run(&[&["--json"], words].concat());
        assert_eq!(json.code, Some(2), "{words:?}");
        let message = json.error()["message"].to_string();
        assert!(message.contains(reason), "{words:?}: {message}");
    }
}

/// Runs `words` against a module that answers their write(2) with `errno`.
fn refused(site: &Site, words: &[&str], errno: Errno) -> Outcome {
    let command = match words {
        ["url", _, url] => format!("{url}\n"),
        ["params", assignment] => assignment.split('=').nth(1).expect("a value").to_owned() + "\n",
        ["detach", "--force", device] => format!("{device} force\n"),
        ["device", "policy", _, policy] => format!("{policy}\n"),
        ["volume", _, rest @ ..] | ["attach" | "detach", rest @ ..] => rest.join(" ") + "\n",
        _ => unreachable!("no such command"),
    };
    let fault = Fault::Write { bytes: command.len(), errno: errno as i32 };
    let outcome = site.run_with(fault, &[&["--json"], words].concat());
    assert_eq!(outcome.code, Some(1), "{words:?} {errno}: {outcome:?}");
    assert_eq!(outcome.out, "");
    assert_eq!(outcome.error()["name"], format!("{errno:?}"), "{words:?}");
    outcome
}

fn assert_refused(site: &Site, words: &[&str], errno: Errno, message: &str, hint: &str) {
    let error = refused(site, words, errno).error();
    let found = (error["message"].as_str(), error["hint"].as_str());
    assert_eq!(found, (Some(message), Some(hint)), "{words:?} {errno}");
}

#[test]
fn what_every_operation_may_meet() {
    let site = Site::loaded();
    for (errno, cause, hint) in [
        (Errno::ENOTCONN, "no agent is connected", "systemctl start srb-agent"),
        (Errno::EDESTADDRREQ, "no URL is configured", "srbctl url add http://"),
        (Errno::ETIMEDOUT, "no server answered in time", "srbctl url list"),
        (Errno::ECONNREFUSED, "every server refused the connection", "srbctl url list"),
        (Errno::EHOSTUNREACH, "no server can be reached", "srbctl url list"),
        (Errno::EACCES, "the server refused it", "/etc/srb/agent.toml"),
        (Errno::EPROTO, "the server's answer made no sense", "is it a repository"),
        (Errno::EIO, "it failed at the server", "dmesg"),
        (Errno::EINTR, "it was interrupted", "srbctl status"),
        (Errno::ENOMEM, "the kernel has no memory", "memory"),
        (Errno::EXDEV, "(EXDEV)", "dmesg"),
    ] {
        for words in [
            &["volume", "create", "vol1", "1G"][..],
            &["volume", "extend", "vol1", "1G"],
            &["volume", "destroy", "vol1"],
            &["attach", "vol1", "disk1"],
        ] {
            let error = refused(&site, words, errno).error();
            let (message, advice) = (error["message"].to_string(), error["hint"].to_string());
            assert!(message.contains(cause), "{words:?} {errno}: {message}");
            assert!(advice.contains(hint), "{words:?} {errno}: {advice}");
        }
    }
}

#[test]
fn create_and_destroy_refused() {
    let site = Site::loaded();
    site.device("disk9", "busy", 1 << 30);
    let create = ["volume", "create", "vol1", "1G"];
    assert_refused(
        &site,
        &create,
        Errno::EEXIST,
        "cannot create vol1: a volume of that name exists",
        "another name, srbctl volume extend vol1 SIZE, or srbctl attach vol1 DEVICE",
    );
    assert_refused(
        &site,
        &create,
        Errno::ENOSPC,
        "cannot create vol1: the server is full",
        "free or add space on the server",
    );
    assert_refused(
        &site,
        &["volume", "destroy", "vol1"],
        Errno::ENOENT,
        "cannot destroy vol1: there is no such volume",
        "srbctl volume list",
    );
    assert_refused(
        &site,
        &["volume", "destroy", "busy"],
        Errno::EBUSY,
        "cannot destroy busy: it is attached as disk9",
        "srbctl detach disk9",
    );
    assert_refused(
        &site,
        &["volume", "create", "busy", "1G"],
        Errno::EBUSY,
        "cannot create busy: a volume of that name exists, and is attached as disk9",
        "another name",
    );
    assert_refused(
        &site,
        &["volume", "destroy", "vol1"],
        Errno::EBUSY,
        "cannot destroy vol1: another operation on it is under way",
        "again, when that is done",
    );
}

#[test]
fn extend_that_would_not_grow() {
    let site = Site::loaded();
    site.device("disk1", "vol1", 10 << 30);
    assert_refused(
        &site,
        &["volume", "extend", "vol1", "5G"],
        Errno::EINVAL,
        "cannot extend vol1 to 5G: it has 10G (10737418240 bytes) already, and a volume can only \
         grow",
        "srbctl volume extend vol1 with a larger size",
    );
    assert_refused(
        &site,
        &["volume", "extend", "vol2", "5G"],
        Errno::EINVAL,
        "cannot extend vol2 to 5G: it is as large already, and a volume can only grow",
        "srbctl volume extend vol2 with a larger size",
    );
}

#[test]
fn attach_to_a_name_or_volume_that_is_taken() {
    let site = Site::loaded();
    site.device("disk0", "vol0", 1 << 30);
    site.file("sys/class/block/sda1/dev", "8:1\n");
    for (volume, device, cause, hint) in [
        (
            "vol0",
            "disk1",
            "vol0 is already attached as disk0",
            "use /dev/disk0, or srbctl detach disk0 first",
        ),
        (
            "vol1",
            "disk0",
            "the name disk0 is taken by the device of volume vol0",
            "another device name",
        ),
        ("vol1", "sda1", "the name sda1 is taken by another block device", "another device name"),
        (
            "vol1",
            "null",
            "the name null is taken by something else in /dev (ls -l /dev/null)",
            "another device name",
        ),
    ] {
        let message = format!("cannot attach {volume} as {device}: {cause}");
        assert_refused(&site, &["attach", volume, device], Errno::EEXIST, &message, hint);
    }
    assert_refused(
        &site,
        &["attach", "vol1", "disk0p1"],
        Errno::EEXIST,
        "cannot attach vol1 as disk0p1: the name disk0p1 is taken by disk0, or a partition that \
         one of the two may have",
        "another device name",
    );
    assert_refused(
        &site,
        &["attach", "vol1", "disk1"],
        Errno::ENOENT,
        "cannot attach vol1 as disk1: there is no volume vol1",
        "srbctl volume list, or srbctl volume create vol1 SIZE",
    );
    assert_refused(
        &site,
        &["attach", "vol1", "disk1"],
        Errno::ENOSPC,
        "cannot attach vol1 as disk1: 4096 devices are attached, and more are not possible",
        "srbctl detach DEVICE, for one that is not needed",
    );
}

#[test]
fn detach_says_who_has_it_open() {
    let site = Site::loaded();
    site.device("disk1", "vol1", 1 << 30);
    let detach = ["detach", "disk1"];
    assert_refused(
        &site,
        &detach,
        Errno::EBUSY,
        "cannot detach disk1: somebody has it open, or another operation on it is under way",
        "fuser -v /dev/disk1* (also in containers), then again; if that cannot be, srbctl detach \
         --force disk1, and lose what is not written yet",
    );
    site.file("proc/self/mountinfo", "30 27 259:7 / /mnt/a\\040b rw - ext4 /dev/disk1 rw\n");
    site.file("sys/block/disk1/disk1p1/partition", "1\n");
    site.file("proc/swaps", "Filename Type Size Used Priority\n/dev/disk1p1 partition 1 0 -2\n");
    assert_refused(
        &site,
        &detach,
        Errno::EBUSY,
        "cannot detach disk1: disk1 is mounted on /mnt/a b; disk1p1 is used as swap",
        "umount '/mnt/a b'; swapoff /dev/disk1p1; if that cannot be, srbctl detach --force disk1, \
         and lose what is not written yet",
    );
    let many: String =
        (0..20).map(|at| format!("{at} 27 259:7 / /mnt/{at} rw - ext4 /dev/disk1 rw\n")).collect();
    site.file("proc/self/mountinfo", &many);
    let error = refused(&site, &detach, Errno::EBUSY).error();
    let message = error["message"].to_string();
    assert!(message.contains("/mnt/19; disk1 is mounted on /mnt/18"), "{message}");
    assert!(message.contains("; and 13 more"), "{message}");
}

#[test]
fn detach_by_force_says_who_lost_it() {
    let site = Site::loaded();
    site.device("disk1", "vol1", 1 << 30);
    site.file("proc/self/mountinfo", "30 27 259:7 / /mnt rw - ext4 /dev/disk1 rw\n");
    let detach = ["detach", "disk1", "--force"];
    let outcome = site.run(&detach);
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(0), ""));
    let note = "srbctl: taken away although disk1 is mounted on /mnt (umount /mnt)\n";
    assert_eq!(outcome.err, note);
    let outcome = site.run(&[&["--json"], &detach[..]].concat());
    assert_eq!(outcome.err, "");
    let openers = json!([{ "description": "disk1 is mounted on /mnt", "remedy": "umount /mnt" }]);
    assert_eq!(outcome.json(), json!({ "device": "disk1", "openers": openers }));
    assert_refused(
        &site,
        &["detach", "--force", "disk1"],
        Errno::EBUSY,
        "cannot detach disk1 by force: another operation on it is under way, and did not let \
         itself be interrupted",
        "dmesg | grep srb (the module logs each failure with its reason)",
    );
    assert_refused(
        &site,
        &["detach", "--force", "vol1"],
        Errno::ENOENT,
        "cannot detach vol1 by force: vol1 is a volume; it is attached as disk1",
        "srbctl detach --force disk1",
    );
}

#[test]
fn the_policy_of_a_device_is_set() {
    let site = Site::loaded();
    site.device("disk1", "vol1", 1 << 30);
    for policy in ["queue", "queue=600", "fail"] {
        site.file("sys/block/disk1/srb_policy", "");
        let outcome = site.run(&["device", "policy", "disk1", policy]);
        assert_eq!((outcome.code, outcome.out.as_str(), outcome.err.as_str()), (Some(0), "", ""));
        assert_eq!(site.read("sys/block/disk1/srb_policy"), format!("{policy}\n"));
    }
    let misused = site.run(&["device", "policy", "disk1", "hold"]);
    assert_eq!(misused.code, Some(2));
    assert!(misused.err.contains("a policy is fail, queue or queue=SECONDS"), "{}", misused.err);
    assert_refused(
        &site,
        &["device", "policy", "disk1", "queue"],
        Errno::EINVAL,
        "cannot set the policy of disk1 to queue: the module takes it for malformed",
        "dmesg | grep srb (the module logs each failure with its reason)",
    );
    for (device, cause) in [
        ("disk2", "it is not attached; these are: disk1"),
        ("vol1", "vol1 is a volume; it is attached as disk1"),
    ] {
        let outcome = site.run(&["device", "policy", device]);
        assert_eq!((outcome.code, outcome.out.as_str()), (Some(1), ""));
        assert!(outcome.err.contains(cause), "{}", outcome.err);
        let outcome = site.run(&["inflight", device]);
        assert_eq!(outcome.code, Some(1));
        assert!(outcome.err.contains(cause), "{}", outcome.err);
    }
}

#[test]
fn detach_of_what_is_not_attached() {
    let site = Site::loaded();
    let detach = |site: &Site, device: &str, cause: &str, hint: &str| {
        let message = format!("cannot detach {device}: {cause}");
        assert_refused(site, &["detach", device], Errno::ENOENT, &message, hint);
    };
    detach(&site, "disk2", "no device is attached", "srbctl status");
    site.device("disk1", "vol1", 1 << 30);
    site.file("sys/block/sda/dev", "8:0\n");
    detach(&site, "disk2", "it is not attached; these are: disk1", "srbctl status");
    detach(&site, "sda", "it is not a device of srb", "srbctl status");
    detach(&site, "vol1", "vol1 is a volume; it is attached as disk1", "srbctl detach disk1");
}

#[test]
fn urls_refused() {
    let site = Site::loaded();
    site.device("disk1", "vol1", 1 << 30);
    for (words, errno, message, hint) in [
        (
            ["url", "add", "http://a"],
            Errno::EEXIST,
            "cannot add http://a: it is configured already",
            "srbctl url list",
        ),
        (
            ["url", "add", "http://a"],
            Errno::ENOSPC,
            "cannot add http://a: 32 URLs are configured, and more are not possible",
            "srbctl url remove URL, for one that is not needed",
        ),
        (
            ["url", "remove", "http://a"],
            Errno::ENOENT,
            "cannot remove http://a: no URL is configured at all",
            "srbctl url list",
        ),
        (
            ["url", "remove", "http://a"],
            Errno::EBUSY,
            "cannot remove http://a: it is the last URL, and devices need it: disk1",
            "add another URL first, or detach the devices",
        ),
    ] {
        assert_refused(&site, &words, errno, message, hint);
    }
    site.file("sys/class/srb/urls", "http://b,http://c\n");
    assert_refused(
        &site,
        &["url", "add", "null:1g"],
        Errno::EINVAL,
        "cannot add null:1g: null: stands alone, and these are configured: http://b, http://c",
        "srbctl url remove URL, for what is in its way",
    );
    assert_refused(
        &site,
        &["url", "remove", "http://a"],
        Errno::ENOENT,
        "cannot remove http://a: it is not among the configured URLs: http://b, http://c",
        "srbctl url list",
    );
}

#[test]
fn the_agent_tells_what_is_behind_the_errno() {
    let site = Site::loaded();
    let later = json!(u64::MAX / 2);
    let failure = |ms: &serde_json::Value, volume: &str, errno: i32, message: &str| {
        json!({ "unix_ms": ms, "what": "create", "volume": volume, "message": message,
            "errno": errno, "url": "http://a" })
    };
    site.agent(vec![(
        "/errors",
        200,
        json!({ "errors": [
            failure(&later, "vol2", 5, "of another volume"),
            failure(&later, "vol1", 71, "another errno"),
            failure(&later, "vol1", 5, "503 Service Unavailable after 4 tries"),
            failure(&json!(1), "vol1", 5, "of the past"),
        ]}),
    )]);
    let create = ["volume", "create", "vol1", "1G"];
    let error = refused(&site, &create, Errno::EIO).error();
    assert_eq!(error["agent"], "http://a: 503 Service Unavailable after 4 tries");

    let fault = Fault::Write { bytes: "vol1 1G\n".len(), errno: Errno::EIO as i32 };
    let outcome = site.run_with(fault, &create);
    assert_eq!(outcome.code, Some(1));
    assert_eq!(
        outcome.err,
        "srbctl: cannot create vol1: it failed at the server\n  \
         hint: dmesg | grep srb (the module logs each failure with its reason)\n  \
         agent: http://a: 503 Service Unavailable after 4 tries\n"
    );
    let error = refused(&site, &["volume", "destroy", "vol3"], Errno::EIO).error();
    assert_eq!(error["agent"], json!(null));
}

#[test]
fn an_agent_that_runs_without_a_session_is_told_from_none() {
    let site = Site::loaded();
    site.agent(vec![("/status", 200, json!({ "agent": { "pid": 42 } }))]);
    assert_refused(
        &site,
        &["volume", "destroy", "vol1"],
        Errno::ENOTCONN,
        "cannot destroy vol1: srb-agent runs (pid 42) but is not connected",
        "journalctl -u srb-agent (it may be of another version than the module)",
    );
}

#[test]
fn without_the_module_it_says_how_to_load_it() {
    let site = Site::bare();
    for words in [
        &["url", "add", "http://a"][..],
        &["url", "list"],
        &["volume", "list"],
        &["volume", "create", "vol1", "1G"],
        &["attach", "vol1", "disk1"],
        &["detach", "disk1"],
        &["params"],
        &["params", "debug=7"],
        &["status"],
        &["inflight"],
        &["device", "list"],
        &["device", "policy", "disk1"],
        &["device", "policy", "disk1", "queue"],
        &["detach", "disk1", "--force"],
    ] {
        let outcome = site.run(words);
        assert_eq!((outcome.code, outcome.out.as_str()), (Some(1), ""), "{words:?}");
        assert!(outcome.err.contains("the srb module is not loaded"), "{}", outcome.err);
        assert!(outcome.err.contains("hint: modprobe srb (or insmod srb.ko)"), "{}", outcome.err);
    }
}

#[test]
fn without_the_rights_it_says_so() {
    let site = Site::loaded();
    let fault = Fault::OpenForWriting { errno: Errno::EACCES as i32 };
    for words in [&["attach", "vol1", "disk1"][..], &["params", "debug=7"]] {
        let outcome = site.run_with(fault, words);
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert!(outcome.err.contains("Permission denied"), "{}", outcome.err);
        assert!(outcome.err.contains("hint: run srbctl as root"), "{}", outcome.err);
    }
}

#[test]
fn an_interrupt_ends_a_wait() {
    let site = Site::loaded();
    // A FIFO without a reader keeps the opener waiting, as a slow command keeps a writer.
    let fifo = site.path("sys/class/srb/attach");
    std::fs::remove_file(&fifo).expect("removed");
    mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).expect("made");
    let mut command = site.command(&["attach", "vol1", "disk1"]);
    // As a terminal's shell starts it: of what runs in the background it is ignored.
    // SAFETY: sigaction(2) is async-signal-safe; no handler is installed.
    let as_of_a_terminal = || unsafe { signal(Signal::SIGINT, SigHandler::SigDfl) };
    // SAFETY: between fork and exec only that is called.
    unsafe { command.pre_exec(move || as_of_a_terminal().map(drop).map_err(Into::into)) };
    let mut child = command.spawn().expect("started");
    thread::sleep(Duration::from_millis(200));
    assert_eq!(child.try_wait().expect("looked"), None, "it waits");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("sent");
    let began = Instant::now();
    let ended = loop {
        if let Some(status) = child.try_wait().expect("looked") {
            break status;
        }
        if began.elapsed() > ENDS_WITHIN {
            child.kill().expect("killed");
        }
        thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(ended.signal(), Some(Signal::SIGINT as i32));
}

#[test]
fn parameters_are_set_one_write_each() {
    let site = Site::loaded();
    site.file("sys/module/srb/parameters/debug", "");
    site.file("sys/module/srb/parameters/agent_grace", "");
    site.file("sys/module/srb/parameters/policy", "");
    let outcome = site.run(&["params", "debug=7", "agent_grace=-1", "policy=queue=30"]);
    assert_eq!((outcome.code, outcome.out.as_str(), outcome.err.as_str()), (Some(0), "", ""));
    assert_eq!(site.read("sys/module/srb/parameters/debug"), "7\n");
    assert_eq!(site.read("sys/module/srb/parameters/agent_grace"), "-1\n");
    assert_eq!(site.read("sys/module/srb/parameters/policy"), "queue=30\n");
}

#[test]
fn parameters_are_all_checked_before_one_is_set() {
    for (word, reason) in [
        ("debug=high", "debug is a whole number, 0 to 7; \"high\" is none"),
        ("req_timeout=", "req_timeout is a whole number, 1 to 3600 seconds"),
        ("thread_pool_size=16", "thread_pool_size can be set only when the module is loaded"),
        ("thread_pool_size=16", "insmod srb.ko"),
        ("policy=hold", "policy: a policy is fail, queue or queue=SECONDS"),
        ("policy=queue=0", "policy: the seconds of a policy are a number from 1 to 86400"),
        ("colour=1", "there is no parameter \"colour\""),
        ("colour", "hint: debug, req_timeout, nb_req_retries"),
    ] {
        let site = Site::loaded();
        let outcome = site.run(&["params", "nb_req_retries=9", word]);
        assert_eq!(outcome.code, Some(2), "{word}");
        assert!(outcome.err.contains(reason), "{word}: {}", outcome.err);
        assert_eq!(site.read("sys/module/srb/parameters/nb_req_retries"), "3\n");
    }
    let site = Site::loaded();
    assert_refused(
        &site,
        &["params", "req_timeout=0"],
        Errno::EINVAL,
        "cannot set req_timeout to 0: the module does not take 0",
        "req_timeout is 1 to 3600 seconds",
    );
}
