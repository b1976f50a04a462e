// SPDX-License-Identifier: GPL-2.0-only
//! Control files, as `echo` and `cat` use them: one system call per command, and its errno.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use nix::errno::Errno;

/// The module's class.
pub const CLASS: &str = "/sys/class/srb";
/// The module's parameters.
pub const PARAMETERS: &str = "/sys/module/srb/parameters";

/// Writes these bytes with a single write(2), as they are.
///
/// # Errors
/// The errno of open(2) or write(2); EIO for a write that took only a part.
pub fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> Result<(), Errno> {
    let bytes = bytes.as_ref();
    let mut file = OpenOptions::new().write(true).open(path).map_err(errno)?;
    let written = file.write(bytes).map_err(errno)?;
    if written == bytes.len() {
        Ok(())
    } else {
        Err(Errno::EIO)
    }
}

/// Reads a control file to its end.
///
/// # Errors
/// The errno of open(2) or read(2); EILSEQ for text that is no UTF-8.
pub fn read(path: impl AsRef<Path>) -> Result<String, Errno> {
    let mut bytes = Vec::new();
    File::open(path).map_err(errno)?.read_to_end(&mut bytes).map_err(errno)?;
    String::from_utf8(bytes).map_err(|_| Errno::EILSEQ)
}

fn errno(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO))
}

/// Writes to a file of [`CLASS`].
///
/// # Errors
/// As [`write()`].
pub fn command(file: &str, bytes: impl AsRef<[u8]>) -> Result<(), Errno> {
    write(Path::new(CLASS).join(file), bytes)
}

/// The srb devices that exist: the disks that have an `srb_name`.
#[must_use]
pub fn devices() -> Vec<String> {
    let disks = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let mut names: Vec<String> = disks
        .filter(|disk| disk.path().join("srb_name").exists())
        .filter_map(|disk| disk.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// The URLs that are configured, one per line of `urls` (or separated by commas); none without the
/// module.
#[must_use]
pub fn urls() -> Vec<String> {
    let text = read(Path::new(CLASS).join("urls")).unwrap_or_default();
    let words = text.split(|c: char| c == ',' || c.is_whitespace());
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// How many agents stand by.
///
/// # Errors
/// As [`read()`]; EINVAL for what is no number.
pub fn standbys() -> Result<u32, Errno> {
    read(Path::new(CLASS).join("standbys"))?.trim().parse().map_err(|_| Errno::EINVAL)
}

/// Whether the module is loaded.
#[must_use]
pub fn module_loaded() -> bool {
    Path::new("/sys/module/srb").exists()
}
