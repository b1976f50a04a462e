// SPDX-License-Identifier: GPL-2.0-only
//! The run's own small read-only disk: what the guest sees below `/srb`, and the command.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::rundir::RunDir;
use super::{host, Error, Job};

/// What an ext4 of this kind needs beside its files, in MiB.
const ROOM_MIB: u64 = 16;
const MIB: u64 = 1024 * 1024;

/// Makes the disk `image` from the folder `from` and the command of `job`.
pub(super) fn build(from: &Path, job: &Job, image: &Path, dir: &RunDir) -> Result<(), Error> {
    let tree = dir.path("payload");
    let bytes = copy_tree(from, &tree)?;
    if let Job::Run(words) = job {
        let path = tree.join("command");
        fs::write(&path, command(words)).map_err(host("writing the guest's command"))?;
    }
    let size = format!("{}M", bytes.div_ceil(MIB).saturating_mul(11) / 10 + ROOM_MIB);
    let output = Command::new("mke2fs")
        .env("PATH", search_path())
        .args(["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d"])
        .arg(&tree)
        .arg(image)
        .arg(&size)
        .output()
        .map_err(|error| Error::Tool(format!("mke2fs: {error}: install the package e2fsprogs")))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(Error::Tool(format!("mke2fs failed: {text}")));
    }
    fs::remove_dir_all(&tree).map_err(host("removing the payload's copy"))
}

/// The search path, with the folders of mke2fs for those who are not root.
fn search_path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// Copies the folder `from` to `to`; returns the bytes copied.
fn copy_tree(from: &Path, to: &Path) -> Result<u64, Error> {
    let failed = |path: &Path| format!("copying {}", path.display());
    fs::create_dir_all(to).map_err(host(failed(to)))?;
    let mut bytes = 0_u64;
    for entry in fs::read_dir(from).map_err(host(failed(from)))? {
        let path = entry.map_err(host(failed(from)))?.path();
        let Some(name) = path.file_name() else { continue };
        if path.is_dir() {
            bytes = bytes.saturating_add(copy_tree(&path, &to.join(name))?);
        } else {
            let copied = fs::copy(&path, to.join(name)).map_err(host(failed(&path)))?;
            bytes = bytes.saturating_add(copied);
        }
    }
    Ok(bytes)
}

/// A shell script that runs exactly these words.
fn command(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
    format!("exec {}\n", quoted.join(" "))
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_shell_as_they_are() {
        let words = ["printf", "%s|", "a b", "it's", "$HOME", "", "*", "\"x\"", "new\nline"];
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let output = Command::new("sh").arg("-c").arg(command(&words)).output().unwrap();
        let expected = "a b|it's|$HOME||*|\"x\"|new\nline|";
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }
}
