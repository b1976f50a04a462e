// SPDX-License-Identifier: GPL-2.0-only
//! The generator (systemd.generator(7)): a unit for each line of srbtab.
//!
//! systemd runs it before anything else, at boot and whenever its configuration is read anew. The
//! program is srbctl itself, by another name. It always succeeds: what is wrong goes to the log.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::table::{self, Entry};

/// The name by which srbctl is the generator.
pub(crate) const NAME: &str = "srb-generator";
/// What is to be there when the machine is up.
const WANTED_BY: &str = "multi-user.target.wants";
/// What the command itself needs beyond the time for the volume.
const SPARE_SECS: u32 = 15;

/// Makes the units in the first of the folders that systemd names.
pub(crate) fn run(mut folders: impl Iterator<Item = OsString>) {
    let Some(folder) = folders.next() else {
        complain(&["usage: srb-generator FOLDER [EARLY LATE]".to_owned()]);
        return;
    };
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/srbctl"));
    complain(&generate(Path::new("/etc"), Path::new(&folder), &program));
}

/// Tells the kernel's log, which is all that there is at that time, or a user who tries it.
fn complain(findings: &[String]) {
    if findings.is_empty() {
        return;
    }
    let mut stderr = io::stderr().lock();
    let mut log = match File::options().write(true).open("/dev/kmsg") {
        Ok(log) if !stderr.is_terminal() => Some(log),
        _ => None,
    };
    for finding in findings {
        // A message for each write(2). Nobody is left to tell if it fails.
        let _ = match &mut log {
            Some(log) => log.write_all(format!("<3>{NAME}: {finding}\n").as_bytes()),
            None => writeln!(stderr, "{NAME}: {finding}"),
        };
    }
}

/// Makes the units; returns what is wrong, a sentence each.
fn generate(etc: &Path, folder: &Path, program: &Path) -> Vec<String> {
    let table = table::read(etc);
    let mut wrong: Vec<_> = table.findings.iter().map(ToString::to_string).collect();
    for entry in &table.value {
        if let Err(error) = write_unit(entry, folder, program) {
            wrong.push(format!("cannot make the unit of {}: {error}", entry.device));
        }
    }
    wrong
}

fn write_unit(entry: &Entry, folder: &Path, program: &Path) -> io::Result<()> {
    let name = format!("srb-attach@{}.service", escaped(&entry.device));
    fs::write(folder.join(&name), text(entry, program))?;
    if !entry.options.no_auto {
        let wants = folder.join(WANTED_BY);
        fs::create_dir_all(&wants)?;
        symlink(Path::new("..").join(&name), wants.join(&name))?;
    }
    // Whatever waits for the device has it attached, a mount that is not mounted at boot, say.
    let drop_in = folder.join(format!("dev-{}.device.d", escaped(&entry.device)));
    fs::create_dir_all(&drop_in)?;
    fs::write(drop_in.join("50-srb.conf"), format!("[Unit]\nWants={name}\n"))
}

