// SPDX-License-Identifier: GPL-2.0-only
//! The module as sysfs shows it: the authority on URLs, devices and parameters.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde::Serialize;

/// No attribute of sysfs is longer than this; more is not read.
const MAX_ATTRIBUTE_BYTES: u64 = 64 << 10;

/// A tree of sysfs.
#[derive(Debug)]
pub(crate) struct Sysfs {
    root: PathBuf,
}

/// An attached volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Device {
    /// Name of the disk.
    pub(crate) name: String,
    /// Name of the volume.
    pub(crate) volume: String,
    /// Of the volume.
    pub(crate) size_bytes: Option<u64>,
    /// The volume's own URLs, the one in use first.
    pub(crate) urls: Vec<String>,
    /// 0 to 7.
    pub(crate) log_level: Option<u32>,
    /// `fail`, `queue` or `queue=SECONDS`.
    pub(crate) policy: Option<String>,
    /// For how long requests still wait for an agent: `connected` (there is one), seconds,
    /// `forever`, or `failing` (no more).
    pub(crate) agent_wait: Option<String>,
}

/// Requests that the kernel has for a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pending {
    /// Reads that an agent was given.
    pub(crate) reads: u64,
    /// Writes that an agent was given.
    pub(crate) writes: u64,
    /// Those that were not, or came back to be held.
    pub(crate) waiting: u64,
}

impl Pending {
    /// Whether there is one.
    pub(crate) fn is_any(self) -> bool {
        self != Self::default()
    }
}

/// A parameter as the module has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawParameter {
    /// Name of the file.
    pub(crate) name: String,
    /// Its content.
    pub(crate) value: String,
    /// Whether it can be set now.
    pub(crate) writable: bool,
}

/// Why a command did not get through.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// There is no such file, and no module either.
    #[error("the srb module is not loaded")]
    NotLoaded,
    /// The file cannot be opened.
    #[error("cannot open {path}: {error}")]
    Open {
        /// Of the file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// The module refused.
    #[error("{}", .0.desc())]
    Refused(Errno),
    /// The module took a part of the command, which it never should.
    #[error("the module took {taken} of {sent} bytes")]
    Short {
        /// What write(2) returned.
        taken: usize,
        /// What it was given.
        sent: usize,
    },
}

/// An open command file: each line sent is one write(2), one command.
#[derive(Debug)]
pub(crate) struct CommandFile {
    file: File,
}

impl CommandFile {
    /// Gives the module one command, and waits until it is done.
    pub(crate) fn send(&mut self, command: &str) -> Result<(), CommandError> {
        let line = format!("{command}\n");
        match self.file.write(line.as_bytes()) {
            Ok(taken) if taken == line.len() => Ok(()),
            Ok(taken) => Err(CommandError::Short { taken, sent: line.len() }),
            Err(error) => {
                let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
                Err(CommandError::Refused(errno))
            }
        }
    }
}

impl Sysfs {
    /// The tree at `root`, which is /sys but in tests.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Whether the module is there.
    pub(crate) fn is_loaded(&self) -> bool {
        self.class().is_dir()
    }

    /// The module's version.
    pub(crate) fn version(&self) -> Option<String> {
        read(&self.root.join("module/srb/version")).ok()
    }

    /// How many agents stand by.
    pub(crate) fn standbys(&self) -> Option<u32> {
        self.read_class("standbys").ok()?.trim().parse().ok()
    }

    /// The configured URLs, in the module's order.
    pub(crate) fn urls(&self) -> Result<Vec<String>, CommandError> {
        Ok(list(&self.read_class("urls")?))
    }

    /// The module's own listing of the repository, which asks the agent for it.
    pub(crate) fn volumes(&self) -> Result<String, CommandError> {
        self.read_class("volumes")
    }

    /// Opens a command file of the class.
    pub(crate) fn command(&self, name: &str) -> Result<CommandFile, CommandError> {
        self.open_for_writing(self.class().join(name))
    }

    /// Opens a parameter.
    pub(crate) fn parameter(&self, name: &str) -> Result<CommandFile, CommandError> {
        self.open_for_writing(self.parameters_dir().join(name))
    }

