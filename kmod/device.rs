// SPDX-License-Identifier: GPL-2.0-only
//! The life of a device: made, shown to the system, scanned for partitions, grown, taken away.
//!
//! A device is referenced by the registry while it is attached, by its disk until the last user has
//! closed it (`fops.free_disk`), and by work in progress. It is *dying* from the moment that a
//! detach has made sure that nobody has it open, or does not care; from then on nobody can open it,
//! and every request fails at once. It is *failing* while no agent came within `agent_grace`:
//! requests fail at once, until one comes. In an *outage* no server answers, and the policy says
//! that requests are held.
//!
//! # Invariants
//! - The disk is a counted handle: whoever uses it holds a reference, and finds nothing to do on a
//!   disk that was deleted meanwhile.
//! - `scanning` is true only while the scan holds the disk's open mutex.

use crate::{
    channel::Channel,
    ffi::{
        disk::{BlockDevice, Disk, Geometry},
        machine, sleep,
        sysfs::DiskFiles,
        work,
    },
    log, params,
    proto::{
        command::{encoded, Policy, MAX_DEVICE_BYTES, MAX_VOLUME_BYTES},
        layout::{DATA, SECTOR_BYTES},
    },
    session::LifecycleGuard,
};
use kernel::{
    impl_has_work, new_spinlock, new_work,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed, Release},
        Arc, SpinLock,
    },
    time::Delta,
    workqueue::{Work, WorkItem},
};

/// How long a detach waits for somebody who is just opening or closing the device.
const OPEN_WAIT_MSECS: u32 = 2000;
/// How long a detach waits for those who have it open: udev looks at every disk that is new or has
/// been written to, and is soon done.
const BUSY_WAIT_MSECS: u32 = 1000;

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

/// What decides whether a request goes on, shared with the device's channels.
pub(crate) struct Fate {
    dying: Atomic<bool>,
    failing: Atomic<bool>,
    /// [`Policy::to_secs`].
    policy_secs: Atomic<i64>,
    /// Requests that are held by the policy.
    held: Atomic<usize>,
    /// A request was held, and none has been done since.
    outage: Atomic<bool>,
}

impl Fate {
    fn new() -> Self {
        Self {
            dying: Atomic::new(false),
            failing: Atomic::new(false),
            policy_secs: Atomic::new(params::policy().to_secs()),
            held: Atomic::new(0),
            outage: Atomic::new(false),
        }
    }

    /// What becomes of requests that no server has answered.
    pub(crate) fn policy(&self) -> Policy {
        Policy::from_secs(self.policy_secs.load(Relaxed))
    }

    /// Whether a request that was held for so long is held on.
    pub(crate) fn holds(&self, held_for: Delta) -> bool {
        !self.is_dying()
            && match self.policy() {
                Policy::Fail => false,
                Policy::Queue => true,
                Policy::QueueFor(secs) => held_for < Delta::from_secs(secs.into()),
            }
    }

    /// A request is about to be held. [`crate::housekeeping`] has it tried again.
    pub(crate) fn hold(&self) {
        self.outage.store(true, Relaxed);
        self.held.fetch_add(1, Full);
    }

    /// A request that was held is tried again.
    pub(crate) fn release(&self) {
        self.held.fetch_sub(1, Full);
    }

    /// A server has answered.
    pub(crate) fn answered(&self) {
        if self.outage.load(Relaxed) {
            self.outage.store(false, Relaxed);
        }
    }

    /// The device is going away.
    pub(crate) fn is_dying(&self) -> bool {
        self.dying.load(Acquire)
    }

    /// No agent came within the time for it.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing.load(Acquire)
    }
}

/// See the module's documentation.
#[pin_data]
pub(crate) struct Device {
    index: u32,
    attachment: u64,
    name: DeviceName,
    volume: VolumeName,
    first_url: KVec<u8>,
    size_bytes: Atomic<u64>,
    log_level: Atomic<u32>,
    /// Whether the log says that requests are held.
    in_outage: Atomic<bool>,
    fate: Arc<Fate>,
    channels: KVec<Arc<Channel>>,
    /// Empty before and after the disk's life. Held for a look alone: a reference is given up
    /// without it.
    #[pin]
    disk: SpinLock<Option<Arc<Disk<Device>>>>,
    #[pin]
    scanning: SpinLock<bool>,
    #[pin]
    scan: Work<Device>,
}

impl_has_work! {
    impl HasWork<Self> for Device { self.scan }
}

