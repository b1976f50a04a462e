// SPDX-License-Identifier: GPL-2.0-only
//! A disk with its tag set, and the callbacks that the block layer has for it.

use super::{
    compat,
    request::{blk_status, History, Request, Requests},
    sysfs::DiskFiles,
    to_c,
};
use core::marker::PhantomData;
use kernel::{
    bindings,
    error::{from_err_ptr, to_result},
    prelude::*,
    static_lock_class,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed},
        Arc,
    },
    time::msecs_to_jiffies,
    types::Opaque,
};

/// `BLK_STS_RESOURCE` of `<linux/blk_types.h>`, which has no binding.
const BLK_STS_RESOURCE: bindings::blk_status_t = 9;

/// What a disk belongs to, for as long as anybody has it open.
pub(crate) trait BlockDevice: Send + Sync + Sized + 'static {
    /// What serves one of its hardware queues.
    type Queue: HardwareQueue;

    /// The disk's name.
    fn name(&self) -> &str;
    /// One of its queues, which lives as long as the device does.
    fn queue(&self, index: usize) -> Option<&Self::Queue>;
    /// Whether it can be opened no more. Asked under the open mutex.
    fn is_dying(&self) -> bool;
}

/// What takes the requests of one hardware queue. All of it is called in process context, and in
/// an RCU read section but for [`Self::timed_out`].
pub(crate) trait HardwareQueue: Send + Sync + 'static {
    /// Takes a request. `last`: nothing follows at once.
    fn queue_rq(&self, request: Request, queue: Queue<'_>, last: bool) -> Answer;
    /// Starts and takes those of new requests that can go to the agent at once, and puts the others
    /// into `left`: they come one by one.
    fn queue_rqs(&self, requests: impl Iterator<Item = Request>, left: &mut Requests);
    /// What was said not to be the last was.
    fn commit_rqs(&self);
    /// The request at this address, which has this tag, has passed its deadline.
    fn timed_out(&self, request: usize, tag: usize);
}

/// What blk-mq is told of a request.
pub(crate) enum Answer {
    /// The driver has it.
    Taken,
    /// Try again soon.
    Later,
    /// End it with this error.
    Failed(Error),
}

/// What a disk looks like to the block layer.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// Hardware queues.
    pub(crate) queues: u32,
    /// Requests in flight on each.
    pub(crate) depth: u32,
    /// The largest request.
    pub(crate) request_bytes: u32,
    /// When a request's deadline is.
    pub(crate) timeout_secs: u32,
}

/// The block layer's unit of time. The bindings' HZ is that of the headers for user space.
fn jiffies(secs: u32) -> u32 {
    u32::try_from(msecs_to_jiffies(secs.saturating_mul(1000))).unwrap_or(u32::MAX)
}

/// How many disks there are whose memory has not been freed yet.
static LIVE: Atomic<usize> = Atomic::new(0);

/// How many disks the kernel has not freed yet: the module's text is needed as long as there are
/// any.
pub(crate) fn live() -> usize {
    LIVE.load(Acquire)
}

/// A disk and its tag set, counted: whoever has a reference may use it, and the last one to go
/// gives both up, which may sleep. Using a disk that was deleted meanwhile does nothing.
pub(crate) struct Disk<D> {
    disk: *mut bindings::gendisk,
    set: *mut Opaque<bindings::blk_mq_tag_set>,
    _of: PhantomData<Arc<D>>,
}

// SAFETY: A disk and its tag set belong to no thread.
unsafe impl<D: BlockDevice> Send for Disk<D> {}
// SAFETY: The block layer locks them as it needs.
unsafe impl<D: BlockDevice> Sync for Disk<D> {}

impl<D: BlockDevice> Disk<D> {
    /// Makes a disk for `device`, which it holds until it is freed.
    pub(crate) fn new(device: &Arc<D>, shape: Shape) -> Result<Arc<Self>> {
        let operations: &'static bindings::blk_mq_ops = &Callbacks::<D>::QUEUES;
        let set = KBox::new(
            Opaque::new(bindings::blk_mq_tag_set {
                ops: operations,
                nr_hw_queues: shape.queues,
                nr_maps: 1,
                queue_depth: shape.depth,
                numa_node: bindings::NUMA_NO_NODE,
                cmd_size: size_of::<History>() as u32,
                timeout: jiffies(shape.timeout_secs),
                // A processor that goes must not wait for the requests of its queue: they may
                // wait for an agent or a server without end. As for drivers that stand on others,
                // the queue is served on, by any processor.
                flags: bindings::BLK_MQ_F_NO_SCHED_BY_DEFAULT | bindings::BLK_MQ_F_STACKING,
                driver_data: Arc::as_ptr(device).cast_mut().cast(),
                ..pin_init::zeroed()
            }),
            GFP_KERNEL,
        )?;
        let set = KBox::into_raw(set);
        let raw = Opaque::cast_into(set);
        // SAFETY: A tag set that stays where it is until the drop, or the failure below.
        let result = to_result(unsafe { bindings::blk_mq_alloc_tag_set(raw) }).and_then(|()| {
            Self::alloc(raw, device, shape).inspect_err(|_| {
                // SAFETY: Allocated above, and no queue uses it.
                unsafe { bindings::blk_mq_free_tag_set(raw) };
            })
        });
        match result {
            // If there is no memory for it, the drop gives both up.
            Ok(disk) => Ok(Arc::new(Self { disk, set, _of: PhantomData }, GFP_KERNEL)?),
            Err(error) => {
                // SAFETY: From `into_raw` above.
                drop(unsafe { KBox::from_raw(set) });
                Err(error)
            }
        }
    }

