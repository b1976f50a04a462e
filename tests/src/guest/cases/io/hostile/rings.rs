// SPDX-License-Identifier: GPL-2.0-only
//! Rings and doorbells as no agent leaves them, with requests in flight.

use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use srb_proto::control::{Hello, ENTER, ENTER_WAIT};
use srb_proto::descriptor::{Completion, Generation, Op, Submission, Tag, SUBMISSION_WORDS};
use srb_proto::doorbell::{ReadySet, WORDS};
use srb_proto::layout::{
    ChannelHeader, DoorbellPage, Geometry, Mapping, CONTROL, CONTROL_WORKER, DATA, PAGE_BYTES,
};
use srb_proto::ring::{Consumer, Producer, Shared};

use super::super::Random;
use super::control::{Control, Map};
use crate::guest::{Failed, TestResult};

/// How long a request may take to come: somebody reads all the time.
const REQUEST: Duration = Duration::from_secs(20);
/// Rounds of noise in one run of the program.
const ROUNDS: u32 = 12;

/// What can be wrong with a ring; each is an argument of the program.
pub(super) const SCENARIOS: [&str; 9] = [
    "tail-far-ahead",
    "tail-behind",
    "tag-out-of-range",
    "answered-twice",
    "wrong-generation",
    "status-out-of-range",
    "too-few-bytes",
    "control-tail-far-ahead",
    "control-tag-out-of-range",
];

/// A channel with its worker's file and page.
pub(in crate::guest::cases) struct Queue {
    file: Control,
    doorbell: Map,
    channel: Map,
    geometry: Geometry,
    /// Place in the worker's ready sets.
    index: usize,
    submissions: Consumer<SUBMISSION_WORDS>,
    completions: Producer<2>,
}

impl Queue {
    pub(in crate::guest::cases) fn new(
        control: &Control,
        session: u64,
        worker: u32,
    ) -> Result<Self, Errno> {
        let (mapping, geometry) = match worker {
            CONTROL_WORKER => (Mapping::Control, CONTROL),
            queue => (Mapping::Channel { device: 0, queue }, DATA),
        };
        let file = Control::join(session, worker)?;
        Ok(Self {
            doorbell: file.map_all(Mapping::Doorbell { worker })?,
            channel: control.map_all(mapping)?,
            file,
            geometry,
            index: 0,
            submissions: Consumer::new(),
            completions: Producer::new(),
        })
    }

    fn completion_ring(&self) -> TestResult<Shared<'_, AtomicU64, 2>> {
        let words = self.geometry.completion_words() * 8;
        let entries = self.channel.words(self.geometry.completions_offset(), words);
        Shared::new(self.completion_tail(), entries).ok_or_else(|| "no completion ring".into())
    }

    fn completion_tail(&self) -> &AtomicU64 {
        self.channel.word(offset_of!(ChannelHeader, completion_tail))
    }

    /// The next request, if one has come.
    fn next(&mut self) -> TestResult<Option<Submission>> {
        let words = self.geometry.submission_words() * 8;
        let entries = self.channel.words(self.geometry.submissions_offset(), words);
        let tail = self.channel.word(offset_of!(ChannelHeader, submission_tail));
        let ring = Shared::new(tail, entries).ok_or("no submission ring")?;
        let words = self.submissions.pop(&ring).map_err(|_| "the module overran its ring")?;
        let request = words.map(Submission::from_words).transpose();
        request.map_err(|bad| Failed::from(format!("the module sent {bad:?}")))
    }

    /// Puts an answer into the ring.
    pub(in crate::guest::cases) fn answer(&mut self, completion: Completion) -> TestResult {
        let mut completions = std::mem::take(&mut self.completions);
        let ring = self.completion_ring()?;
        completions.push(&ring, &completion.to_words());
        completions.publish(&ring);
        self.completions = completions;
        Ok(())
    }

    /// The words of a tag's window.
    pub(in crate::guest::cases) fn window(&self, tag: Tag, bytes: usize) -> &[AtomicU64] {
        self.channel.words(self.geometry.window_offset(tag.index()), bytes)
    }

    /// Says that there are answers and has them looked at.
    pub(in crate::guest::cases) fn enter(&self) -> Result<i32, Errno> {
        let summary = self.doorbell.word(offset_of!(DoorbellPage, complete_summary));
        let words = self.doorbell.words(offset_of!(DoorbellPage, complete_words), WORDS * 8);
        ReadySet::new(summary, words).insert(self.index);
        self.file.call(ENTER, 0)
    }
}

