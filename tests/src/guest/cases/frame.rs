// SPDX-License-Identifier: GPL-2.0-only
//! The frame itself: a test that leaves something behind, or makes the kernel complain, fails.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::guest::machine::message;
use crate::guest::process::{run, sh, tasks, Daemon};
use crate::guest::wait::patiently;
use crate::guest::{clean, load_module, sysfs, Case, TestResult};

const BOUND: Duration = Duration::from_secs(20);

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("frame::module_loads_and_unloads", module_loads_and_unloads),
        Case::new("frame::kernel_warning_fails_a_test", kernel_warning_fails_a_test)
            .allow_log(WARNING),
        Case::new("frame::left_process_fails_a_test", left_process_fails_a_test),
        Case::new("frame::left_module_is_unloaded", left_module_is_unloaded),
        Case::new("frame::hanging_test_is_ended", hanging_test_is_ended)
            .allow_log("sysrq")
            .allow_log("task:")
            .allow_log("Call Trace"),
        Case::new("frame::command_is_bounded", command_is_bounded),
    ]
}

const WARNING: &str = "a warning made by the test of the tests";

/// Runs a case that must fail; returns why it did.
fn failure(case: Case) -> TestResult<String> {
    match case.execute() {
        Ok(()) => Err("it passed".into()),
        Err(why) => Ok(message(&why)),
    }
}

fn module_loads_and_unloads() -> TestResult {
    for _ in 0..3 {
        load_module(&[])?;
        assert!(sysfs::module_loaded());
        assert!(sysfs::devices().is_empty());
        clean::unload()?;
        assert!(!sysfs::module_loaded());
    }
    Ok(())
}

fn kernel_warning_fails_a_test() -> TestResult {
    let case = Case::new("inner", || Ok(fs::write("/dev/kmsg", format!("<4>{WARNING}\n"))?));
    let why = failure(case)?;
    assert!(why.contains(WARNING), "{why}");
    let quiet = Case::new("inner", || Ok(fs::write("/dev/kmsg", "<6>nothing special\n")?));
    quiet.execute()
}

fn left_process_fails_a_test() -> TestResult {
    // Under a name of ours, which the kernel takes from the file.
    run(Command::new("cp").args(["/usr/bin/sleep", "/tmp/srb-playground"]), BOUND)?.success()?;
    let case = Case::new("inner", || {
        let daemon = Daemon::start("left", Command::new("/tmp/srb-playground").arg("1000"))?;
        std::mem::forget(daemon);
        Ok(())
    });
    let why = failure(case)?;
    assert!(why.contains("the process srb-playground"), "{why}");
    let left = tasks().into_iter().any(|t| t.name == "srb-playground" && t.state != 'Z');
    assert!(!left, "it was not removed");
    Ok(())
}

fn left_module_is_unloaded() -> TestResult {
    Case::new("inner", || load_module(&[])).execute()?;
    assert!(!sysfs::module_loaded());
    Ok(())
}

fn hanging_test_is_ended() -> TestResult {
    let bound = Duration::from_millis(500);
    let case = Case::new("inner", move || {
        std::thread::sleep(patiently(6 * bound));
        Ok(())
    });
    let why = failure(case.bound(bound))?;
    let expected = format!("no end after {:?}; ended then", patiently(bound));
    assert!(why.contains(&expected), "{why}");
    Ok(())
}

fn command_is_bounded() -> TestResult {
    let Err(why) = sh("echo before; sleep 1000", Duration::from_secs(1)) else {
        return Err("it ended".into());
    };
    let why = message(&why);
    assert!(why.contains("before"), "{why}");
    let quick = sh("echo out; echo err >&2; exit 3", BOUND)?;
    assert_eq!(quick.status.code(), Some(3));
    assert_eq!((quick.stdout.as_str(), quick.stderr.as_str()), ("out\n", "err\n"));
    // A daemon left behind holds the pipes open, and is no reason to wait for ever.
    sh("sleep 30 & true", BOUND)?;
    Ok(())
}
