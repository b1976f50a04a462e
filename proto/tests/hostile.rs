// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The checks of the fuzz targets, on their seeds and on random bytes: they run where no fuzzer is.
#![cfg(not(loom))]

use proptest::prelude::*;
use std::path::Path;

#[path = "../fuzz/checks.rs"]
mod checks;

fn on_seeds(target: &str, check: fn(&[u8])) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let files: Vec<_> = std::fs::read_dir(seeds).expect("the target has seeds").collect();
    assert!(!files.is_empty());
    for file in files {
        let path = file.expect("a folder that can be read").path();
        check(&std::fs::read(&path).expect("a seed that can be read"));
    }
}

#[test]
fn seeds() {
    on_seeds("commands", checks::commands);
    on_seeds("entries", checks::entries);
}

proptest! {
    #[test]
    fn any_bytes(bytes: Vec<u8>) {
        checks::commands(&bytes);
    }

    #[test]
    fn almost_commands(text in "(http://|null:|[a-z]{1,4} )[a-z0-9.:/%\\[\\]k _-]{0,40}\n?") {
        checks::commands(text.as_bytes());
    }

    #[test]
    fn any_memory(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        checks::entries(&bytes);
    }
}
