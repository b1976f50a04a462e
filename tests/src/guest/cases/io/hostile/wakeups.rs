// SPDX-License-Identifier: GPL-2.0-only
//! Wake-ups that find no work: somebody else has taken it, or the sleeper was awake already. Each
//! must end the sleep that it meets, for the module wakes once for each mark. And how long a worker
//! looks for work before it sleeps.

use std::mem::offset_of;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::time::{clock_gettime, ClockId};
use srb_proto::control::{Enter, ENTER, ENTER_WAIT, MAX_POLL_USECS};
use srb_proto::doorbell::{ReadySet, Sleeper, WORDS};
use srb_proto::layout::{DoorbellPage, Mapping, CONTROL_WORKER};

use super::super::set_parameter;
use super::control::{Control, Map};
use crate::guest::machine::message;
use crate::guest::wait::{patiently, wait_for};
use crate::guest::TestResult;

/// How long a sleep may last that a wake-up ends.
const WAKE_UP: Duration = Duration::from_secs(10);
/// Wake-ups without work in each way to sleep.
const WAKE_UPS: i64 = 30;
/// How often ENTER is told to look.
const LOOKS: usize = 10;
/// Within what time that many calls have had the processor to themselves.
const ALONE: Duration = Duration::from_secs(30);

/// The control worker, of which two threads believe that they are it: one sleeps, one takes.
struct Worker {
    file: Control,
    page: Map,
}

impl Worker {
    fn work(&self) -> ReadySet<'_, AtomicU64> {
        ReadySet::new(
            self.page.word(offset_of!(DoorbellPage, submit_summary)),
            self.page.words(offset_of!(DoorbellPage, submit_words), WORDS * 8),
        )
    }

    fn mark(&self) -> &AtomicU64 {
        self.page.word(offset_of!(DoorbellPage, sleeping))
    }
}

/// A way to sleep.
type Wait = fn(&Control) -> Result<(), Errno>;
const WAITS: [(&str, Wait); 3] = [
    ("ENTER", |file| file.call(ENTER, ENTER_WAIT).map(drop)),
    ("ENTER after polling", |file| {
        let how = Enter { wait: true, poll_usecs: MAX_POLL_USECS };
        file.call(ENTER, how.to_bits()).map(drop)
    }),
    ("poll", |file| if file.poll(WAKE_UP)? { Ok(()) } else { Err(Errno::ETIMEDOUT) }),
];

/// A new session and its control worker, for whom there is no work.
fn begin() -> TestResult<(Control, Worker)> {
    let (control, said) = Control::begin()?;
    let file = Control::join(said.session, CONTROL_WORKER)?;
    let page = control.map_all(Mapping::Doorbell { worker: CONTROL_WORKER })?;
    let worker = Worker { file, page };
    // What the module has announced to each new session.
    worker.work().take(|_| {});
    Ok((control, worker))
}

/// ENTER looks for work as long as it was told where nobody else wants the processor, which happens
/// sooner or later; no longer where there is work, or where it was told not to. What a call takes
/// is counted in processor time: who was only kept from running has not looked.
pub(super) fn looks() -> TestResult {
    let (_control, worker) = begin()?;
    let told = Duration::from_micros(MAX_POLL_USECS.into());
    let took = |poll_usecs: u32| {
        let began = processor_time()?;
        worker.file.call(ENTER, Enter { wait: false, poll_usecs }.to_bits())?;
        Ok::<_, Errno>(processor_time()?.saturating_sub(began))
    };
    let (began, mut whole) = (Instant::now(), 0);
    while whole < LOOKS {
        whole += usize::from(took(MAX_POLL_USECS)? >= told);
        let so_far = began.elapsed();
        assert!(so_far < patiently(ALONE), "it looked for so long {whole} times in {so_far:?}");
    }
    let shortest = |poll_usecs| {
        let took = (0..LOOKS).map(|_| took(poll_usecs)).collect::<Result<Vec<_>, _>>()?;
        Ok::<_, Errno>(took.into_iter().min())
    };
    let idle = shortest(0)?;
    assert!(idle < Some(told), "it looked for {idle:?} at least, and was told not to");
    worker.work().insert(0);
    let busy = shortest(MAX_POLL_USECS)?;
    assert!(busy < Some(told), "it looked for {busy:?} at least, and there was work");
    Ok(())
}

/// For how long this thread has run until now.
fn processor_time() -> Result<Duration, Errno> {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from)
}

pub(super) fn run() -> TestResult {
    let (_control, worker) = begin()?;
    for (name, wait) in WAITS {
        // Nobody is marked, so nobody would be woken.
        within(name, || wait(&worker.file))?;
        woken_without_work(name, &worker, wait)?;
    }
    Ok(())
}

/// Fails unless a call returns, in time and without an error. It cannot be ended otherwise: then
/// the program is.
fn within(what: &str, call: impl FnOnce() -> Result<(), Errno> + Send) -> TestResult {
    thread::scope(|scope| {
        let caller = scope.spawn(call);
        let done = || Ok(caller.is_finished().then_some(()));
        if wait_for("the call returns", WAKE_UP, done).is_err() {
            eprintln!("{what} sleeps though nobody is marked as asleep");
            std::process::exit(1);
        }
        let outcome = caller.join().map_err(|_| "the caller panicked")?;
        outcome.map_err(|errno| format!("{what}: {errno}").into())
    })
}

/// While one thread sleeps again and again, another takes all work at once, so that the wake-up
/// for it finds none.
fn woken_without_work(name: &str, worker: &Worker, wait: Wait) -> TestResult {
    let (stop, turns) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        // ORDERING: a flag and a number that guard nothing, here and below.
        let sleeper = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if Sleeper::new(worker.mark()).prepare(&worker.work()) {
                    wait(&worker.file)?;
                }
                // Also when it saw the work before the other thread took it.
                turns.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, Errno>(())
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                worker.work().take(|_| {});
            }
        });
        let outcome = (0..WAKE_UPS).try_for_each(|number| {
            let asleep = || Ok((worker.mark().load(Ordering::Relaxed) != 0).then_some(()));
            wait_for("the sleeper is marked", WAKE_UP, asleep)?;
            let before = turns.load(Ordering::Relaxed);
            set_parameter("req_timeout", 30 + number % 2)?;
            let woken = || Ok((turns.load(Ordering::Relaxed) > before).then_some(()));
            wait_for("the sleeper is woken", WAKE_UP, woken)
        });
        if let Err(why) = &outcome {
            // A thread that sleeps on would hold us up.
            eprintln!("{name}: {}", message(why));
            std::process::exit(1);
        }
        stop.store(true, Ordering::Relaxed);
        set_parameter("req_timeout", 30)?;
        let slept = sleeper.join().map_err(|_| "the sleeper panicked")?;
        slept.map_err(|errno| format!("{name}: {errno}").into())
    })
}