/// Begins a session with all its workers; the last of them is the control worker.
fn begin() -> Result<(Control, Hello, Vec<Queue>), Errno> {
    let (control, said) = Control::begin()?;
    let workers = (0..said.queues).chain([CONTROL_WORKER]);
    let queues = workers.map(|worker| Queue::new(&control, said.session, worker));
    let queues = queues.collect::<Result<Vec<_>, _>>()?;
    Ok((control, said, queues))
}

/// Waits for somebody's request; returns the queue that it came to.
pub(in crate::guest::cases) fn request(
    queues: &mut [Queue],
) -> TestResult<(&mut Queue, Submission)> {
    let began = Instant::now();
    while began.elapsed() < REQUEST {
        for at in 0..queues.len() {
            let queue = queues.get_mut(at).ok_or("a queue")?;
            if let Some(found) = queue.next()? {
                let queue = queues.get_mut(at).ok_or("a queue")?;
                return Ok((queue, found));
            }
        }
        sleep(Duration::from_millis(5));
    }
    Err("no request came".into())
}

/// What an agent would answer.
fn right(request: &Submission) -> Completion {
    let Submission { tag, generation, len, .. } = *request;
    Completion { tag, generation, transient: false, status: 0, len }
}

/// Fails unless ENTER gives this.
fn expect(queue: &Queue, expected: Result<i32, Errno>) -> TestResult {
    let outcome = queue.enter();
    if outcome == expected {
        return Ok(());
    }
    Err(format!("ENTER gave {outcome:?}, not {expected:?}").into())
}

/// One of [`SCENARIOS`].
pub(super) fn run(scenario: &str) -> TestResult {
    let (_control, _, mut queues) = begin()?;
    if scenario.starts_with("control-") {
        let queue = queues.last_mut().ok_or("no control queue")?;
        return on_the_control_ring(scenario, queue);
    }
    let (queue, request) = request(&mut queues)?;
    if request.op != Op::Read {
        return Err(format!("somebody reads, and {request:?} came").into());
    }
    let right = right(&request);
    let over = Err(Errno::ESHUTDOWN);
    match scenario {
        "tail-far-ahead" => queue.completion_tail().store(1 << 40, Ordering::SeqCst),
        "tail-behind" => queue.completion_tail().store(u64::MAX, Ordering::SeqCst),
        "tag-out-of-range" => queue.answer(Completion { tag: Tag(128), ..right })?,
        "answered-twice" => {
            queue.answer(right)?;
            queue.answer(right)?;
            return expect(queue, Ok(1));
        }
        "wrong-generation" => {
            let stale = Generation(request.generation.0.wrapping_sub(1));
            queue.answer(Completion { generation: stale, ..right })?;
            expect(queue, Ok(0))?;
            queue.answer(right)?;
            return expect(queue, Ok(1));
        }
        "status-out-of-range" => {
            queue.answer(Completion { status: 5, ..right })?;
            return expect(queue, Ok(1));
        }
        "too-few-bytes" => {
            queue.answer(Completion { len: request.len / 2, ..right })?;
            return expect(queue, Ok(1));
        }
        other => return Err(format!("no scenario {other}").into()),
    }
    expect(queue, over)?;
    // For good, and its memory is gone: a touch would be a SIGBUS.
    for flags in [0, ENTER_WAIT] {
        assert_eq!(queue.file.call(ENTER, flags), over, "ENTER after the end");
    }
    assert_eq!(queue.channel.probe(0), Err(Errno::EFAULT), "a ring after the end");
    assert_eq!(queue.doorbell.probe(0), Err(Errno::EFAULT), "a doorbell after the end");
    Ok(())
}

/// Ends a session from within while its files and mappings stay.
pub(super) fn end_session(control: &Control, said: Hello) -> TestResult {
    let queue = Queue::new(control, said.session, CONTROL_WORKER)?;
    queue.completion_tail().store(1 << 40, Ordering::SeqCst);
    match queue.file.call(ENTER, 0) {
        Err(Errno::EPROTO | Errno::ESHUTDOWN) => Ok(()),
        other => Err(format!("ENTER gave {other:?}").into()),
    }
}

