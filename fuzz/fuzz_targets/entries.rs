// SPDX-License-Identifier: GPL-2.0-only
//! See `checks::entries`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/proto.rs"]
#[expect(dead_code, reason = "each target runs one of the checks")]
mod checks;

fuzz_target!(|data: &[u8]| checks::entries(data));
