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
    fate::Fate,
    ffi::{
        disk::{BlockDevice, Disk, Shape},
        machine, sleep,
        sysfs::DiskFiles,
        work,
    },
    lifecycle::LifecycleGuard,
    log,
    names::{DeviceName, VolumeName},
    params,
    proto::layout::{DATA, SECTOR_BYTES},
};
use kernel::{
    impl_has_work, new_spinlock, new_work,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, SpinLock,
    },
    workqueue::{Work, WorkItem},
};

/// How long a detach waits for somebody who is just opening or closing the device.
const OPEN_WAIT_MSECS: u32 = 2000;
/// How long a detach waits for those who have it open: udev looks at every disk that is new or has
/// been written to, and is soon done.
const BUSY_WAIT_MSECS: u32 = 1000;

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
            Shape {
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

    /// Has held requests tried again, and says in the log when that begins and ends.
    pub(crate) fn retry_held(&self) {
        let outage = self.fate.is_outage();
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
        if self.fate.has_held() {
            self.kick();
        }
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
        self.fate.condemn();
        Ok(())
    }

    /// Makes the device dying, whoever has it open. After this, [`Self::remove`] must follow.
    pub(crate) fn condemn_in_use(&self) {
        self.fate.condemn();
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