/// A name as part of a unit's, as systemd-escape(1) has it.
fn escaped(name: &str) -> String {
    let mut text = String::new();
    for (at, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || b":_".contains(&byte);
        if plain || (byte == b'.' && at > 0) {
            text.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// A word in a unit: no specifier.
fn word(text: &str) -> String {
    text.replace('%', "%%")
}

fn text(entry: &Entry, program: &Path) -> String {
    let Entry { path, line, volume, device, options } = entry;
    // A mount from the network that may fail does not hold up the others; nor does this.
    let before = match options.no_fail {
        true => "",
        false => "Before=remote-fs-pre.target\n",
    };
    let timeout = options.timeout_secs.saturating_add(SPARE_SECS);
    let (path, volume, program) =
        (word(&path.display().to_string()), word(volume), word(&program.display().to_string()));
    format!(
        "# Made by {NAME} from {path}:{line}.\n\
         [Unit]\n\
         Description=srb: {volume} as /dev/{device}\n\
         Documentation=man:srbtab(5)\n\
         SourcePath={path}\n\
         # Mounts with _netdev come after remote-fs-pre.target, and go before it.\n\
         DefaultDependencies=no\n\
         Wants=srb-agent.service network-online.target remote-fs-pre.target\n\
         After=srb-agent.service network-online.target\n\
         {before}\
         Conflicts=shutdown.target\n\
         Before=shutdown.target\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         ExecStart={program} boot attach -- {device}\n\
         ExecStop={program} boot detach -- {device}\n\
         TimeoutStartSec={timeout}\n\
         TimeoutStopSec=30\n\
         # The server may be back later. Exit status 2: this line will never do.\n\
         Restart=on-failure\n\
         RestartSec=30\n\
         RestartPreventExitStatus=2\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generated(srbtab: &str) -> (tempfile::TempDir, Vec<String>) {
        let dir = tempfile::tempdir().expect("a folder");
        let (etc, out) = (dir.path().join("etc"), dir.path().join("out"));
        fs::create_dir_all(etc.join("srb")).expect("made");
        fs::create_dir(&out).expect("made");
        fs::write(etc.join("srb/srbtab"), srbtab).expect("written");
        let wrong = generate(&etc, &out, Path::new("/usr/bin/srbctl"));
        (dir, wrong)
    }

    fn files(dir: &tempfile::TempDir) -> Vec<String> {
        fn walk(dir: &Path, root: &Path, found: &mut Vec<String>) {
            for entry in fs::read_dir(dir).expect("listed").flatten() {
                let path = entry.path();
                if entry.file_type().expect("known").is_dir() {
                    walk(&path, root, found);
                } else {
                    let path = path.strip_prefix(root).expect("below");
                    found.push(path.display().to_string());
                }
            }
        }
        let root = dir.path().join("out");
        let mut found = Vec::new();
        walk(&root, &root, &mut found);
        found.sort();
        found
    }

    #[test]
    fn a_unit_for_each_line_and_a_link_for_those_of_the_boot() {
        let (dir, wrong) = generated("vol1 disk1\n50% d-2 noauto,nofail,timeout=5\n");
        assert_eq!(wrong, Vec::<String>::new());
        let expected = [
            r"dev-d\x2d2.device.d/50-srb.conf",
            "dev-disk1.device.d/50-srb.conf",
            "multi-user.target.wants/srb-attach@disk1.service",
            r"srb-attach@d\x2d2.service",
            "srb-attach@disk1.service",
        ];
        assert_eq!(files(&dir), expected);
        let read = |name: &str| fs::read_to_string(dir.path().join("out").join(name));
        let one = read("multi-user.target.wants/srb-attach@disk1.service").expect("a link");
        for line in [
            "Description=srb: vol1 as /dev/disk1",
            "ExecStart=/usr/bin/srbctl boot attach -- disk1",
            "Before=remote-fs-pre.target",
            "TimeoutStartSec=75",
        ] {
            assert!(one.lines().any(|it| it == line), "{line}: {one}");
        }
        let two = read(r"srb-attach@d\x2d2.service").expect("a unit");
        assert!(two.contains("Description=srb: 50%% as /dev/d-2\n"), "{two}");
        assert!(two.contains("TimeoutStartSec=20\n"), "{two}");
        assert!(!two.contains("Before=remote-fs-pre.target"), "{two}");
        let wants = read("dev-disk1.device.d/50-srb.conf").expect("a drop-in");
        assert_eq!(wants, "[Unit]\nWants=srb-attach@disk1.service\n");
    }

    #[test]
    fn bad_lines_are_told_and_the_others_get_their_units() {
        let (dir, wrong) = generated("vol1\nvol2 disk2\nvol3 disk3 fast\n");
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong[0].contains("srbtab:1: "), "{wrong:?}");
        assert!(wrong[1].contains("srbtab:3: "), "{wrong:?}");
        assert!(files(&dir).contains(&"srb-attach@disk2.service".to_owned()));
    }

    #[test]
    fn names_are_escaped_as_systemd_does() {
        for (name, unit) in
            [("disk1", "disk1"), (".a.b", r"\x2ea.b"), ("a-b+@=#:_", r"a\x2db\x2b\x40\x3d\x23:_")]
        {
            assert_eq!(escaped(name), unit);
        }
    }
}
