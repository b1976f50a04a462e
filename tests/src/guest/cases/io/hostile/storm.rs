// SPDX-License-Identifier: GPL-2.0-only
//! Random and crafted completions, indices, headers, doorbell words, ioctls and mappings, session
//! after session, while others use two devices.
//!
//! Each device's users write one word again and again ([`pattern`]). Whatever is done here, a
//! window of one device never shows the word of the other, and a window that is new to the session
//! shows nothing.

use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::MapFlags;
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};
use srb_proto::control::{
    ActiveUrl, Config, DeviceInfo, Enter, Hello, Join, ACTIVE_URL, CONFIG, DEVICE, ENTER,
    ENTER_WAIT, HELLO, JOIN, MAX_POLL_USECS,
};
use srb_proto::descriptor::{Completion, Generation, Op, Submission, Tag, SUBMISSION_WORDS};
use srb_proto::doorbell::{ReadySet, WORDS};
use srb_proto::layout::{
    ChannelHeader, DoorbellPage, Geometry, Mapping, ABI_VERSION, CONTROL, CONTROL_WORKER, DATA,
    MAGIC, PAGE_BYTES,
};
use srb_proto::ring::{Consumer, Producer, Shared};

use super::control::{Control, Map};
use super::program::BAD_ADDRESSES;
use crate::guest::random::Random;
use crate::guest::TestResult;

/// What the program prints before its count of operations.
pub(in crate::guest::cases) const DONE: &str = "operations: ";
/// Operations of a session that nothing ends before.
const SESSION_OPS: u64 = 3000;
/// Operations on a session that has ended.
const AFTERLIFE_OPS: u64 = 30;
/// Bytes of a request that are looked at.
const LOOKED_AT: usize = 16 << 10;

/// The word that the users of the device of this index write.
pub(in crate::guest::cases) const fn pattern(device: u32) -> u64 {
    0x7372_625f_6461_7461 ^ ((device as u64 + 1) * 0x0101_0101_0101_0101)
}

/// A worker's file and page.
struct Worker {
    number: u32,
    file: Control,
    doorbell: Map,
}

/// A channel, and what this session knows of its windows.
struct Channel {
    /// Whose: a device's index, or none for the control channel.
    device: Option<u32>,
    /// Place of its worker.
    worker: usize,
    map: Map,
    geometry: Geometry,
    submissions: Consumer<SUBMISSION_WORDS>,
    completions: Producer<2>,
    /// Whether its submissions are still the module's alone.
    pristine: bool,
    /// Tags whose windows were seen or written to.
    known: Vec<bool>,
    last: Option<Completion>,
}

struct Session {
    control: Control,
    said: Hello,
    workers: Vec<Worker>,
    channels: Vec<Channel>,
    ended: bool,
}

