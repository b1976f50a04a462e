// SPDX-License-Identifier: GPL-2.0-only
//! A run's own folder: named after the process, removed with the run; what killed processes left
//! goes first.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{host, Error};

/// A folder that is removed when dropped.
pub(super) struct RunDir(PathBuf);

impl RunDir {
    /// Makes the folder of this run below `runs`.
    pub(super) fn new(runs: &Path) -> Result<Self, Error> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        fs::create_dir_all(runs).map_err(host(format!("making {}", runs.display())))?;
        remove_stale(runs);
        // ORDERING: only distinct numbers are needed.
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = runs.join(format!("{}-{count}", std::process::id()));
        fs::create_dir(&path).map_err(host(format!("making {}", path.display())))?;
        Ok(Self(path))
    }

    /// The path of a file in it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("srb-vm: removing {}: {error}", self.0.display());
        }
    }
}

/// Removes the folders of processes that are no more.
fn remove_stale(runs: &Path) {
    for entry in fs::read_dir(runs).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.split_once('-')).map(|(pid, _)| pid);
        let gone = owner.is_some_and(|pid| {
            pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()
        });
        if gone {
            // Another run may be removing it at the same time; nobody needs it.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_process_leaves_nothing_and_a_live_one_keeps_its_own() {
        let runs = std::env::temp_dir().join(format!("srb-rundir-{}", std::process::id()));
        let stale = runs.join("4294967295-0");
        let other = runs.join("kvm-notes");
        fs::create_dir_all(&stale).unwrap();
        fs::create_dir_all(&other).unwrap();
        let dir = RunDir::new(&runs).unwrap();
        assert!(dir.path("x").parent().unwrap().exists());
        assert!(!stale.exists());
        assert!(other.exists());
        let path = dir.path("");
        drop(dir);
        assert!(!path.exists());
        fs::remove_dir_all(&runs).unwrap();
    }
}
