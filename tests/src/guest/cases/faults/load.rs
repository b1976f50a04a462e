// SPDX-License-Identifier: GPL-2.0-only
//! Load that goes on while faults happen, verifies what it wrote, and counts what it sees.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::fcntl::{posix_fadvise, PosixFadviseAdvice};
use nix::unistd::syncfs;

use crate::guest::cases::io::{in_flight, join, verified};
use crate::guest::fio::Fio;
use crate::guest::machine::message;
use crate::guest::random::Random;
use crate::guest::wait::wait_for;
use crate::guest::{Device, TestResult};

/// How long one pass of fio may take, pauses of the faults included.
const PASS: Duration = Duration::from_secs(240);
/// How long no request may be under way while there is load.
const BUSY: Duration = Duration::from_secs(30);
/// Sizes of direct writes: all that there are.
pub(super) const ALL_SIZES: &str = "512/20:4k/50:64k/20:1M/10";
/// Small ones, of which there are many in a short time.
pub(super) const SMALL_SIZES: &str = "512/20:4k/70:16k/10";
/// Files that a pass over a filesystem writes.
const FILES: u64 = 16;
/// The largest of them, in bytes.
const LARGEST: u64 = 192 * 1024;

/// What all load of a campaign saw.
// ORDERING: all are numbers that guard nothing, read when their writers have ended.
#[derive(Debug, Default)]
pub(in crate::guest::cases) struct Counts {
    io_errors: AtomicU64,
    mismatches: AtomicU64,
    passes: AtomicU64,
}

impl Counts {
    /// Requests and calls that failed.
    pub(in crate::guest::cases) fn io_errors(&self) -> u64 {
        self.io_errors.load(Ordering::Relaxed)
    }

    /// Data that were not what had been written.
    pub(in crate::guest::cases) fn mismatches(&self) -> u64 {
        self.mismatches.load(Ordering::Relaxed)
    }

    /// How often something was written and verified.
    pub(in crate::guest::cases) fn passes(&self) -> u64 {
        self.passes.load(Ordering::Relaxed)
    }

    fn note(&self, what: &str, outcome: Result<(), Trouble>) -> bool {
        let (counter, text) = match &outcome {
            Ok(()) => (&self.passes, None),
            Err(Trouble::Io(text)) => (&self.io_errors, Some(text)),
            Err(Trouble::Mismatch(text)) => (&self.mismatches, Some(text)),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some(text) = text {
            println!("{what}: {text}");
        }
        outcome.is_ok()
    }
}

/// Why a pass went wrong.
#[derive(Debug)]
enum Trouble {
    Io(String),
    Mismatch(String),
}

impl Trouble {
    fn of(what: &Path) -> impl Fn(io::Error) -> Self + '_ {
        move |error| Self::Io(format!("{}: {error}", what.display()))
    }
}

/// Load in a thread of its own, pass after pass, until it is told to finish or sees trouble.
pub(in crate::guest::cases) struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<TestResult>,
}

impl Load {
    fn start(
        what: String,
        counts: &Arc<Counts>,
        mut pass: impl FnMut() -> Result<(), Trouble> + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, counts) = (Arc::clone(&stop), Arc::clone(counts));
        let thread = thread::spawn(move || {
            // ORDERING: a flag that guards nothing.
            while !told.load(Ordering::Relaxed) && counts.note(&what, pass()) {}
            Ok(())
        });
        Self { stop, thread }
    }

    /// Verified direct writes to a device, to its first 64 MiB; `sizes` is fio's `bssplit`.
    pub(super) fn direct(path: PathBuf, sizes: &'static str, counts: &Arc<Counts>) -> Self {
        let what = path.display().to_string();
        Self::start(what, counts, move || {
            let job = verified(&path, "randwrite", "4k").option("bssplit", sizes);
            fio(&job.option("size", "64M").option("io_size", "4M"))
        })
    }

    /// Files in a folder of a mounted device: written, renamed, synced, and read back from the
    /// device.
    pub(in crate::guest::cases) fn files(
        folder: &Path,
        mut random: Random,
        counts: &Arc<Counts>,
    ) -> Self {
        let folder = folder.join("load");
        Self::start(folder.display().to_string(), counts, move || files(&folder, &mut random))
    }

    /// Whether it goes on, so that faults hit something.
    pub(super) fn is_going(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Lets it end its pass.
    pub(in crate::guest::cases) fn finish(self) -> TestResult {
        // ORDERING: as in `start`.
        self.stop.store(true, Ordering::Relaxed);
        join(self.thread)
    }
}