/// A page for whoever touches memory that the module has taken away: the storm goes on.
extern "C" fn replace_page(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: The kernel passes a valid info to a handler that asked for one.
    let info = unsafe { &*info };
    // SAFETY: A SIGBUS has an address.
    let at = unsafe { info.si_addr() } as usize & !(PAGE_BYTES - 1);
    let (protection, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: Replaces a page of a mapping of ours whose memory is gone, as the signal says.
    let page = unsafe { libc::mmap(at as *mut libc::c_void, PAGE_BYTES, protection, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        // SAFETY: Ends the process without anything of it.
        unsafe { libc::_exit(99) };
    }
}

fn survive_sigbus() -> TestResult {
    let action =
        SigAction::new(SigHandler::SigAction(replace_page), SaFlags::SA_SIGINFO, SigSet::empty());
    // SAFETY: The handler makes system calls alone.
    unsafe { sigaction(Signal::SIGBUS, &action) }?;
    Ok(())
}

/// Does this many operations; fails if data are where they must not be.
pub(super) fn run(seed: u64, operations: u64) -> TestResult {
    survive_sigbus()?;
    let mut random = Random::from_seed(seed);
    let (mut done, mut sessions) = (0, 0u64);
    while done < operations {
        let mut session = Session::begin()?;
        sessions += 1;
        let (mut alive, mut dead) = (0, 0);
        while alive < SESSION_OPS && dead < AFTERLIFE_OPS {
            session.operate(&mut random)?;
            if session.ended {
                dead += 1;
            } else {
                alive += 1;
            }
        }
        done += alive + dead;
    }
    println!("{DONE}{done} in {sessions} sessions");
    Ok(())
}

impl Session {
    fn begin() -> TestResult<Self> {
        let (control, said) = Control::begin()?;
        let mut workers = Vec::new();
        for number in (0..said.queues).chain([CONTROL_WORKER]) {
            let file = Control::join(said.session, number)?;
            let doorbell = file.map_all(Mapping::Doorbell { worker: number })?;
            workers.push(Worker { number, file, doorbell });
        }
        let mut channels = Vec::new();
        let mut info = DeviceInfo::default();
        while control.ioctl(DEVICE, &mut info).is_ok() {
            for queue in 0..said.queues {
                let mapping = Mapping::Channel { device: info.index, queue };
                let map = control.map_all(mapping)?;
                channels.push(Channel::new(Some(info.index), queue as usize, map, DATA));
            }
            info.index += 1;
        }
        let map = control.map_all(Mapping::Control)?;
        channels.push(Channel::new(None, said.queues as usize, map, CONTROL));
        Ok(Self { control, said, workers, channels, ended: false })
    }

    fn operate(&mut self, random: &mut Random) -> TestResult {
        let at = random.below(self.channels.len() as u64) as usize;
        let kind = random.below(1000);
        let channel = self.channels.get_mut(at).ok_or("a channel")?;
        match kind {
            0..=349 => channel.serve(random)?,
            350..=499 => {
                let worker = self.workers.get(channel.worker).ok_or("a worker")?;
                self.ended |= worker.enter(channel, random) == Err(Errno::ESHUTDOWN);
            }
            500..=619 => channel.scribble_head(random),
            620..=699 => channel.scribble_window(random)?,
            700..=799 => {
                let worker = self.workers.get(channel.worker).ok_or("a worker")?;
                worker.scribble(random);
            }
            800..=899 => self.call(random)?,
            900..=997 => self.map_something(random),
            _ => channel.set_tail(random),
        }
        Ok(())
    }

    /// An ioctl on any of the files, or on one just opened.
    fn call(&mut self, random: &mut Random) -> TestResult {
        let fresh = Control::open()?;
        let file = match random.below(self.workers.len() as u64 + 2) as usize {
            0 => &fresh,
            1 => &self.control,
            at => &self.workers.get(at - 2).ok_or("a worker")?.file,
        };
        let outcome = match random.below(8) {
            0 => file.ioctl(HELLO, &mut self.hello(random)),
            1 => file.ioctl(JOIN, &mut self.join(random)),
            2 => file.ioctl(CONFIG, &mut config(random)),
            3 => {
                let index = small_or_any(random) as u32;
                file.ioctl(DEVICE, &mut DeviceInfo { index, ..DeviceInfo::default() })
            }
            4 => {
                let (version, index) = (small_or_any(random), small_or_any(random) as u32);
                file.ioctl(ACTIVE_URL, &mut ActiveUrl { version, index, fit_urls: 0 })
            }
            // It may sleep if told to, with nobody to wake it.
            5 if random.one_in(2) => file.call(ENTER, small_or_any(random) & !ENTER_WAIT),
            5 => {
                let poll_usecs = random.below(2 + u64::from(MAX_POLL_USECS)) as u32;
                file.call(ENTER, Enter { wait: false, poll_usecs }.to_bits())
            }
            6 => {
                let calls = [HELLO, JOIN, CONFIG, DEVICE, ACTIVE_URL];
                let call = calls[random.below(5) as usize];
                file.call(call, bad_address(random))
            }
            _ => file.call(random.next_u64() as u32, bad_address(random)),
        };
        self.ended |= outcome == Err(Errno::ESHUTDOWN);
        Ok(())
    }

    fn hello(&self, random: &mut Random) -> Hello {
        let mut hello = Hello { magic: MAGIC, abi_version: ABI_VERSION, ..Hello::default() };
        match random.below(4) {
            0 => hello.magic = random.next_u64(),
            1 => hello.flags = random.next_u64() as u32,
            2 => hello.features = random.next_u64(),
            _ => hello.reserved = random.next_u64() as u32,
        }
        hello
    }

    fn join(&self, random: &mut Random) -> Join {
        let session = if random.one_in(2) { self.said.session } else { small_or_any(random) };
        let worker = if random.one_in(4) { CONTROL_WORKER } else { small_or_any(random) as u32 };
        Join { session, worker, reserved: random.below(2) as u32 }
    }

    /// A mapping at an offset where there is something, or nothing.
    fn map_something(&self, random: &mut Random) {
        let (device, queue) = (random.below(4) as u32, random.below(4) as u32);
        let mapping = match random.below(4) {
            0 => Mapping::Doorbell { worker: queue },
            1 => Mapping::Control,
            _ => Mapping::Channel { device, queue },
        };
        let offset = match random.below(3) {
            0 => mapping.offset(),
            1 => mapping.offset() + (random.below(1 << 20) << 12),
            _ => random.next_u64() & 0x7fff_ffff_ffff_f000,
        };
        let bytes = PAGE_BYTES * (1 + random.below(64) as usize);
        let flags = if random.one_in(8) { MapFlags::MAP_PRIVATE } else { MapFlags::MAP_SHARED };
        if let Ok(map) = self.control.map(offset, bytes, flags) {
            let word = random.below(bytes as u64 / 8) as usize * 8;
            map.word(word).fetch_xor(random.next_u64(), Ordering::SeqCst);
        }
    }
}

impl Worker {
    /// Says that the channel has completions, and has them looked at.
    fn enter(&self, channel: &Channel, random: &mut Random) -> Result<i32, Errno> {
        if !random.one_in(8) {
            let summary = self.doorbell.word(offset_of!(DoorbellPage, complete_summary));
            let words = self.doorbell.words(offset_of!(DoorbellPage, complete_words), WORDS * 8);
            ReadySet::new(summary, words).insert(channel.device.unwrap_or(0) as usize);
        }
        self.file.call(ENTER, 0)
    }

    fn scribble(&self, random: &mut Random) {
        let word = random.below(size_of::<DoorbellPage>() as u64 / 8) as usize * 8;
        let value = small_or_any(random);
        self.doorbell.word(word).store(value, Ordering::SeqCst);
        assert!(self.number <= CONTROL_WORKER);
    }
}

impl Channel {
    fn new(device: Option<u32>, worker: usize, map: Map, geometry: Geometry) -> Self {
        Self {
            device,
            worker,
            map,
            geometry,
            submissions: Consumer::new(),
            completions: Producer::new(),
            pristine: true,
            known: vec![false; geometry.depth as usize],
            last: None,
        }
    }

    /// Takes a request, if there is one, and answers it in one of many ways.
    fn serve(&mut self, random: &mut Random) -> TestResult {
        let Some(request) = self.next() else {
            // A late answer, or one to nothing.
            let late = self.last.unwrap_or(Completion {
                tag: Tag(random.below(u64::from(self.geometry.depth)) as u16),
                generation: Generation(small_or_any(random) as u32),
                transient: random.one_in(2),
                status: 0,
                len: small_or_any(random) as u32,
            });
            if random.one_in(4) {
                self.answer(late);
            }
            return Ok(());
        };
        self.look_at(&request)?;
        let Submission { tag, generation, len, .. } = request;
        let right = Completion { tag, generation, transient: false, status: 0, len };
        let answer = match random.below(12) {
            0 => Completion { len: small_or_any(random) as u32, ..right },
            1 => Completion { status: random.next_u64() as i32, ..right },
            2 => Completion { status: -(random.below(200) as i32), ..right },
            3 => {
                let stale = Generation(generation.0.wrapping_sub(random.below(3) as u32));
                Completion { generation: stale, ..right }
            }
            4 if random.one_in(16) => Completion { tag: Tag(random.next_u64() as u16), ..right },
            5 => return Ok(()),
            6 => Completion { transient: true, status: -5, ..right },
            _ => right,
        };
        self.answer(answer);
        self.last = Some(answer);
        Ok(())
    }

    fn next(&mut self) -> Option<Submission> {
        let words = self.geometry.submission_words() * 8;
        let entries = self.map.words(self.geometry.submissions_offset(), words);
        let tail = self.map.word(offset_of!(ChannelHeader, submission_tail));
        let ring = Shared::new(tail, entries)?;
        // What was scribbled there may be no request.
        let words = self.submissions.pop(&ring).ok().flatten()?;
        let request = Submission::from_words(words).ok()?;
        (request.tag.index() < self.known.len()).then_some(request)
    }

    fn answer(&mut self, completion: Completion) {
        let words = self.geometry.completion_words() * 8;
        let entries = self.map.words(self.geometry.completions_offset(), words);
        let tail = self.map.word(offset_of!(ChannelHeader, completion_tail));
        if let Some(ring) = Shared::new(tail, entries) {
            self.completions.push(&ring, &completion.to_words());
            self.completions.publish(&ring);
        }
    }

    fn window(&self, tag: usize, bytes: usize) -> &[AtomicU64] {
        let bytes = bytes.min(LOOKED_AT).min(self.geometry.window_bytes as usize);
        self.map.words(self.geometry.window_offset(tag), bytes)
    }

    /// Fails if the request's window shows what it must not.
    fn look_at(&mut self, request: &Submission) -> TestResult {
        let Some(device) = self.device else { return Ok(()) };
        let tag = request.tag.index();
        let foreign = pattern(device ^ 1);
        let fresh = !self.known.get(tag).copied().unwrap_or(true);
        let must_be_empty = fresh && self.pristine && request.op == Op::Read;
        for word in self.window(tag, request.len as usize) {
            let word = word.load(Ordering::Relaxed);
            if word == foreign {
                return Err(format!("device {device}, tag {tag}: the other's data").into());
            }
            if must_be_empty && word != 0 {
                return Err(format!("device {device}, tag {tag}: a new window: {word:#x}").into());
            }
        }
        self.know(tag);
        Ok(())
    }

    fn know(&mut self, tag: usize) {
        if let Some(known) = self.known.get_mut(tag) {
            *known = true;
        }
    }

    /// Writes to a word of the header or the rings.
    fn scribble_head(&mut self, random: &mut Random) {
        let tail = offset_of!(ChannelHeader, completion_tail) / 8;
        let words = self.geometry.windows_offset() / 8;
        let completions = self.geometry.completions_offset() / 8;
        let word = match random.below(4) {
            0 => random.below(PAGE_BYTES as u64 / 8) as usize,
            1 => completions + random.below(64) as usize,
            _ => random.below(words as u64) as usize,
        };
        if word == tail {
            return;
        }
        self.pristine &= word >= completions;
        self.map.word(word * 8).store(small_or_any(random), Ordering::SeqCst);
    }

    fn scribble_window(&mut self, random: &mut Random) -> TestResult {
        let tag = random.below(u64::from(self.geometry.depth)) as usize;
        self.know(tag);
        let foreign = self.device.map(|device| pattern(device ^ 1));
        let (value, place) = (random.next_u64(), random.below(64) as usize);
        let word = self.window(tag, PAGE_BYTES).get(place).ok_or("a word")?;
        if Some(word.swap(value, Ordering::SeqCst)) == foreign {
            return Err(format!("tag {tag}: the other device's data").into());
        }
        Ok(())
    }

    /// Moves the index that costs the session when it makes no sense.
    fn set_tail(&mut self, random: &mut Random) {
        let tail = self.map.word(offset_of!(ChannelHeader, completion_tail));
        let value = tail.load(Ordering::SeqCst);
        let value = match random.below(3) {
            0 => value.wrapping_add(random.below(256)),
            1 => value.wrapping_sub(random.below(256)),
            _ => random.next_u64(),
        };
        tail.store(value, Ordering::SeqCst);
    }
}

fn small_or_any(random: &mut Random) -> u64 {
    if random.one_in(2) {
        random.below(300)
    } else {
        random.next_u64()
    }
}

/// An address where nothing of ours lies.
fn bad_address(random: &mut Random) -> u64 {
    match BAD_ADDRESSES.get(random.below(8) as usize) {
        Some(address) => *address,
        None => random.next_u64() | 1 << 63,
    }
}

fn config(random: &mut Random) -> Config {
    let (urls, urls_capacity) = (bad_address(random), small_or_any(random) as u32);
    Config { urls, urls_capacity, ..Config::default() }
}
