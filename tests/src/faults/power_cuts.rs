// SPDX-License-Identifier: GPL-2.0-only
//! A machine's power is cut under load, again and again, while its server lives on: what was
//! acknowledged is there, and filesystems recover.
//!
//! The machine is `guest::cut`, which has the protocol too. QEMU is killed at a moment that the
//! seed decides. Then the blocks of all acknowledged direct writes are looked for in the volume's
//! file; what was synced in filesystems is compared by the next machine, which recovers them.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::server::Server;
use super::Run;
use crate::guest::cut::{
    raw_offset, raw_word, Synced, BLOCKS, BLOCK_BYTES, FILESYSTEMS, RAW, WORD, WRITERS,
};
use crate::guest::random::Random;
use crate::vm::{self, host, Error};

/// The campaign's name.
pub const NAME: &str = "power_cuts";
/// Cuts in the full form.
const FULL: u64 = 20;
/// Cuts in the short form.
const SHORT: u64 = 2;
/// How long the load goes on before a cut, in milliseconds, from the first acknowledgement.
const LOAD_MS: (u64, u64) = (300, 4000);
/// How long a machine may take to get something acknowledged.
const LIFE: Duration = Duration::from_secs(300);
const STEP: Duration = Duration::from_millis(10);

/// What the campaign came to.
#[derive(Debug)]
pub struct Result {
    /// Whether nothing was lost and everything recovered.
    pub passed: bool,
    /// Its figures, by name.
    pub figures: Map<String, Value>,
}

/// What one machine has told.
#[derive(Debug, Default)]
struct Told {
    recovered: bool,
    failed: Option<String>,
    first_write: Option<Instant>,
    /// The last sequence that each direct writer had acknowledged.
    raw: [u64; WRITERS as usize],
    files: Vec<Synced>,
}

impl Told {
    fn hear(&mut self, line: &str) {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("recovered", _) => self.recovered = true,
            ("failed", text) => self.failed = Some(text.to_owned()),
            ("raw", rest) => {
                let mut numbers = rest.split(' ').filter_map(|word| word.parse::<u64>().ok());
                let (writer, sequence) = (numbers.next(), numbers.next());
                let place = writer.and_then(|writer| self.raw.get_mut(writer as usize));
                if let (Some(place), Some(sequence)) = (place, sequence) {
                    *place = sequence;
                    self.first_write.get_or_insert_with(Instant::now);
                }
            }
            ("gone", rest) => self.files.retain(|file| {
                rest.split_once(' ') != Some((file.filesystem.as_str(), file.name.as_str()))
            }),
            ("file", rest) => self.files.extend(Synced::from_line(rest)),
            _ => self.failed = Some(format!("it says {line}")),
        }
    }

    /// Whether every kind of load has had something acknowledged.
    fn is_loaded(&self) -> bool {
        let has_files = |name| self.files.iter().any(|file| file.filesystem == name);
        self.raw.iter().all(|sequence| *sequence > 0) && FILESYSTEMS.into_iter().all(has_files)
    }

    /// Whether the load has gone on for that long; or goes on no more.
    fn is_due(&self, moment: Duration) -> bool {
        let long_enough = self.first_write.is_some_and(|first| first.elapsed() >= moment);
        self.failed.is_some() || long_enough && self.is_loaded()
    }
}

/// The end of the line that leads into the machine.
struct Link {
    told: Arc<Mutex<Told>>,
    ended: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<()>>,
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// Waits for the machine, tells it what to do, and listens to it to its end.
    fn start(listener: &TcpListener, orders: String) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = listener.try_clone()?;
        let (told, ended) =
            (Arc::new(Mutex::new(Told::default())), Arc::new(AtomicBool::new(false)));
        let (ear, over) = (Arc::clone(&told), Arc::clone(&ended));
        let thread = thread::spawn(move || {
            let Some(mut link) = accept(&listener, &over)? else { return Ok(()) };
            link.set_nonblocking(false)?;
            link.write_all(orders.as_bytes())?;
            let mut reader = BufReader::new(link);
            let mut line = String::new();
            // A machine that is cut off may leave half a line, which says nothing.
            while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 0) && line.ends_with('\n') {
                lock(&ear).hear(line.trim_end());
                line.clear();
            }
            Ok(())
        });
        Ok(Self { told, ended, thread })
    }

    /// All that the machine has told; it is no more.
    fn finish(self) -> std::io::Result<Told> {
        // ORDERING: a flag that guards nothing.
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| Err(ErrorKind::Other.into()))?;
        let mut told = lock(&self.told);
        Ok(std::mem::take(&mut told))
    }
}