    /// All parameters, by name. One that cannot be read is not shown by the kernel either.
    pub(crate) fn parameters(&self) -> Result<Vec<RawParameter>, CommandError> {
        let path = self.parameters_dir();
        let entries = fs::read_dir(&path).map_err(|error| self.classify(path, error))?;
        let mut found: Vec<_> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let value = read(&entry.path()).ok()?;
                let mode = entry.metadata().ok()?.permissions().mode();
                Some(RawParameter { name, value, writable: mode & 0o222 != 0 })
            })
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// All attached devices, by name. One that goes away meanwhile is left out.
    pub(crate) fn devices(&self) -> Vec<Device> {
        let entries = fs::read_dir(self.root.join("block")).into_iter().flatten().flatten();
        let mut found: Vec<_> = entries
            .filter_map(|entry| {
                let dir = entry.path();
                let attribute = |name: &str| read(&dir.join(name)).ok();
                Some(Device {
                    volume: attribute("srb_name")?,
                    name: entry.file_name().into_string().ok()?,
                    size_bytes: attribute("srb_size").and_then(|text| text.parse().ok()),
                    urls: list(&attribute("srb_urls").unwrap_or_default()),
                    log_level: attribute("srb_debug").and_then(|text| text.parse().ok()),
                    policy: attribute("srb_policy"),
                    agent_wait: attribute("srb_agent_wait"),
                })
            })
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// A device's policy.
    pub(crate) fn policy(&self, device: &str) -> Result<String, CommandError> {
        let path = self.disk(device).join("srb_policy");
        read(&path).map_err(|error| self.classify(path, error))
    }

    /// Opens a device's policy.
    pub(crate) fn policy_file(&self, device: &str) -> Result<CommandFile, CommandError> {
        self.open_for_writing(self.disk(device).join("srb_policy"))
    }

    /// What the kernel has for a device: `inflight` counts what its driver has submitted, `stat` at
    /// its ninth place everything that was asked and not answered.
    pub(crate) fn pending(&self, device: &str) -> Option<Pending> {
        let numbers = |file: &str| {
            let text = read(&self.disk(device).join(file)).ok()?;
            text.split_ascii_whitespace()
                .map(|word| word.parse().ok())
                .collect::<Option<Vec<u64>>>()
        };
        // What is submitted between the two looks is not taken for waiting.
        let all = *numbers("stat")?.get(8)?;
        let [reads, writes] = *numbers("inflight")?.as_slice() else { return None };
        let waiting = all.saturating_sub(reads.saturating_add(writes));
        Some(Pending { reads, writes, waiting })
    }

    /// The directory of a disk or partition.
    pub(crate) fn block(&self, name: &str) -> PathBuf {
        self.root.join("class/block").join(name)
    }

    /// The directory of a whole disk.
    pub(crate) fn disk(&self, name: &str) -> PathBuf {
        self.root.join("block").join(name)
    }

    fn class(&self) -> PathBuf {
        self.root.join("class/srb")
    }

    fn parameters_dir(&self) -> PathBuf {
        self.root.join("module/srb/parameters")
    }

    fn read_class(&self, name: &str) -> Result<String, CommandError> {
        let path = self.class().join(name);
        let mut file = File::open(&path).map_err(|error| self.classify(path, error))?;
        read_open(&mut file).map_err(|error| {
            CommandError::Refused(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
        })
    }

    fn open_for_writing(&self, path: PathBuf) -> Result<CommandFile, CommandError> {
        match OpenOptions::new().write(true).open(&path) {
            Ok(file) => Ok(CommandFile { file }),
            Err(error) => Err(self.classify(path, error)),
        }
    }

    fn classify(&self, path: PathBuf, error: io::Error) -> CommandError {
        if error.kind() == io::ErrorKind::NotFound && !self.is_loaded() {
            CommandError::NotLoaded
        } else {
            CommandError::Open { path, error }
        }
    }
}

/// An attribute without the newline at its end.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    read_open(&mut File::open(path)?)
}

fn read_open(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(MAX_ATTRIBUTE_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|url| !url.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_split_at_commas() {
        assert_eq!(list(""), Vec::<String>::new());
        assert_eq!(list("http://a, http://b/x,"), ["http://a", "http://b/x"]);
    }

    #[test]
    fn a_missing_file_of_a_loaded_module_is_told_from_a_missing_module() {
        let dir = tempfile::tempdir().expect("a directory");
        let sysfs = Sysfs::new(dir.path().to_owned());
        assert!(matches!(sysfs.command("create"), Err(CommandError::NotLoaded)));
        fs::create_dir_all(sysfs.class()).expect("created");
        assert!(matches!(sysfs.command("create"), Err(CommandError::Open { .. })));
        assert!(matches!(sysfs.urls(), Err(CommandError::Open { .. })));
        assert_eq!(sysfs.devices(), []);
    }
}
