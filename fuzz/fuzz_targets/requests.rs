// SPDX-License-Identifier: GPL-2.0-only
//! See `checks::requests`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/playground.rs"]
#[expect(dead_code, reason = "each target runs one of the checks")]
mod checks;

#[path = "../checks/pipes.rs"]
mod pipes;

fuzz_target!(init: pipes::ignore_sigpipe(), |data: &[u8]| checks::requests(data));