    fn alloc(
        set: *mut bindings::blk_mq_tag_set,
        device: &Arc<D>,
        shape: Shape,
    ) -> Result<*mut bindings::gendisk> {
        let mut limits = bindings::queue_limits {
            logical_block_size: 512,
            physical_block_size: 4096,
            io_min: 4096,
            io_opt: shape.request_bytes,
            max_hw_sectors: shape.request_bytes / 512,
            // Data are copied piece by piece, however many there are.
            max_segments: u16::MAX,
            max_segment_size: u32::MAX,
            ..pin_init::zeroed()
        };
        let data = Arc::as_ptr(device).cast_mut().cast();
        // SAFETY: A live tag set, valid limits; the device outlives the queue.
        let disk = from_err_ptr(unsafe {
            bindings::__blk_mq_alloc_disk(set, &mut limits, data, static_lock_class!().as_ptr())
        })?;
        let held = Arc::into_raw(device.clone()).cast_mut().cast();
        LIVE.fetch_add(1, Full);
        let operations: &'static bindings::block_device_operations = &Callbacks::<D>::DISK;
        // SAFETY: A new disk, ours alone; `free_disk` or the drop gives the reference back.
        unsafe { (*disk).private_data = held };
        // SAFETY: A new disk, ours alone, and a table that is a static.
        unsafe { (*disk).fops = operations };
        // SAFETY: A new disk, ours alone.
        let field = unsafe { &mut (*disk).disk_name };
        for (to, from) in field.iter_mut().zip(device.name().bytes()) {
            *to = from as c_char;
        }
        Ok(disk)
    }

    /// Shows the disk to the system, with its files, without looking for partitions yet.
    pub(crate) fn add(&self, sectors: u64, files: &'static DiskFiles<D>) -> Result {
        // SAFETY: A disk that has not been added.
        unsafe { bindings::set_capacity(self.disk, sectors) };
        // SAFETY: A live disk.
        let state = unsafe { &raw mut (*self.disk).state };
        // SAFETY: A live disk's state, which is changed bit by bit.
        unsafe { bindings::set_bit(bindings::GD_SUPPRESS_PART_SCAN as usize, state) };
        // SAFETY: A disk that has not been added; the groups are static, and made for disks of `D`.
        let added = to_result(unsafe {
            bindings::device_add_disk(core::ptr::null_mut(), self.disk, files.groups())
        });
        // SAFETY: A live disk; the first partition is part of it.
        let name = unsafe { (*(*self.disk).part0).bd_device.kobj.name };
        match added {
            // The callee does not look whether there was memory for the device's name, and then
            // calls a device without one invalid.
            Err(EINVAL) if name.is_null() => Err(ENOMEM),
            added => added,
        }
    }

    /// Looks for partitions; `holds` is told when the open mutex is held and when it is about to be
    /// let go.
    pub(crate) fn scan_partitions(&self, holds: impl Fn(bool)) {
        // SAFETY: A live disk.
        let state = unsafe { &raw mut (*self.disk).state };
        // SAFETY: A live disk.
        let mutex = unsafe { &raw mut (*self.disk).open_mutex };
        // SAFETY: A live disk.
        unsafe { bindings::clear_bit(bindings::GD_SUPPRESS_PART_SCAN as usize, state) };
        // SAFETY: A live disk.
        unsafe { bindings::mutex_lock(mutex) };
        holds(true);
        // SAFETY: The open mutex is held; a deleted disk is refused by the callee.
        unsafe { bindings::bdev_disk_changed(self.disk, false) };
        holds(false);
        // SAFETY: Locked above.
        unsafe { bindings::mutex_unlock(mutex) };
    }

