// SPDX-License-Identifier: GPL-2.0-only
//! The data folder: volumes are its regular files, sparse, one each.
//!
//! Called by `reading` and `writing`, on any thread; each function but [`Store::cached`] may wait
//! for the disk. All goes by the folder's descriptor and one path component, and no symbolic link
//! is followed, so nothing outside of the folder can be reached.
//!
//! A new or replaced volume is received under a name with a control character, which no volume
//! has, and then gets its own name in one step: nobody sees a part of it. A server killed in
//! between leaves that file, which may be deleted.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{openat, renameat, AtFlags, OFlag};
use nix::sys::stat::{fstatat, Mode, SFlag};
use nix::unistd::{linkat, unlinkat, UnlinkatFlags};

use crate::cache::Cache;
use crate::name::VolumeName;
use crate::volume::Volume;

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("no such volume")]
    NotFound,
    #[error("the volume exists")]
    Exists,
    #[error("not a volume: a link, a folder or another special file")]
    NotAVolume,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Errno> for StoreError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::ENOENT => Self::NotFound,
            Errno::EEXIST => Self::Exists,
            Errno::ELOOP | Errno::EISDIR | Errno::ENXIO => Self::NotAVolume,
            other => Self::Io(other.into()),
        }
    }
}

/// The volumes below one folder.
#[derive(Debug)]
pub(crate) struct Store {
    folder: File,
    path: PathBuf,
    sync: bool,
    open: Mutex<Cache>,
}