impl Device {
    /// Makes a device that nobody sees yet.
    pub(crate) fn new(
        (index, attachment): (u32, u64),
        name: DeviceName,
        (volume, first_url): (VolumeName, KVec<u8>),
        size_bytes: u64,
    ) -> Result<Arc<Self>> {
        let fate = Arc::new(Fate::new(), GFP_KERNEL)?;
        let mut channels = KVec::new();
        for queue in 0..machine::queues() {
            channels.push(Channel::new(index, queue, fate.clone())?, GFP_KERNEL)?;
        }
        let device = Arc::pin_init(
            pin_init!(Self {
                index,
                attachment,
                name,
                volume,
                first_url,
                size_bytes: Atomic::new(size_bytes),
                log_level: Atomic::new(params::debug()),
                in_outage: Atomic::new(false),
                fate,
                channels,
                disk <- new_spinlock!(None, "srb::disk"),
                scanning <- new_spinlock!(false, "srb::scanning"),
                scan <- new_work!("srb::scan"),
            }),
            GFP_KERNEL,
        )?;
        let disk = Disk::new(
            &device,
            Geometry {
                queues: machine::queues(),
                depth: DATA.depth,
                request_bytes: DATA.window_bytes,
                timeout_secs: params::request_deadline_secs(),
            },
        )?;
        *device.disk.lock() = Some(disk);
        Ok(device)
    }

    /// The disk, between [`Self::new`] and [`Self::remove`].
    fn disk(&self) -> Option<Arc<Disk<Self>>> {
        self.disk.lock().clone()
    }

    fn with_disk(&self, f: impl FnOnce(&Disk<Self>)) {
        if let Some(disk) = self.disk() {
            f(&disk);
        }
    }

    /// As [`Self::with_disk`]; ENODEV if there is none.
    fn try_with_disk(&self, f: impl FnOnce(&Disk<Self>) -> Result) -> Result {
        f(&*self.disk().ok_or(ENODEV)?)
    }

    /// Where it stands in the table, and in the agent's ready sets.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// Number of this attachment, never used again.
    pub(crate) fn attachment(&self) -> u64 {
        self.attachment
    }

    /// Name of the disk.
    pub(crate) fn name(&self) -> &DeviceName {
        &self.name
    }

    /// Name of the volume.
    pub(crate) fn volume(&self) -> &VolumeName {
        &self.volume
    }

    /// The volume's URL by the first of the list that there was when it was attached.
    pub(crate) fn first_url(&self) -> &[u8] {
        &self.first_url
    }