    /// Calls `f` with the number of openers while nobody can open or close. EAGAIN: somebody is
    /// just doing it.
    pub(crate) fn with_open_mutex(&self, f: impl FnOnce(i32) -> Result) -> Result {
        // SAFETY: A live disk.
        let mutex = unsafe { &raw mut (*self.disk).open_mutex };
        // SAFETY: A live disk.
        if unsafe { bindings::mutex_trylock(mutex) } == 0 {
            return Err(EAGAIN);
        }
        let result = f(self.openers());
        // SAFETY: Locked above.
        unsafe { bindings::mutex_unlock(mutex) };
        result
    }

    /// How many have the disk or one of its partitions open.
    pub(crate) fn openers(&self) -> i32 {
        // SAFETY: A live disk has its whole-disk block device.
        let counter = unsafe { &raw mut (*(*self.disk).part0).bd_openers.counter };
        // SAFETY: An atomic counter of the kernel's, live as long as the disk.
        unsafe { Atomic::<i32>::from_ptr(counter) }.load(Relaxed)
    }

    pub(crate) fn set_capacity(&self, sectors: u64) {
        // SAFETY: A live disk.
        unsafe { bindings::set_capacity_and_notify(self.disk, sectors) };
    }

    pub(crate) fn kick_requeue_list(&self) {
        // SAFETY: A live disk has a queue.
        unsafe { bindings::blk_mq_kick_requeue_list((*self.disk).queue) };
    }

    pub(crate) fn run_queues(&self) {
        // SAFETY: A live disk has a queue.
        unsafe { bindings::blk_mq_run_hw_queues((*self.disk).queue, true) };
    }

    pub(crate) fn set_timeout(&self, secs: u32) {
        // SAFETY: A live disk has a queue.
        unsafe { bindings::blk_queue_rq_timeout((*self.disk).queue, jiffies(secs)) };
    }

    /// Tells those who have the disk open that it is gone: a file system on it shuts down.
    pub(crate) fn mark_dead(&self) {
        // SAFETY: A disk that was added.
        unsafe { bindings::blk_mark_disk_dead(self.disk) };
    }

    /// Takes the disk away from the system; waits for requests in flight.
    pub(crate) fn delete(&self) {
        // SAFETY: A disk that was added.
        unsafe { bindings::del_gendisk(self.disk) };
    }
}

impl<D> Drop for Disk<D> {
    /// Gives up the tag set and our reference to the disk.
    fn drop(&mut self) {
        let set = Opaque::cast_into(self.set);
        // SAFETY: A live disk.
        let state = unsafe { (*self.disk).state };
        let added = state & (1 << bindings::GD_ADDED) != 0;
        // SAFETY: A live disk; see `alloc`.
        let device = unsafe { (*self.disk).private_data }.cast::<D>();
        if !added {
            // The kernel has no more to do with a disk that it has not seen, and does not call
            // `free_disk` for it. SAFETY: The queue of a live disk that was never added; nothing is
            // in flight.
            unsafe { bindings::put_disk(self.disk) };
        }
        // SAFETY: No queue uses it for requests any more: the disk was deleted or never added.
        unsafe { bindings::blk_mq_free_tag_set(set) };
        if added {
            // SAFETY: Our reference; the last one calls `free_disk`.
            unsafe { bindings::put_disk(self.disk) };
        } else {
            // SAFETY: From `into_raw` in `alloc`.
            drop(unsafe { Arc::from_raw(device) });
            LIVE.fetch_sub(1, Full);
        }
        // SAFETY: From `into_raw` in `new`.
        drop(unsafe { KBox::from_raw(self.set) });
    }
}

/// A request queue, while a callback of its runs.
#[derive(Clone, Copy)]
pub(crate) struct Queue<'a>(*mut bindings::request_queue, PhantomData<&'a ()>);

impl Queue<'_> {
    pub(crate) fn kick_requeue_list(self) {
        // SAFETY: The queue lives as long as its callback runs.
        unsafe { bindings::blk_mq_kick_requeue_list(self.0) };
    }
}

/// The block layer's callbacks, for disks of `D`.
struct Callbacks<D>(PhantomData<D>);

impl<D: BlockDevice> Callbacks<D> {
    const QUEUES: bindings::blk_mq_ops = bindings::blk_mq_ops {
        queue_rq: Some(Self::queue_rq),
        queue_rqs: Some(Self::queue_rqs),
        commit_rqs: Some(Self::commit_rqs),
        timeout: Some(Self::timeout),
        init_hctx: Some(Self::init_hctx),
        ..pin_init::zeroed()
    };

    const DISK: bindings::block_device_operations = bindings::block_device_operations {
        owner: compat::this_module(),
        open: Some(Self::open),
        free_disk: Some(Self::free_disk),
        ..pin_init::zeroed()
    };

