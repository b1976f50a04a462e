// SPDX-License-Identifier: GPL-2.0-only
//! The tests themselves, a file for each thing that users rely on.

pub mod faults;
mod frame;
mod io;
mod lost;
mod manual;
mod no_memory;
mod stack;

pub use io::hostile_program;

use super::Case;

/// All tests.
#[must_use]
pub fn all() -> Vec<Case> {
    let groups = [
        frame::cases(),
        io::cases(),
        manual::cases(),
        stack::cases(),
        faults::cases(),
        lost::cases(),
        no_memory::cases(),
    ];
    groups.into_iter().flatten().collect()
}