    /// Bytes of the volume.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes.load(Relaxed)
    }

    /// Level up to which lines about this device are logged.
    pub(crate) fn log_level(&self) -> u32 {
        self.log_level.load(Relaxed)
    }

    pub(crate) fn set_log_level(&self, level: u32) {
        self.log_level.store(level, Relaxed);
    }

    /// Its channels, one for each queue.
    pub(crate) fn channels(&self) -> &[Arc<Channel>] {
        &self.channels
    }

    pub(crate) fn fate(&self) -> &Fate {
        &self.fate
    }

    pub(crate) fn is_dying(&self) -> bool {
        self.fate.is_dying()
    }

    /// Sets what becomes of requests that no server has answered, also of those that are held.
    pub(crate) fn set_policy(&self, policy: Policy) {
        self.fate.policy_secs.store(policy.to_secs(), Relaxed);
    }

    /// Has held requests tried again, and says in the log when that begins and ends.
    pub(crate) fn retry_held(&self) {
        let outage = self.fate.outage.load(Relaxed);
        if self.in_outage.xchg(outage, Relaxed) != outage {
            let name = self.name.as_str();
            match outage {
                true => log::device_warning!(
                    self,
                    "{}: no server answers; requests are held, as its srb_policy says\n",
                    name
                ),
                false => log::device_info!(self, "{}: a server answers again\n", name),
            }
        }
        if self.fate.held.load(Relaxed) > 0 {
            self.kick();
        }
    }

    /// Begins or ends the failing of requests; returns what it was before.
    pub(crate) fn set_failing(&self, failing: bool) -> bool {
        self.fate.failing.xchg(failing, Full)
    }

    /// Sends requests that wait on the requeue list through `queue_rq` again.
    pub(crate) fn kick(&self) {
        self.with_disk(|disk| disk.kick_requeue_list());
    }

    /// Makes a new deadline for requests hold.
    pub(crate) fn set_deadline(&self, secs: u32) {
        self.with_disk(|disk| disk.set_timeout(secs));
    }

    /// Shows the device to the system, with its files, and has it scanned for partitions by and by.
    ///
    /// The scan does not run here: with no agent to answer, it would hold up the attach for good.
    pub(crate) fn show(self: &Arc<Self>, files: &'static DiskFiles<Self>) -> Result {
        self.try_with_disk(|disk| disk.add(self.size_bytes() / SECTOR_BYTES, files))?;
        work::enqueue_scan(self.clone());
        Ok(())
    }

    /// Sets a new size and tells the system of it. A size that is not above the present one changes
    /// nothing.
    pub(crate) fn grow(&self, size_bytes: u64) {
        if size_bytes > self.size_bytes() {
            self.size_bytes.store(size_bytes, Relaxed);
            self.with_disk(|disk| disk.set_capacity(size_bytes / SECTOR_BYTES));
        }
    }

    /// Makes the device dying, if nobody has it open. After this, [`Self::remove`] must follow.
    ///
    /// EBUSY: somebody has. EINTR: a signal came while somebody was opening or closing it.
    pub(crate) fn condemn(&self) -> Result {
        let mut waited = 0;
        loop {
            let tried = self
                .try_with_disk(|disk| disk.with_open_mutex(|openers| self.condemn_unless(openers)));
            match tried {
                Err(error) if error == EAGAIN => {}
                Err(error) if error == EBUSY && waited < BUSY_WAIT_MSECS => {}
                outcome => return outcome,
            }
            {
                // The scan holds the open mutex and may be waiting for a server; so nobody can open
                // the disk now, and the count of those who have it open stands still.
                let scanning = self.scanning.lock();
                if *scanning {
                    return self.try_with_disk(|disk| self.condemn_unless(disk.openers()));
                }
            }
            if waited >= OPEN_WAIT_MSECS {
                return Err(EBUSY);
            }
            sleep::sleep_interruptible(10)?;
            waited += 10;
        }
    }

    fn condemn_unless(&self, openers: i32) -> Result {
        if openers != 0 {
            return Err(EBUSY);
        }
        // ORDERING: release, pairs with the acquire in `Fate::is_dying`.
        self.fate.dying.store(true, Release);
        Ok(())
    }

    /// Makes the device dying, whoever has it open. After this, [`Self::remove`] must follow.
    pub(crate) fn condemn_in_use(&self) {
        // ORDERING: As in `condemn_unless`.
        self.fate.dying.store(true, Release);
    }

    /// Takes a dying device away from the system, failing whatever is still in flight.
    pub(crate) fn hide(self: &Arc<Self>) {
        for channel in &self.channels {
            channel.fail_in_flight();
        }
        self.kick();
        self.with_disk(|disk| {
            if disk.openers() != 0 {
                disk.mark_dead();
            }
            disk.delete();
        });
        // The scan uses the disk; it is over soon, for the disk is deleted.
        work::cancel(self);
    }

    /// Gives the disk up, after [`Self::hide`] or when [`Self::show`] has failed.
    pub(crate) fn remove(&self, _: &LifecycleGuard) {
        let disk = self.disk.lock().take();
        drop(disk);
    }

    /// Gives back pages of windows that are not in use; see [`Channel::trim`].
    pub(crate) fn trim_windows(&self, quiet: bool, most: usize) -> usize {
        let trim = |freed: usize, channel: &Arc<Channel>| {
            freed.wrapping_add(channel.trim(quiet, most.saturating_sub(freed)))
        };
        self.channels.iter().fold(0, trim)
    }

    /// Has requests that were turned away tried again.
    pub(crate) fn run_queues(&self) {
        self.with_disk(|disk| disk.run_queues());
    }

    /// Gives back the memory of an idle device's windows.
    pub(crate) fn reclaim_if_idle(&self) {
        let mut reclaimed = false;
        for channel in &self.channels {
            reclaimed |= channel.reclaim_if_idle();
        }
        if reclaimed {
            self.run_queues();
        }
    }
}

impl BlockDevice for Device {
    type Queue = Channel;

    fn name(&self) -> &str {
        self.name.as_str()
    }

    fn queue(&self, index: usize) -> Option<&Channel> {
        self.channels.get(index).map(|channel| &**channel)
    }

    fn is_dying(&self) -> bool {
        self.fate.is_dying()
    }
}

impl WorkItem for Device {
    type Pointer = Arc<Device>;

    /// The partition scan. [`Device::hide`] waits for it, so that the disk is there.
    fn run(this: Arc<Device>) {
        let Some(disk) = this.disk() else { return };
        disk.scan_partitions(|begins| {
            let mut scanning = this.scanning.lock();
            *scanning = begins;
        });
    }
}