/// A job whose trouble is told apart.
fn fio(job: &Fio) -> Result<(), Trouble> {
    let report = job.run(PASS).map_err(|why| {
        let text = message(&why);
        if is_mismatch(&text) {
            Trouble::Mismatch(text)
        } else {
            Trouble::Io(text)
        }
    })?;
    match report.errors {
        0 => Ok(()),
        count => Err(Trouble::Io(format!("fio: {count} errors"))),
    }
}

/// Waits until requests are under way at one of the devices, as long as any load goes on.
pub(super) fn wait_until_busy(devices: &[&Device], loads: &[&Load]) -> TestResult {
    wait_for("requests are under way", BUSY, || {
        if !loads.iter().any(|load| load.is_going()) {
            return Err("all load has ended".into());
        }
        for device in devices {
            if in_flight(device)? > 0 {
                return Ok(Some(()));
            }
        }
        Ok(None)
    })
}

/// Whether fio ended because of what it read, which it reports as EILSEQ.
fn is_mismatch(text: &str) -> bool {
    text.contains("verify: bad") || text.contains("verify failed") || text.contains("multibyte")
}

/// One pass over a folder.
fn files(folder: &Path, random: &mut Random) -> Result<(), Trouble> {
    let failed = Trouble::of(folder);
    fs::create_dir_all(folder).map_err(&failed)?;
    let mut written = Vec::new();
    for number in 0..FILES {
        let len = 1 + random.below(LARGEST) as usize;
        let content = random.bytes(len);
        let path = folder.join(format!("new{number}"));
        fs::write(&path, &content).map_err(&failed)?;
        if random.one_in(4) {
            File::open(&path).and_then(|file| file.sync_all()).map_err(&failed)?;
        }
        // Over the file of an earlier pass, if there is one.
        let place = folder.join(format!("file{}", random.below(FILES)));
        fs::rename(&path, &place).map_err(&failed)?;
        written.retain(|(path, _)| *path != place);
        written.push((place, content));
    }
    let root = File::open(folder).map_err(&failed)?;
    syncfs(&root).map_err(|errno| Trouble::Io(format!("syncfs: {errno}")))?;
    for (path, content) in &written {
        let file = File::open(path).map_err(&failed)?;
        // What is clean and cached is forgotten: the next read goes to the device.
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
            .map_err(|errno| Trouble::Io(format!("fadvise: {errno}")))?;
        let read = fs::read(path).map_err(Trouble::of(path))?;
        if read != *content {
            return Err(Trouble::Mismatch(format!("{}: other data", path.display())));
        }
        if random.one_in(3) {
            fs::remove_file(path).map_err(&failed)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fio_read_wrong_is_a_mismatch_and_the_rest_is_not() {
        assert!(is_mismatch("fio: verify: bad header rand_seed 1, wanted 2"));
        assert!(is_mismatch("Invalid or incomplete multibyte or wide character"));
        assert!(!is_mismatch("fio: io_u error on file /dev/disk1: Input/output error"));
    }

    #[test]
    fn a_pass_over_files_verifies_them_and_a_folder_that_is_none_is_an_error() {
        let folder = std::env::temp_dir().join(format!("srb-load-{}", std::process::id()));
        let mut random = Random::from_seed(1);
        files(&folder, &mut random).unwrap();
        files(&folder, &mut random).unwrap();
        let counts = Counts::default();
        assert!(!counts.note("x", files(Path::new("/dev/null/x"), &mut random)));
        assert_eq!((counts.io_errors(), counts.mismatches(), counts.passes()), (1, 0, 0));
        fs::remove_dir_all(&folder).unwrap();
    }
}
