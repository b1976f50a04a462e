// SPDX-License-Identifier: GPL-2.0-only
//! The checks of the fuzz targets about the playground, on their seeds and on random bytes: they
//! run where no fuzzer is.

use proptest::prelude::*;

#[path = "../../fuzz/checks/playground.rs"]
mod checks;
#[path = "../../fuzz/checks/seeds.rs"]
mod seeds;

use seeds::on_seeds;

/// What a client may say of a request.
const HEADERS: &str =
    "((range|content-range|x-scal-truncate|content-length): ?[a-z0-9 =/-]{0,14}\r\n){0,3}";
const PLANS: &str = "(seed=[0-9]{1,4} )?\
    ((read|write|any|all):[0-9.]{1,4}%:[a-z-]{2,12}(=[0-9.]{1,8})? ?){0,3}";
const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn on_their_seeds() {
    on_seeds(PACKAGE, "requests", checks::requests);
    on_seeds(PACKAGE, "plans", checks::plans);
}

proptest! {
    #[test]
    fn any_request(bytes: Vec<u8>) {
        checks::requests(&bytes);
    }

    #[test]
    fn almost_a_request(
        line in "(GET|PUT|DELETE|POST|HEAD) /[a-z/.%0-9?]{0,12} HTTP/1.[01]",
        headers in HEADERS,
        body in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let head = format!("{line}\r\nhost: x\r\n{headers}\r\n");
        checks::requests(&[head.as_bytes(), &body].concat());
    }

    #[test]
    fn almost_a_plan(text in PLANS) {
        checks::plans(text.as_bytes());
    }
}
