// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The checks of the fuzz targets, on their seeds and on random bytes: they run where no fuzzer is.
#![cfg(not(loom))]

use proptest::prelude::*;

#[path = "../../fuzz/checks/proto.rs"]
mod checks;
#[path = "../../fuzz/checks/seeds.rs"]
mod seeds;

use seeds::on_seeds;

const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn on_their_seeds() {
    on_seeds(PACKAGE, "commands", checks::commands);
    on_seeds(PACKAGE, "entries", checks::entries);
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
