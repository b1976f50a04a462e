// SPDX-License-Identifier: GPL-2.0-only
//! Who keeps a device open: mounts, swap, device-mapper and RAID on top of it, processes; of the
//! disk and of its partitions.
//!
//! It is a search for an explanation: what cannot be read is passed over, and another mount
//! namespace is not seen.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::sysfs::{self, Sysfs};

/// How deep devices are looked for on top of each other.
const MAX_DEPTH: usize = 8;

/// One reason why a device is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opener {
    /// A file system.
    Mount {
        /// Name of the disk, partition or holder.
        device: String,
        /// Where.
        target: String,
    },
    /// Swap space.
    Swap {
        /// Name of the disk, partition or holder.
        device: String,
    },
    /// Another block device made of it.
    Holder {
        /// What is held.
        device: String,
        /// Such as `dm-0`.
        holder: String,
        /// Its name in /dev/mapper.
        mapper: Option<String>,
    },
    /// A process that opened its node.
    Process {
        /// Name of the disk or partition.
        device: String,
        /// Its number.
        pid: u32,
        /// Its name.
        name: String,
    },
}

impl Opener {
    /// What lets go of it.
    pub(crate) fn remedy(&self) -> String {
        match self {
            Self::Mount { target, .. } => format!("umount {}", quoted(target)),
            Self::Swap { device } => format!("swapoff /dev/{device}"),
            Self::Holder { mapper: Some(mapper), .. } => {
                format!("dmsetup remove {mapper} (or vgchange -an, if it is LVM's)")
            }
            Self::Holder { holder, .. } => format!("stop /dev/{holder}"),
            Self::Process { pid, name, .. } => format!("end process {pid} ({name})"),
        }
    }
}

impl fmt::Display for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount { device, target } => write!(f, "{device} is mounted on {target}"),
            Self::Swap { device } => write!(f, "{device} is used as swap"),
            Self::Holder { device, holder, mapper: Some(mapper) } => {
                write!(f, "{device} is held by {holder} ({mapper})")
            }
            Self::Holder { device, holder, mapper: None } => {
                write!(f, "{device} is held by {holder}")
            }
            Self::Process { device, pid, name } => {
                write!(f, "{device} is open in process {pid} ({name})")
            }
        }
    }
}

/// Finds out who keeps `disk` open, what must go first before what it rests on.
pub(crate) fn find(sysfs: &Sysfs, proc_root: &Path, disk: &str) -> Vec<Opener> {
    let mut search = Search { sysfs, devices: BTreeMap::new(), holders: Vec::new() };
    search.visit(disk, &sysfs.disk(disk), 0);
    for partition in partitions(&sysfs.disk(disk)) {
        let dir = sysfs.disk(disk).join(&partition);
        search.visit(&partition, &dir, 0);
    }
    let mut found = mounts(proc_root, &search.devices);
    found.extend(swaps(proc_root, &search.devices));
    search.holders.reverse();
    found.extend(search.holders);
    found.extend(processes(proc_root, &search.devices));
    found
}

struct Search<'a> {
    sysfs: &'a Sysfs,
    /// Paths in /dev and device numbers (`MAJOR:MINOR`), each with the name that is shown.
    devices: BTreeMap<String, String>,
    holders: Vec<Opener>,
}

impl Search<'_> {
    fn visit(&mut self, name: &str, dir: &Path, depth: usize) {
        self.devices.insert(format!("/dev/{name}"), name.to_owned());
        if let Ok(number) = sysfs::read(&dir.join("dev")) {
            self.devices.insert(number, name.to_owned());
        }
        let mapper = sysfs::read(&dir.join("dm/name")).ok();
        if let Some(mapper) = &mapper {
            self.devices.insert(format!("/dev/mapper/{mapper}"), format!("mapper/{mapper}"));
        }
        if depth == MAX_DEPTH {
            return;
        }
        for holder in names(&dir.join("holders")) {
            let dir = self.sysfs.block(&holder);
            let mapper = sysfs::read(&dir.join("dm/name")).ok();
            let device = name.to_owned();
            self.holders.push(Opener::Holder { device, holder: holder.clone(), mapper });
            self.visit(&holder, &dir, depth + 1);
        }
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn partitions(disk: &Path) -> Vec<String> {
    let is_partition = |name: &String| disk.join(name).join("partition").exists();
    names(disk).into_iter().filter(is_partition).collect()
}

/// Lines of /proc/self/mountinfo: id, parent, MAJOR:MINOR, root, target, options, optional fields,
/// `-`, type, source.
fn mounts(proc_root: &Path, devices: &BTreeMap<String, String>) -> Vec<Opener> {
    let text = fs::read_to_string(proc_root.join("self/mountinfo")).unwrap_or_default();
    let mount = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(2);
        let (number, _, target) = (fields.next()?, fields.next()?, fields.next()?);
        let source = unescaped(after.split(' ').nth(1)?);
        let device = devices.get(&source).or_else(|| devices.get(number))?.clone();
        Some(Opener::Mount { device, target: unescaped(target) })
    };
    let mut found: Vec<_> = text.lines().filter_map(mount).collect();
    // What is mounted last lies on top.
    found.reverse();
    found
}