impl Store {
    /// Opens the folder at `path`, made if missing; `sync` makes each change wait for the disk.
    pub(crate) fn open(path: &Path, sync: bool, open_volumes: usize) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o750).create(path)?;
        let folder =
            File::options().read(true).custom_flags(OFlag::O_DIRECTORY.bits()).open(path)?;
        let path = path.canonicalize()?;
        Ok(Self { folder, path, sync, open: Mutex::new(Cache::new(open_volumes)) })
    }

    /// The folder's absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The volume and its size, if it is open already; never waits.
    pub(crate) fn cached(&self, name: &VolumeName) -> Option<(Arc<Volume>, u64)> {
        let volume = self.cache().lookup(name)?;
        let size = volume.size_if_linked().ok()??;
        Some((volume, size))
    }

    /// The volume and its size.
    pub(crate) fn volume(&self, name: &VolumeName) -> Result<(Arc<Volume>, u64), StoreError> {
        if let Some(found) = self.cached(name) {
            return Ok(found);
        }
        // A name whose file is a FIFO must not make this wait for a peer.
        let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file = File::from(openat(&self.folder, name.as_str(), flags, Mode::empty())?);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(StoreError::NotAVolume);
        }
        let volume = self.cache().insert(name, Volume::new(file));
        Ok((volume, metadata.len()))
    }

    /// The names of all volumes, sorted.
    pub(crate) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in self.path.read_dir()? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| VolumeName::parse(name).is_ok()) else {
                continue;
            };
            // An entry that went away since is none.
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Succeeds if nothing has that name; what has it tells which error it is.
    pub(crate) fn vacant(&self, name: &VolumeName) -> Result<(), StoreError> {
        match self.require_volume(name) {
            Ok(()) => Err(StoreError::Exists),
            Err(StoreError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Deletes the volume.
    pub(crate) fn destroy(&self, name: &VolumeName) -> Result<(), StoreError> {
        self.require_volume(name)?;
        unlinkat(&self.folder, name.as_str(), UnlinkatFlags::NoRemoveDir)?;
        self.cache().remove(name);
        self.settle_names()
    }

    /// Sets the volume's size.
    pub(crate) fn resize(&self, name: &VolumeName, size_bytes: u64) -> Result<(), StoreError> {
        let (volume, _) = self.volume(name)?;
        volume.set_size(size_bytes)?;
        self.settle(&volume)
    }

    /// After a write: waits for the disk if the store was told to.
    pub(crate) fn settle(&self, volume: &Volume) -> Result<(), StoreError> {
        if self.sync {
            volume.sync()?;
        }
        Ok(())
    }

    /// Whether [`Store::settle`] waits for the disk.
    pub(crate) fn syncs(&self) -> bool {
        self.sync
    }

    /// Begins a volume that nobody sees before [`Draft::publish`].
    pub(crate) fn draft(self: &Arc<Self>) -> Result<Draft, StoreError> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        loop {
            // ORDERING: the number only has to be unlike the others of this process.
            let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
            let name = format!(".\u{1f}draft-{}-{serial}", std::process::id());
            match openat(&self.folder, name.as_str(), flags, Mode::from_bits_truncate(0o640)) {
                Ok(file) => return Ok(Draft::new(Arc::clone(self), name, file)),
                // Left by a killed server whose process had the same number.
                Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn require_volume(&self, name: &VolumeName) -> Result<(), StoreError> {
        let status = fstatat(&self.folder, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
        if kind == SFlag::S_IFREG {
            Ok(())
        } else {
            Err(StoreError::NotAVolume)
        }
    }

    fn settle_names(&self) -> Result<(), StoreError> {
        if self.sync {
            self.folder.sync_all()?;
        }
        Ok(())
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // A panic cannot leave the map half changed in a way that matters: entries are checked.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a draft takes its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Publish {
    /// Nothing may have it.
    New,
    /// A volume that has it is replaced.
    Over,
}

/// A volume that is being received; deleted when dropped unpublished.
#[derive(Debug)]
pub(crate) struct Draft {
    store: Arc<Store>,
    name: String,
    file: File,
}

impl Draft {
    fn new(store: Arc<Store>, name: String, file: OwnedFd) -> Self {
        Self { store, name, file: File::from(file) }
    }

    /// Writes all of `bytes` at `offset`.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    /// Sets the size.
    pub(crate) fn set_size(&self, size_bytes: u64) -> io::Result<()> {
        self.file.set_len(size_bytes)
    }

    /// Gives the volume its name; tells whether it replaced one.
    pub(crate) fn publish(self, name: &VolumeName, how: Publish) -> Result<bool, StoreError> {
        let folder = &self.store.folder;
        if self.store.sync {
            self.file.sync_data()?;
        }
        let existed = match self.store.require_volume(name) {
            Ok(()) => true,
            Err(StoreError::NotFound) => false,
            Err(error) => return Err(error),
        };
        match how {
            // Not a rename: it would replace a volume that appeared since.
            Publish::New => {
                linkat(folder, self.name.as_str(), folder, name.as_str(), AtFlags::empty())?;
            }
            Publish::Over => renameat(folder, self.name.as_str(), folder, name.as_str())?,
        }
        self.store.cache().remove(name);
        self.store.settle_names()?;
        Ok(existed)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a rename there is nothing of that name, and after a link one name too many.
        let _ = unlinkat(&self.store.folder, self.name.as_str(), UnlinkatFlags::NoRemoveDir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Arc<Store>) {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&folder.path().join("data"), true, 2).unwrap());
        (folder, store)
    }

    fn name(text: &str) -> VolumeName {
        VolumeName::parse(text).unwrap()
    }

    #[test]
    fn a_draft_is_seen_once_published_and_gone_once_dropped() {
        let (_folder, store) = store();
        let draft = store.draft().unwrap();
        draft.write_at(b"abc", 0).unwrap();
        assert!(store.names().unwrap().is_empty());
        assert!(!draft.publish(&name("v"), Publish::New).unwrap());
        assert_eq!(store.names().unwrap(), ["v"]);
        assert_eq!(store.volume(&name("v")).unwrap().1, 3);
        let late = store.draft().unwrap().publish(&name("v"), Publish::New);
        assert!(matches!(late, Err(StoreError::Exists)));
        drop(store.draft().unwrap());
        assert_eq!(store.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn another_store_on_the_folder_makes_an_open_volume_void() {
        let (_folder, store) = store();
        let other = Store::open(store.path(), false, 2).unwrap();
        store.draft().unwrap().publish(&name("v"), Publish::New).unwrap();
        let (old, _) = store.volume(&name("v")).unwrap();
        other.destroy(&name("v")).unwrap();
        assert!(store.cached(&name("v")).is_none());
        assert!(matches!(store.volume(&name("v")), Err(StoreError::NotFound)));
        store.draft().unwrap().publish(&name("v"), Publish::New).unwrap();
        let (new, _) = store.volume(&name("v")).unwrap();
        assert!(!Arc::ptr_eq(&old, &new));
    }

    #[test]
    fn only_regular_files_are_volumes() {
        let (folder, store) = store();
        std::fs::write(folder.path().join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink("../secret", store.path().join("link")).unwrap();
        std::fs::create_dir(store.path().join("folder")).unwrap();
        nix::unistd::mkfifo(&store.path().join("fifo"), Mode::S_IRWXU).unwrap();
        let not = |outcome| matches!(outcome, Err(StoreError::NotAVolume));
        for text in ["link", "folder", "fifo"] {
            assert!(not(store.volume(&name(text)).map(drop)), "{text}");
            assert!(not(store.resize(&name(text), 1)), "{text}");
            assert!(not(store.destroy(&name(text))), "{text}");
            assert!(not(store.vacant(&name(text))), "{text}");
            let over = store.draft().unwrap().publish(&name(text), Publish::Over);
            assert!(not(over.map(drop)), "{text}");
        }
        assert!(store.names().unwrap().is_empty());
        assert_eq!(std::fs::read(folder.path().join("secret")).unwrap(), b"secret");
    }
}
