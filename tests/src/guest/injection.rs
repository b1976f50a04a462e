// SPDX-License-Identifier: GPL-2.0-only
//! Makes the kernel fail one allocation of a system call, the first, the second, and so on:
//! Documentation/fault-injection of the kernel's source.
//!
//! A thread asks for the failure of its n-th allocation by `fail-nth`. Which of its allocations
//! count is decided by what stands on the stack: a range of the kernel's text, here the module's
//! or that of a function which calls it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{Failed, TestResult};

const DEBUGFS: &str = "/sys/kernel/debug";
const KALLSYMS: &str = "/proc/kallsyms";
/// The function of kmemleak that allocates its notes: the one of these that is not inlined.
const NOTES: [&str; 3] = ["__alloc_object", "__create_object", "create_object"];
/// How often each allocation is failed. An attempt may leave room in a table that the next one need
/// not ask for, and then another allocation has its number.
const TIMES: u32 = 2;
/// No operation of the module has so many allocations.
const MOST: u32 = 5000;

/// A range of the kernel's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text {
    start: u64,
    end: u64,
}

/// Why this kernel cannot fail an allocation, if it cannot.
#[must_use]
pub fn missing() -> Option<String> {
    let needed = Path::new(DEBUGFS).join("failslab/require-start");
    let reason = "the kernel cannot fail allocations (FAILSLAB with a stack filter)";
    (!needed.exists()).then(|| reason.to_owned())
}

impl Text {
    /// The loaded module's.
    ///
    /// # Errors
    /// When it is not loaded.
    pub fn of_the_module() -> TestResult<Self> {
        let symbols = fs::read_to_string(KALLSYMS)?;
        let own = symbols.lines().filter(|line| line.ends_with("[srb]")).filter_map(text_symbol);
        let addresses: Vec<u64> = own.map(|(address, _)| address).collect();
        let (first, last) = (addresses.iter().min(), addresses.iter().max());
        let (start, last) = first.copied().zip(last.copied()).ok_or("the module has no symbols")?;
        // The last function is no longer than a page.
        Ok(Self { start, end: last.saturating_add(4096) })
    }

    /// That of one of the kernel's functions.
    ///
    /// # Errors
    /// When there is no such function.
    pub fn of_function(name: &str) -> TestResult<Self> {
        let symbols = fs::read_to_string(KALLSYMS)?;
        let symbols: Vec<(u64, &str)> = symbols.lines().filter_map(text_symbol).collect();
        let found = symbols.iter().find(|(_, other)| *other == name);
        let &(start, _) = found.ok_or_else(|| format!("{KALLSYMS} has no {name}"))?;
        let behind = symbols.iter().map(|(address, _)| *address).filter(|next| *next > start);
        Ok(Self { start, end: behind.min().ok_or("nothing follows")? })
    }

    /// Lets only those allocations fail that are made below this text: of slabs, of pages, and
    /// whatever else the kernel can fail. What kmemleak notes about them is its own affair.
    ///
    /// # Errors
    /// When the kernel's files do not take it.
    pub fn select(self) -> TestResult {
        let notes = NOTES.iter().find_map(|name| Self::of_function(name).ok());
        let notes = notes.unwrap_or(Self { start: 0, end: 0 });
        for folder in attributes()? {
            let set = |file: &str, value: &str| -> TestResult {
                let path = folder.join(file);
                // Only what finds memory has the last ones.
                if path.exists() {
                    fs::write(&path, value).map_err(|why| format!("{}: {why}", path.display()))?;
                }
                Ok(())
            };
            set("stacktrace-depth", "32")?;
            set("require-start", &format!("{:#x}", self.start))?;
            set("require-end", &format!("{:#x}", self.end))?;
            set("reject-start", &format!("{:#x}", notes.start))?;
            set("reject-end", &format!("{:#x}", notes.end))?;
            // Otherwise it logs each, with its stack.
            set("verbose", "0")?;
            set("ignore-gfp-wait", "N")?;
            set("ignore-gfp-highmem", "N")?;
            set("min-order", "0")?;
        }
        Ok(())
    }
}

/// The address and the name of a line of kallsyms, if it is a function.
fn text_symbol(line: &str) -> Option<(u64, &str)> {
    let mut words = line.split_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    matches!(words.next()?, "t" | "T").then_some(())?;
    Some((address, words.next()?))
}

/// The folders of everything that can be made to fail.
fn attributes() -> TestResult<Vec<PathBuf>> {
    let folders = fs::read_dir(DEBUGFS)?.flatten().map(|entry| entry.path());
    Ok(folders.filter(|folder| folder.join("require-start").exists()).collect())
}

/// The failure of the n-th allocation of a system call.
#[derive(Debug)]
pub struct Nth {
    number: u32,
    was_hit: bool,
}

impl Nth {
    /// Which one fails, from 1.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Calls `f`, whose n-th allocation in this thread fails.
    ///
    /// # Errors
    /// When the kernel does not take the number.
    pub fn during<T>(&mut self, f: impl FnOnce() -> T) -> TestResult<T> {
        let file = File::options().read(true).write(true).open("/proc/thread-self/fail-nth")?;
        file.write_at(self.number.to_string().as_bytes(), 0)?;
        let outcome = f();
        let mut left = [0; 16];
        let bytes = file.read_at(&mut left, 0)?;
        file.write_at(b"0", 0)?;
        let left = String::from_utf8_lossy(left.get(..bytes).unwrap_or_default()).into_owned();
        self.was_hit |= left.trim() == "0";
        Ok(outcome)
    }
}

/// Calls `attempt` with the failure of the first allocation, of the second, and so on, until none
/// was left to fail. Returns how many there were.
///
/// # Errors
/// The attempt's own, with the number; or when there is no end.
pub fn each_allocation(mut attempt: impl FnMut(&mut Nth) -> TestResult) -> TestResult<u32> {
    for number in 1..=MOST {
        let mut was_hit = false;
        for _ in 0..TIMES {
            let mut nth = Nth { number, was_hit: false };
            attempt(&mut nth).map_err(|why| {
                let text = super::machine::message(&why);
                Failed::from(format!("when allocation {number} fails: {text}"))
            })?;
            was_hit |= nth.was_hit;
        }
        if !was_hit {
            return Ok(number - 1);
        }
    }
    Err(format!("more than {MOST} allocations").into())
}

#[cfg(test)]
mod tests {
    use super::text_symbol;

    #[test]
    fn functions_are_told_from_data() {
        let line = "ffffffffc0201000 t _RNv3srb4name\t[srb]";
        assert_eq!(text_symbol(line), Some((0xffff_ffff_c020_1000, "_RNv3srb4name")));
        assert_eq!(text_symbol("ffffffff81000000 T _text"), Some((0xffff_ffff_8100_0000, "_text")));
        assert_eq!(text_symbol("ffffffff81000000 D data"), None);
        assert_eq!(text_symbol(""), None);
    }
}
