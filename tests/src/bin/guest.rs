// SPDX-License-Identifier: GPL-2.0-only
//! `srb-guest-tests`: the tests that run inside the VM, as root; `cargo test`'s options select
//! among them.

use std::path::Path;
use std::process::ExitCode;

use srb_tests::boots::steps;
use srb_tests::guest::{cases, cut, memory, suite};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Alone, such a word is as good as any to select tests by.
    match arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        Some((cases::hostile_program::WORD, rest @ [_, ..])) => {
            return cases::hostile_program::main(rest);
        }
        Some((steps::WORD, rest @ [_, ..])) => return steps::main(rest),
        Some((cut::WORD, rest @ [_, ..])) => return cut::main(rest),
        Some((memory::WORD, rest @ [_, ..])) => return memory::main(rest),
        _ => {}
    }
    let lists = std::env::args().any(|argument| argument == "--list");
    if !lists && !Path::new("/srb/srb.ko").exists() {
        eprintln!("srb-guest-tests: these load a module: run them in the VM (scripts/vm-tests.sh)");
        return ExitCode::FAILURE;
    }
    suite::run(cases::all()).exit_code()
}