fn accept(listener: &TcpListener, ended: &AtomicBool) -> std::io::Result<Option<TcpStream>> {
    // ORDERING: as in `finish`.
    while !ended.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((link, _)) => return Ok(Some(link)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(STEP),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Sums over all machines.
#[derive(Debug, Default)]
struct Sums {
    cuts: u64,
    acknowledged: u64,
    synced_files: u64,
    mismatches: u64,
    failures: u64,
}

impl Sums {
    fn into_result(self, seed: u64, took: Duration) -> Result {
        let figures = [
            ("count", self.cuts),
            ("acknowledged_writes", self.acknowledged),
            ("synced_files", self.synced_files),
            ("mismatches", self.mismatches),
            ("failures", self.failures),
            ("seed", seed),
            ("seconds", took.as_secs()),
        ];
        let figures = figures.map(|(name, number)| (name.to_owned(), number.into()));
        let passed = self.mismatches == 0 && self.failures == 0;
        Result { passed, figures: figures.into_iter().collect() }
    }
}

/// Runs the campaign.
///
/// # Errors
/// When the server or a VM cannot be started.
pub fn run(run: &Run) -> std::result::Result<Result, Error> {
    let cuts = run.rounds.unwrap_or(if run.short { SHORT } else { FULL });
    println!("{NAME}: again alone: make test-faults FAULTS={NAME} SEED={} ROUNDS={cuts}", run.seed);
    let began = Instant::now();
    let server = Server::start(&run.results.join(format!("{NAME}.data")))?;
    let listener = TcpListener::bind("127.0.0.1:0").map_err(host("listening"))?;
    let mut random = Random::from_seed(run.seed);
    let (mut sums, mut files) = (Sums::default(), Vec::new());
    // One machine more than cuts: the last one only recovers.
    for cut in 1..=cuts.saturating_add(1) {
        let load = cut <= cuts;
        let moment = random.pause(LOAD_MS.0, LOAD_MS.1);
        let mut orders = format!("cut {cut}\n");
        for file in &files {
            orders.push_str(&format!("file {}\n", Synced::to_line(file)));
        }
        orders.push_str(if load { "go\n" } else { "end\n" });
        let told = machine(run, &server, &listener, orders, load.then_some(moment))?;
        if let Some(text) = &told.failed {
            println!("{NAME}: machine {cut}: {text}");
            // Both count: a mismatch keeps the machine from its work.
            sums.mismatches += u64::from(text.contains("mismatch"));
            sums.failures += 1;
            break;
        }
        sums.synced_files += files.len() as u64;
        files = told.files;
        if load {
            sums.cuts += 1;
            sums.acknowledged += told.raw.iter().sum::<u64>();
            let lost = count_lost(&server.volume(RAW), cut, &told.raw)?;
            sums.mismatches += lost;
            println!("{NAME}: cut {cut} after {moment:?}: {:?}, {lost} lost", told.raw);
        }
    }
    println!("{NAME}: {sums:?}");
    Ok(sums.into_result(run.seed, began.elapsed()))
}

/// Lets a machine live: until its power is cut, or to its own end without load.
fn machine(
    run: &Run,
    server: &Server,
    listener: &TcpListener,
    orders: String,
    moment: Option<Duration>,
) -> std::result::Result<Told, Error> {
    let link = Link::start(listener, orders).map_err(host("listening"))?;
    let driver = listener.local_addr().map_err(host("the driver's port"))?.port();
    let (volumes, driver) = (server.port().to_string(), driver.to_string());
    let mut options = run.options(NAME, &["srb-guest-tests", WORD, &volumes, &driver]);
    options.network = true;
    options.disk_bytes = None;
    options.timeout = Some(LIFE);
    let told = Arc::clone(&link.told);
    let outcome =
        vm::run_until(&options, &|| moment.is_some_and(|moment| lock(&told).is_due(moment)));
    let mut told = link.finish().map_err(host("listening to the machine"))?;
    let problem = match outcome {
        Ok(None) => None,
        Ok(Some(0)) if moment.is_none() => None,
        Ok(Some(status)) => Some(format!("it ended with status {status}")),
        Err(why @ Error::Guest(..)) => Some(why.to_string()),
        Err(why) => return Err(why),
    };
    let silent = (!told.recovered).then(|| "it has not recovered".to_owned());
    told.failed = told.failed.take().or(problem).or(silent);
    Ok(told)
}

/// How many acknowledged direct writes the volume's file does not have.
fn count_lost(
    file: &Path,
    cut: u64,
    raw: &[u64; WRITERS as usize],
) -> std::result::Result<u64, Error> {
    let failed = || host(format!("reading {}", file.display()));
    let volume = File::open(file).map_err(failed())?;
    let mut block = vec![0; BLOCK_BYTES];
    let mut lost = 0;
    for (last, writer) in raw.iter().zip(0..) {
        for sequence in last.saturating_sub(BLOCKS - 1).max(1)..=*last {
            volume.read_exact_at(&mut block, raw_offset(writer, sequence)).map_err(failed())?;
            if !holds(&block, cut, writer, sequence) {
                println!("{NAME}: write {sequence} of writer {writer} is not there");
                lost += 1;
            }
        }
    }
    Ok(lost)
}

/// Whether a block holds this write, or a later one to the same place: what was acknowledged last
/// may not have reached the driver, and the one after it may have been under way.
fn holds(block: &[u8], cut: u64, writer: u64, sequence: u64) -> bool {
    let least = raw_word(cut, writer, sequence);
    block.chunks_exact(8).all(|bytes| {
        let word = bytes.try_into().map_or(0, u64::from_ne_bytes);
        let later = word.wrapping_sub(least);
        word >= least && later % BLOCKS == 0 && later < 1 << 32
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(word: u64) -> Vec<u8> {
        word.to_ne_bytes().repeat(BLOCK_BYTES / 8)
    }

    #[test]
    fn a_block_holds_its_write_or_a_later_one() {
        assert!(holds(&block(raw_word(3, 1, 7)), 3, 1, 7));
        assert!(holds(&block(raw_word(3, 1, 7 + BLOCKS)), 3, 1, 7));
        for other in [raw_word(3, 1, 8), raw_word(2, 1, 7), raw_word(3, 0, 7), 0] {
            assert!(!holds(&block(other), 3, 1, 7), "{other:#x}");
        }
        let mut torn = block(raw_word(3, 1, 7));
        torn[BLOCK_BYTES - 8..].fill(0);
        assert!(!holds(&torn, 3, 1, 7));
        assert!(!holds(&block(raw_word(3, 1, 7)), 3, 1, 7 + BLOCKS), "an earlier one");
    }

    #[test]
    fn what_a_machine_tells_is_kept() {
        let mut told = Told::default();
        for line in ["recovered", "raw 0 5", "raw 1 2", "file ext4 c1-0 7 9", "file xfs c1-0 7 9"] {
            told.hear(line);
        }
        assert!(told.recovered && told.is_loaded() && told.is_due(Duration::ZERO));
        assert_eq!(told.raw, [5, 2]);
        told.hear("gone xfs c1-0");
        assert!(!told.is_loaded());
        assert_eq!(told.files.len(), 1);
        told.hear("nonsense");
        assert!(told.failed.is_some());
    }
}
