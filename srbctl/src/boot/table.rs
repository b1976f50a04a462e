// SPDX-License-Identifier: GPL-2.0-only
//! srbtab: `VOLUME DEVICE [OPTIONS]` a line.

use std::path::{Path, PathBuf};

use srb_proto::command::{check_device_name, check_volume_name, Policy};

use super::{each_line, Parsed, TABLE};

/// How long a volume is tried to be attached, unless its line says otherwise.
const TIMEOUT_SECS: u32 = 60;
const MAX_TIMEOUT_SECS: u32 = 86_400;

/// A volume that is to be attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where it stands.
    pub(super) path: PathBuf,
    pub(super) line: usize,
    pub(super) volume: String,
    pub(super) device: String,
    pub(super) options: Options,
}

/// What the third word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// None: as the module's parameter says.
    pub(super) policy: Option<Policy>,
    pub(super) read_only: bool,
    /// Not at boot, unless a mount needs it.
    pub(super) no_auto: bool,
    /// Other mounts from the network do not wait for it.
    pub(super) no_fail: bool,
    pub(super) timeout_secs: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            policy: None,
            read_only: false,
            no_auto: false,
            no_fail: false,
            timeout_secs: TIMEOUT_SECS,
        }
    }
}

/// Reads the table.
pub(super) fn read(etc: &Path) -> Parsed<Vec<Entry>> {
    let path = etc.join(TABLE);
    let mut entries: Vec<Entry> = Vec::new();
    let mut findings = Vec::new();
    each_line(&path, &mut findings, |line, text| {
        let entry = parse(&path, line, text)?;
        if let Some(other) = entries.iter().find(|other| other.device == entry.device) {
            return Err(format!("line {} has the device {} already", other.line, entry.device));
        }
        if let Some(other) = entries.iter().find(|other| other.volume == entry.volume) {
            return Err(format!("line {} has the volume {} already", other.line, entry.volume));
        }
        entries.push(entry);
        Ok(())
    });
    Parsed { value: entries, findings }
}

fn parse(path: &Path, line: usize, text: &str) -> Result<Entry, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (volume, device, options) = match words.as_slice() {
        [volume, device] => (*volume, *device, ""),
        [volume, device, options] => (*volume, *device, *options),
        [_] => return Err("a line is VOLUME DEVICE [OPTIONS]: the device is missing".to_owned()),
        _ => return Err("a line is VOLUME DEVICE [OPTIONS]: there are more words".to_owned()),
    };
    let device = device.strip_prefix("/dev/").unwrap_or(device);
    check_volume_name(volume).map_err(|error| format!("volume {volume:?}: {}", error.reason()))?;
    check_device_name(device).map_err(|error| format!("device {device:?}: {}", error.reason()))?;
    Ok(Entry {
        path: path.to_owned(),
        line,
        volume: volume.to_owned(),
        device: device.to_owned(),
        options: parse_options(options)?,
    })
}

fn parse_options(text: &str) -> Result<Options, String> {
    let mut options = Options::default();
    for word in text.split(',').filter(|word| !word.is_empty()) {
        match word.split_once('=').unwrap_or((word, "")) {
            ("policy", value) => {
                let policy = Policy::parse(value.as_bytes());
                options.policy = Some(policy.map_err(|error| error.reason().to_owned())?);
            }
            ("timeout", value) => {
                let secs = value.parse().ok().filter(|secs| (1..=MAX_TIMEOUT_SECS).contains(secs));
                options.timeout_secs = secs.ok_or_else(|| {
                    format!("timeout is a number of seconds from 1 to {MAX_TIMEOUT_SECS}")
                })?;
            }
            _ => match word {
                "defaults" | "-" | "auto" | "rw" => {}
                "ro" => options.read_only = true,
                "noauto" => options.no_auto = true,
                "nofail" => options.no_fail = true,
                _ => {
                    return Err(format!(
                        "option {word:?} is none of policy=POLICY, timeout=SECONDS, ro, noauto, \
                         nofail, defaults"
                    ));
                }
            },
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn parsed(text: &str) -> (Vec<Entry>, Vec<String>) {
        let etc = tempfile::tempdir().expect("a folder");
        fs::create_dir(etc.path().join("srb")).expect("made");
        fs::write(etc.path().join(TABLE), text).expect("written");
        let Parsed { value, findings } = read(etc.path());
        let root = format!("{}/", etc.path().display());
        (value, findings.iter().map(|it| it.to_string().replace(&root, "")).collect())
    }

    #[test]
    fn volumes_devices_and_options() {
        let text = "# VOLUME DEVICE\n vol1\tdisk1\n\n#x disk1\nv#2 /dev/disk2 defaults\n\
                    v3 d-3 policy=queue=60,ro,noauto,nofail,timeout=5\nv4 disk4 policy=queue\n";
        let (entries, findings) = parsed(text);
        assert_eq!(findings, Vec::<String>::new());
        let names: Vec<_> =
            entries.iter().map(|it| (it.line, it.volume.as_str(), it.device.as_str())).collect();
        let expected =
            [(2, "vol1", "disk1"), (5, "v#2", "disk2"), (6, "v3", "d-3"), (7, "v4", "disk4")];
        assert_eq!(names, expected);
        assert_eq!(entries[1].options, Options::default());
        let all = Options {
            policy: Some(Policy::QueueFor(60)),
            read_only: true,
            no_auto: true,
            no_fail: true,
            timeout_secs: 5,
        };
        assert_eq!(entries[2].options, all);
        assert_eq!(entries[3].options.policy, Some(Policy::Queue));
    }

    #[test]
    fn each_bad_line_is_named_and_the_others_hold() {
        let text = "vol1\nvol1 disk1 ro extra\na/b disk1\nvol1 a!b\nvol1 disk1 fast\n\
                    vol1 disk1 policy=hold\nvol1 disk1 timeout=0\nvol1 disk1\nvol2 disk1\n\
                    vol1 disk2\nvol2 disk2\n";
        let (entries, findings) = parsed(text);
        assert_eq!(entries.iter().map(|it| it.line).collect::<Vec<_>>(), [8, 11]);
        let parts = [
            "srb/srbtab:1: a line is VOLUME DEVICE [OPTIONS]: the device is missing",
            "srb/srbtab:2: a line is VOLUME DEVICE [OPTIONS]: there are more words",
            "srb/srbtab:3: volume \"a/b\": the name contains a slash",
            "srb/srbtab:4: device \"a!b\": a device name may have letters",
            "srb/srbtab:5: option \"fast\" is none of policy=POLICY",
            "srb/srbtab:6: a policy is fail, queue or queue=SECONDS",
            "srb/srbtab:7: timeout is a number of seconds from 1 to 86400",
            "srb/srbtab:9: line 8 has the device disk1 already",
            "srb/srbtab:10: line 8 has the volume vol1 already",
        ];
        assert_eq!(findings.len(), parts.len(), "{findings:#?}");
        for (finding, part) in findings.iter().zip(parts) {
            assert!(finding.starts_with(part), "{finding}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_spoil_their_line_alone() {
        let etc = tempfile::tempdir().expect("a folder");
        fs::create_dir(etc.path().join("srb")).expect("made");
        fs::write(etc.path().join(TABLE), b"a \xff\nvol1 disk1\n").expect("written");
        let Parsed { value, findings } = read(etc.path());
        assert_eq!((value.len(), findings.len()), (1, 1));
        assert!(findings[0].to_string().ends_with("srbtab:1: the line is not UTF-8"));
    }
}