fn swaps(proc_root: &Path, devices: &BTreeMap<String, String>) -> Vec<Opener> {
    let text = fs::read_to_string(proc_root.join("swaps")).unwrap_or_default();
    let swap = |line: &str| {
        let path = unescaped(line.split_ascii_whitespace().next()?);
        Some(Opener::Swap { device: devices.get(&path)?.clone() })
    };
    text.lines().filter_map(swap).collect()
}

fn processes(proc_root: &Path, devices: &BTreeMap<String, String>) -> Vec<Opener> {
    let mut found = Vec::new();
    for pid in names(proc_root).iter().filter_map(|name| name.parse::<u32>().ok()) {
        let dir = proc_root.join(pid.to_string());
        let opened = |path: PathBuf| {
            let target = fs::read_link(path).ok()?;
            devices.get(target.to_str()?).cloned()
        };
        let device = fs::read_dir(dir.join("fd"))
            .into_iter()
            .flatten()
            .flatten()
            .find_map(|entry| opened(entry.path()));
        if let Some(device) = device {
            let name = sysfs::read(&dir.join("comm")).unwrap_or_default();
            found.push(Opener::Process { device, pid, name });
        }
    }
    found
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@,".contains(c);
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Undoes the kernel's octal escapes of white space and backslashes in paths.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let code = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(code) if *byte == b'\\' => {
                bytes.push(code);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn file(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("created");
        fs::write(path, text).expect("written");
    }

    #[test]
    fn escapes() {
        assert_eq!(unescaped(r"/mnt/a\040b\134c"), r"/mnt/a b\c");
        assert_eq!(unescaped(r"\04"), r"\04");
        assert_eq!(unescaped(""), "");
    }

    #[test]
    fn everybody_is_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let (sys, proc) = (dir.path().join("sys"), dir.path().join("proc"));
        file(&sys, "block/disk1/dev", "259:0\n");
        file(&sys, "block/disk1/disk1p1/dev", "259:1\n");
        file(&sys, "block/disk1/disk1p1/partition", "1\n");
        file(&sys, "block/disk1/disk1p1/holders/dm-0/x", "");
        file(&sys, "block/disk1/disk1p2/dev", "259:2\n");
        file(&sys, "block/disk1/disk1p2/partition", "2\n");
        file(&sys, "class/block/dm-0/dev", "253:0\n");
        file(&sys, "class/block/dm-0/dm/name", "vg-lv\n");
        file(
            &proc,
            "self/mountinfo",
            "22 27 0:21 / /proc rw - proc proc rw\n\
             30 27 253:0 / /srv rw shared:1 - ext4 /dev/mapper/vg-lv rw\n\
             31 30 0:44 /sub /srv/b\\040c rw - btrfs /dev/disk1 rw\n",
        );
        file(&proc, "swaps", "Filename Type\n/dev/disk1p2 partition 1 0 -2\n");
        file(&proc, "77/comm", "dd\n");
        fs::create_dir_all(proc.join("77/fd")).expect("created");
        symlink("/dev/null", proc.join("77/fd/0")).expect("linked");
        symlink("/dev/disk1p1", proc.join("77/fd/3")).expect("linked");

        let found = find(&Sysfs::new(sys), &proc, "disk1");
        let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "disk1 is mounted on /srv/b c",
                "mapper/vg-lv is mounted on /srv",
                "disk1p2 is used as swap",
                "disk1p1 is held by dm-0 (vg-lv)",
                "disk1p1 is open in process 77 (dd)",
            ]
        );
        assert_eq!(found[2].remedy(), "swapoff /dev/disk1p2");
        assert_eq!(found[1].remedy(), "umount /srv");
    }
}
