// SPDX-License-Identifier: GPL-2.0-only
//! The volumes kept open between requests, so that a small request costs no open and close.
//!
//! An entry is used only while its file still has a name ([`Volume::size_if_linked`]): whoever
//! destroys or replaces a volume, be it another server on the same folder, makes the entry void.

use std::collections::HashMap;
use std::sync::Arc;

use crate::name::VolumeName;
use crate::volume::Volume;

/// Open volumes by name, the least recently used leaving first.
///
/// # Invariants
///
/// A volume that a request holds stays in: two requests on one volume share its lock. So there
/// are at most `capacity` entries, or one for each request under way if those are more.
#[derive(Debug)]
pub(crate) struct Cache {
    capacity: usize,
    clock: u64,
    entries: HashMap<VolumeName, Entry>,
}

#[derive(Debug)]
struct Entry {
    volume: Arc<Volume>,
    used: u64,
}

impl Cache {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, clock: 0, entries: HashMap::new() }
    }

    /// The open volume of that name, not checked to be the current one.
    pub(crate) fn lookup(&mut self, name: &VolumeName) -> Option<Arc<Volume>> {
        self.clock += 1;
        let entry = self.entries.get_mut(name)?;
        entry.used = self.clock;
        Some(Arc::clone(&entry.volume))
    }

    /// Keeps `volume`, unless another request opened the same one meanwhile, which it then returns.
    pub(crate) fn insert(&mut self, name: &VolumeName, volume: Volume) -> Arc<Volume> {
        self.clock += 1;
        // Files without a name only hold disk space.
        self.entries.retain(|_, entry| matches!(entry.volume.size_if_linked(), Ok(Some(_))));
        if let Some(entry) = self.entries.get_mut(name) {
            entry.used = self.clock;
            return Arc::clone(&entry.volume);
        }
        while self.entries.len() >= self.capacity && self.evict() {}
        let volume = Arc::new(volume);
        let entry = Entry { volume: Arc::clone(&volume), used: self.clock };
        self.entries.insert(name.clone(), entry);
        volume
    }

    /// Forgets the volume of that name.
    pub(crate) fn remove(&mut self, name: &VolumeName) {
        self.entries.remove(name);
    }

    fn evict(&mut self) -> bool {
        let idle = self.entries.iter().filter(|(_, entry)| Arc::strong_count(&entry.volume) == 1);
        let oldest = idle.min_by_key(|(_, entry)| entry.used).map(|(name, _)| name.clone());
        oldest.is_some_and(|name| self.entries.remove(&name).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &tempfile::TempDir, name: &str) -> (VolumeName, Volume) {
        let file = std::fs::File::create(folder.path().join(name)).unwrap();
        (VolumeName::parse(name).unwrap(), Volume::new(file))
    }

    #[test]
    fn the_least_recently_used_leaves_unless_it_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let mut cache = Cache::new(2);
        let (a, volume) = open(&folder, "a");
        let held = cache.insert(&a, volume);
        let (b, volume) = open(&folder, "b");
        cache.insert(&b, volume);
        let (c, volume) = open(&folder, "c");
        cache.insert(&c, volume);
        assert!(cache.lookup(&b).is_none());
        assert!(cache.lookup(&a).is_some_and(|volume| Arc::ptr_eq(&volume, &held)));
        drop(held);
        assert!(cache.lookup(&c).is_some());
        let (b, volume) = open(&folder, "b");
        cache.insert(&b, volume);
        assert!(cache.lookup(&a).is_none());
        assert_eq!(cache.entries.len(), 2);
    }

    #[test]
    fn a_file_without_a_name_leaves() {
        let folder = tempfile::tempdir().unwrap();
        let mut cache = Cache::new(2);
        let (a, volume) = open(&folder, "a");
        cache.insert(&a, volume);
        std::fs::remove_file(folder.path().join("a")).unwrap();
        let (b, volume) = open(&folder, "b");
        cache.insert(&b, volume);
        assert!(cache.lookup(&a).is_none());
    }
}