fn on_the_control_ring(scenario: &str, queue: &mut Queue) -> TestResult {
    match scenario {
        "control-tail-far-ahead" => queue.completion_tail().store(1 << 40, Ordering::SeqCst),
        _ => queue.answer(Completion {
            tag: Tag(CONTROL.depth as u16),
            generation: Generation(1),
            transient: false,
            status: 0,
            len: 0,
        })?,
    }
    match queue.file.call(ENTER, 0) {
        Err(Errno::EPROTO | Errno::ESHUTDOWN) => Ok(()),
        other => Err(format!("ENTER gave {other:?}").into()),
    }
}

/// What is answered as a status, on each channel: all errnos that the kernel knows, and more.
pub(super) const STATUSES: std::ops::RangeInclusive<i32> = -4100..=5;

/// Answers requests of both kinds with each of [`STATUSES`].
pub(super) fn statuses() -> TestResult {
    let (_control, _, mut queues) = begin()?;
    let (mut reads, mut commands) = (STATUSES.rev(), STATUSES.rev());
    let mut left = (true, true);
    while left.0 || left.1 {
        let (queue, request) = request(&mut queues)?;
        let right = right(&request);
        let (statuses, left) = match request.op {
            Op::Read | Op::Write => (&mut reads, &mut left.0),
            _ => (&mut commands, &mut left.1),
        };
        let status = statuses.next();
        *left = status.is_some();
        let len = if request.op == Op::Read { right.len } else { 0 };
        queue.answer(Completion { status: status.unwrap_or(-5), len, ..right })?;
        expect(queue, Ok(1)).or_else(|why| match request.op {
            // The control channel is reaped along with others.
            Op::Read | Op::Write => Err(why),
            _ => expect(queue, Ok(0)),
        })?;
    }
    Ok(())
}

/// Random words everywhere, random calls, session after session.
pub(super) fn noise(seed: u64) -> TestResult {
    let mut random = Random::from_seed(seed);
    for _ in 0..ROUNDS {
        let (control, _, mut queues) = begin()?;
        // Something is in flight, on one of the queues.
        let (queue, request) = request(&mut queues)?;
        let fits = right(&request);
        queue.answer(if random.below(2) == 0 { fits } else { Completion { len: 7, ..fits } })?;
        for _ in 0..40 {
            let at = random.below(queues.len() as u64) as usize;
            let queue = queues.get_mut(at).ok_or("a queue")?;
            scribble(queue, &mut random);
            // Any outcome will do, as long as there is one.
            let _ = if random.below(2) == 0 { queue.enter() } else { queue.file.call(ENTER, 0) };
            let _ =
                control.call(random.next_u64() as u32 & 0xff_ffff | 0xc000_0000, random.next_u64());
            let offset = random.next_u64() & 0x03ff_ffff_ffff_f000;
            let _ = control.map(offset, PAGE_BYTES, nix::sys::mman::MapFlags::MAP_SHARED);
            if queue.channel.probe(0).is_err() {
                break;
            }
        }
    }
    Ok(())
}

/// Writes noise into a few words, more often than not where the module looks.
fn scribble(queue: &Queue, random: &mut Random) {
    // The module may take the memory away at any moment: let the kernel tell.
    if queue.channel.probe(0).is_err() || queue.doorbell.probe(0).is_err() {
        return;
    }
    let head = queue.geometry.windows_offset() / 8;
    let ring = queue.geometry.completions_offset() / 8;
    for _ in 0..16 {
        let value = if random.below(2) == 0 { random.next_u64() } else { random.below(200) };
        let (map, word) = match random.below(4) {
            0 => (&queue.channel, random.below(head as u64) as usize),
            1 => (&queue.channel, ring + random.below(64) as usize),
            2 => (&queue.doorbell, random.below(PAGE_BYTES as u64 / 8) as usize),
            _ => (&queue.channel, offset_of!(ChannelHeader, completion_tail) / 8),
        };
        map.word(word * 8).store(value, Ordering::SeqCst);
    }
}
