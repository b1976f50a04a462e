// SPDX-License-Identifier: GPL-2.0-only
//! The program itself, as far as it goes without the module.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_srb-agent"))
        .args(arguments)
        .env_remove("NOTIFY_SOCKET")
        .output()
        .expect("it starts");
    let Output { status, stdout, stderr } = output;
    let text = [stdout, stderr].concat();
    (status.code(), String::from_utf8(text).expect("UTF-8"))
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn without_the_module_it_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let device = folder.path().join("srb-control");
    let (code, said) = run(&["--device", path(&device)]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("srb-control does not exist: load srb.ko first"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn what_is_not_the_module_is_refused() {
    let (code, said) = run(&["--device", "/dev/null"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot begin a session"), "{said}");
}

#[test]
fn a_configuration_that_is_not_understood_names_its_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("agent.toml");
    fs::write(&file, "socket = '/tmp/a'\nlock_memry = true\n").expect("written");
    let (code, said) = run(&["--config", path(&file)]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("line 2") && said.contains("lock_memry"), "{said}");
    let (code, said) = run(&["--config", path(&folder.path().join("other.toml"))]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot read") && said.contains("other.toml"), "{said}");
}

#[test]
fn a_wrong_command_line_is_another_status() {
    assert_eq!(run(&["--nonsense"]).0, Some(2));
    let (code, said) = run(&["--help"]);
    assert_eq!(code, Some(0));
    for option in ["--config", "--socket", "--device", "--verbose"] {
        assert!(said.contains(option), "{option}");
    }
}

#[test]
fn the_units_start_this_program_and_restart_it() {
    let serves = include_str!("../srb-agent.service");
    let stands_by = include_str!("../srb-agent-standby.service");
    for line in ["ExecStart=srb-agent --standby", "Type=notify", "Restart=always"] {
        for unit in [serves, stands_by] {
            assert!(unit.lines().any(|found| found == line), "{line}");
        }
    }
    let wants = "Wants=srb-agent-standby.service ";
    assert!(serves.lines().any(|line| line.starts_with(wants)), "{serves}");
    // What concerns the process is the same, so that it does not matter which of the two serves.
    let service = |unit: &'static str| {
        let (_, service) = unit.split_once("[Service]").expect("a section");
        let (service, _) = service.split_once("[Install]").expect("another");
        let replaced = ["ExecReload=", "NotifyAccess=", "#"];
        let same = |line: &&str| !replaced.iter().any(|start| line.starts_with(start));
        service.lines().filter(same).collect::<Vec<_>>()
    };
    assert_eq!(service(serves), service(stands_by));
}

#[test]
fn to_stand_by_is_not_to_take_over() {
    let (code, said) = run(&["--standby", "--takeover"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--takeover"), "{said}");
}