    /// # Safety
    /// Called by the block layer, with what it passes.
    unsafe extern "C" fn init_hctx(
        hctx: *mut bindings::blk_mq_hw_ctx,
        data: *mut c_void,
        index: c_uint,
    ) -> c_int {
        // SAFETY: `driver_data` of the tag set: the device, which outlives its queues.
        let device = unsafe { &*data.cast::<D>() };
        let Some(queue) = device.queue(index as usize) else {
            return EINVAL.to_errno();
        };
        // SAFETY: A hardware context being made.
        unsafe { (*hctx).driver_data = core::ptr::from_ref(queue).cast_mut().cast() };
        0
    }

    /// # Safety
    /// `init_hctx` has run for it, and its queue is live.
    unsafe fn queue_of<'a>(hctx: *mut bindings::blk_mq_hw_ctx) -> &'a D::Queue {
        // SAFETY: The contract; the device, with which its queues live, outlives the disk's.
        unsafe { &*(*hctx).driver_data.cast::<D::Queue>() }
    }

    /// # Safety
    /// Called by the block layer, with what it passes.
    unsafe extern "C" fn queue_rq(
        hctx: *mut bindings::blk_mq_hw_ctx,
        data: *const bindings::blk_mq_queue_data,
    ) -> bindings::blk_status_t {
        // SAFETY: blk-mq passes a live context.
        let (served, raw) = unsafe { (Self::queue_of(hctx), (*hctx).queue) };
        // SAFETY: blk-mq passes valid data.
        let bindings::blk_mq_queue_data { rq, last } = unsafe { data.read() };
        // SAFETY: blk-mq hands the request over.
        let Some(request) = (unsafe { Request::from_raw(rq) }) else {
            return blk_status(EIO);
        };
        match served.queue_rq(request, Queue(raw, PhantomData), last) {
            Answer::Taken => 0,
            Answer::Later => BLK_STS_RESOURCE,
            Answer::Failed(error) => blk_status(error),
        }
    }

    /// The block layer calls `queue_rq` with each request that is left in the list.
    ///
    /// # Safety
    /// Called by the block layer, with what it passes.
    unsafe extern "C" fn queue_rqs(list: *mut bindings::rq_list) {
        // SAFETY: blk-mq hands the requests over, all of one disk.
        let mut requests = unsafe { Requests::from_raw(list.read()) };
        let mut left = Requests::new();
        while let Some(hctx) = requests.first_hctx() {
            let of_this_queue = core::iter::from_fn(|| {
                (requests.first_hctx() == Some(hctx)).then(|| requests.pop()).flatten()
            });
            // SAFETY: The context of a live request.
            unsafe { Self::queue_of(hctx) }.queue_rqs(of_this_queue, &mut left);
        }
        // SAFETY: blk-mq's own list, whose requests are in `left` or gone.
        unsafe { list.write(left.into_raw()) };
    }

    /// # Safety
    /// Called by the block layer, with what it passes.
    unsafe extern "C" fn commit_rqs(hctx: *mut bindings::blk_mq_hw_ctx) {
        // SAFETY: blk-mq passes a live context.
        unsafe { Self::queue_of(hctx) }.commit_rqs();
    }

    /// # Safety
    /// Called by the block layer, with what it passes.
    unsafe extern "C" fn timeout(rq: *mut bindings::request) -> bindings::blk_eh_timer_return {
        // SAFETY: blk-mq passes a live request.
        let (hctx, tag) = unsafe { ((*rq).mq_hctx, (*rq).tag) };
        // SAFETY: The request was started, hence has a context.
        unsafe { Self::queue_of(hctx) }.timed_out(rq as usize, tag as usize);
        // Ending the session takes the request back, outside of this callback; until then the
        // clock starts again.
        bindings::blk_eh_timer_return_BLK_EH_RESET_TIMER
    }

    /// # Safety
    /// Called by the block layer, with what it passes.
    unsafe extern "C" fn open(disk: *mut bindings::gendisk, _mode: bindings::blk_mode_t) -> c_int {
        // SAFETY: A live disk; see `alloc`.
        let device = unsafe { &*(*disk).private_data.cast::<D>() };
        to_c(if device.is_dying() { Err(ENXIO) } else { Ok(()) })
    }

    /// # Safety
    /// Called by the block layer, with what it passes.
    unsafe extern "C" fn free_disk(disk: *mut bindings::gendisk) {
        // SAFETY: From `into_raw` in `alloc`; the disk's last user is gone.
        drop(unsafe { Arc::from_raw((*disk).private_data.cast::<D>()) });
        LIVE.fetch_sub(1, Full);
    }
}
