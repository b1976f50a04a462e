// SPDX-License-Identifier: GPL-2.0-only
//! The kernel's search for memory that nobody points to any more.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use super::TestResult;

const FILE: &str = "/sys/kernel/debug/kmemleak";
/// Younger memory is not reported; and what is found must be found again.
const AGE: Duration = Duration::from_secs(6);
/// What is shown of each kind of leak.
const SHOWN_BYTES: usize = 6000;

/// Why this kernel does not look for leaks, if it does not.
#[must_use]
pub fn missing() -> Option<String> {
    let reason = "the kernel does not look for leaks (DEBUG_KMEMLEAK)";
    (!Path::new(FILE).exists()).then(|| reason.to_owned())
}

/// Why figures of memory in use say nothing on this kernel, if they do not.
#[must_use]
pub fn keeps_memory() -> Option<String> {
    let reason = "the kernel keeps freed memory for a while, and notes on each allocation: \
                  kmemleak looks for leaks there";
    Path::new(FILE).exists().then(|| reason.to_owned())
}

/// Forgets what was found so far.
///
/// # Errors
/// When the kernel does not look for leaks.
pub fn clear() -> TestResult {
    Ok(fs::write(FILE, "clear")?)
}

/// Looks for leaks of all that was allocated since the last [`clear`]; takes some seconds.
///
/// # Errors
/// When there are any, with what the kernel says of them.
pub fn expect_none() -> TestResult {
    // The second look finds what was too young for the first.
    for _ in 0..2 {
        sleep(AGE);
        fs::write(FILE, "scan")?;
    }
    let found = fs::read_to_string(FILE)?;
    let count = found.matches("unreferenced object").count();
    if count > 0 {
        let shown: String = found.chars().take(SHOWN_BYTES).collect();
        return Err(format!("{count} pieces of memory are lost:\n{shown}").into());
    }
    Ok(())
}
