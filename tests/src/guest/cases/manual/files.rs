// SPDX-License-Identifier: GPL-2.0-only
//! The files themselves: which there are, who may do what with them, and what they say of
//! themselves.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::{attached, detach, read_class};
use crate::guest::{load_module, process, sysfs, Case, Machine, TestResult};

const CLASS_FILES: [(&str, u32); 11] = [
    ("urls", 0o400),
    ("volumes", 0o400),
    ("bad_answers", 0o400),
    ("standbys", 0o400),
    ("add_urls", 0o600),
    ("remove_urls", 0o600),
    ("create", 0o600),
    ("extend", 0o600),
    ("destroy", 0o600),
    ("attach", 0o600),
    ("detach", 0o600),
];
const DISK_FILES: [(&str, u32); 10] = [
    ("srb_debug", 0o644),
    ("srb_policy", 0o644),
    ("srb_agent_wait", 0o444),
    ("srb_urls", 0o444),
    ("srb_name", 0o444),
    ("srb_size", 0o444),
    ("serial", 0o444),
    ("wwid", 0o444),
    ("vendor", 0o444),
    ("model", 0o444),
];
const PARAMETERS: [(&str, u32); 8] = [
    ("debug", 0o644),
    ("srb_log", 0o644),
    ("req_timeout", 0o644),
    ("nb_req_retries", 0o644),
    ("server_conn_timeout", 0o644),
    ("thread_pool_size", 0o444),
    ("agent_grace", 0o644),
    ("policy", 0o644),
];
const BOUND: Duration = Duration::from_secs(20);

pub(super) fn cases() -> Vec<Case> {
    named!["files":
        every_file_of_the_manual_is_there_with_its_mode,
        reading_a_command_prints_its_usage_and_does_nothing,
        who_is_not_root_can_only_read_the_files_of_a_disk,
        root_without_the_right_to_administer_gives_no_command,
    ]
    .into()
}

fn check_modes(folder: &str, files: &[(&str, u32)]) -> TestResult {
    for (file, mode) in files {
        let path = Path::new(folder).join(file);
        let metadata = fs::metadata(&path).map_err(|error| format!("{path:?}: {error}"))?;
        assert_eq!(metadata.permissions().mode() & 0o7777, *mode, "{path:?}");
    }
    Ok(())
}

fn every_file_of_the_manual_is_there_with_its_mode() -> TestResult {
    let machine = Machine::builder().start()?;
    let device = attached(&machine, "vol1", "1M", "disk1")?;
    check_modes(sysfs::CLASS, &CLASS_FILES)?;
    check_modes(sysfs::PARAMETERS, &PARAMETERS)?;
    check_modes("/sys/block/disk1", &DISK_FILES)?;
    let count = fs::read_dir(sysfs::CLASS)?.count();
    assert_eq!(count, CLASS_FILES.len(), "{} has other files", sysfs::CLASS);
    let count = fs::read_dir(sysfs::PARAMETERS)?.count();
    assert_eq!(count, PARAMETERS.len(), "{} has other files", sysfs::PARAMETERS);
    let described = machine.sh("modinfo -p /srb/srb.ko")?;
    for (name, _) in PARAMETERS {
        assert!(described.contains(&format!("{name}:")), "modinfo misses {name}: {described}");
    }
    detach(device)
}

fn reading_a_command_prints_its_usage_and_does_nothing() -> TestResult {
    load_module(&[])?;
    for (file, _) in CLASS_FILES.into_iter().filter(|(_, mode)| *mode == 0o600) {
        let usage = read_class(file)?;
        assert!(usage.starts_with("Usage: echo "), "{file}: {usage}");
        assert!(usage.contains(&format!("> {file}")), "{file}: {usage}");
        assert!(usage.ends_with('\n') && usage.lines().count() == 1, "{file}: {usage}");
    }
    assert_eq!(read_class("urls").as_deref(), Ok("\n"));
    Ok(())
}

/// Runs a line of shell as nobody; whether it succeeded.
fn as_nobody(line: &str) -> TestResult<bool> {
    let line = format!("setpriv --reuid=65534 --regid=65534 --clear-groups sh -c '{line}'");
    Ok(process::sh(&line, BOUND)?.status.success())
}

fn who_is_not_root_can_only_read_the_files_of_a_disk() -> TestResult {
    let machine = Machine::builder().start()?;
    let device = attached(&machine, "vol1", "1M", "disk1")?;
    assert!(as_nobody("cat /sys/block/disk1/srb_*")?, "the files of a disk cannot be read");
    assert!(!as_nobody("echo 7 > /sys/block/disk1/srb_debug")?, "nobody changed a log level");
    assert!(!as_nobody("cat /sys/class/srb/urls")?, "nobody read the URLs");
    assert!(!as_nobody("cat /sys/class/srb/volumes")?, "nobody listed the volumes");
    assert!(!as_nobody("echo disk1 > /sys/class/srb/detach")?, "nobody detached a disk");
    assert!(!as_nobody("cat /dev/srb-control")?, "nobody opened the control device");
    assert!(!as_nobody("cat /run/srb/agent.sock")?, "nobody talked to the agent");
    detach(device)
}

/// Runs a line of shell as root without CAP_SYS_ADMIN; its output, of which kind soever.
fn without_the_right(line: &str) -> TestResult<String> {
    let line = format!("setpriv --bounding-set=-sys_admin bash -c '{line}' 2>&1; true");
    process::sh(&line, BOUND)?.success()
}

fn root_without_the_right_to_administer_gives_no_command() -> TestResult {
    let machine = Machine::builder().start()?;
    let device = attached(&machine, "vol1", "1M", "disk1")?;
    for line in [
        "cat /sys/class/srb/urls",
        "cat /sys/class/srb/volumes",
        "echo disk1 > /sys/class/srb/detach",
        "echo vol2 1M > /sys/class/srb/create",
        "echo 7 > /sys/block/disk1/srb_debug",
        "echo queue > /sys/block/disk1/srb_policy",
        ": <> /dev/srb-control",
    ] {
        let said = without_the_right(line)?;
        assert!(said.contains("Operation not permitted"), "{line}: {said}");
    }
    // A file that root has opened is no right either.
    let handed = "exec 3> /sys/class/srb/detach; setpriv --bounding-set=-sys_admin bash -c \
                  'echo disk1 >&3' 2>&1; true";
    let said = process::sh(handed, BOUND)?.success()?;
    assert!(said.contains("Operation not permitted"), "{said}");
    assert_eq!(read_class("volumes").as_deref(), Ok("vol1\n"));
    // The agent has given its own right up.
    let agent = machine.sh("grep CapEff /proc/$(pidof srb-agent)/status")?;
    let rights = agent.split_whitespace().nth(1).ok_or("no rights")?;
    assert_eq!(u64::from_str_radix(rights, 16)? & (1 << 21), 0, "{agent}");
    detach(device)
}
