// SPDX-License-Identifier: GPL-2.0-only
//! Names of disks and of volumes.

use crate::proto::command::{encoded, MAX_DEVICE_BYTES, MAX_VOLUME_BYTES};
use kernel::prelude::*;

/// A name of at most `N` bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

/// Name of a disk.
pub(crate) type DeviceName = Name<MAX_DEVICE_BYTES>;
/// Name of a volume.
pub(crate) type VolumeName = Name<MAX_VOLUME_BYTES>;

impl<const N: usize> Name<N> {
    /// From a name that the parser has let through.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let mut bytes = [0; N];
        bytes.get_mut(..name.len()).ok_or(EINVAL)?.copy_from_slice(name.as_bytes());
        Ok(Self { bytes, len: name.len() })
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(b"")
    }

    /// As text.
    pub(crate) fn as_str(&self) -> &str {
        core::str::from_utf8(self.as_bytes()).unwrap_or("")
    }
}

impl VolumeName {
    /// As it stands in a URL.
    pub(crate) fn encoded(&self) -> Result<KVec<u8>> {
        // A byte takes at most three when it is encoded.
        let mut bytes = KVec::with_capacity(3 * self.len, GFP_KERNEL)?;
        for byte in encoded(self.as_str()) {
            bytes.push(byte, GFP_KERNEL)?;
        }
        Ok(bytes)
    }
}

impl DeviceName {
    /// Whether two disks cannot exist side by side: the same name, or one that a partition of the
    /// other may get.
    pub(crate) fn collides_with(&self, other: &Self) -> bool {
        let is_partition_of = |partition: &[u8], disk: &[u8]| {
            let Some(suffix) = partition.strip_prefix(disk) else { return false };
            let digits = match disk.last() {
                Some(last) if last.is_ascii_digit() => suffix.strip_prefix(b"p").unwrap_or(b""),
                _ => suffix,
            };
            !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
        };
        self == other
            || is_partition_of(self.as_bytes(), other.as_bytes())
            || is_partition_of(other.as_bytes(), self.as_bytes())
    }
}
