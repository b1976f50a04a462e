// SPDX-License-Identifier: GPL-2.0-only
//! The checks of the fuzz targets about the agent, on their seeds and on random bytes: they run
//! where no fuzzer is.

use proptest::prelude::*;

#[path = "../../fuzz/checks/agent.rs"]
mod checks;
#[path = "../../fuzz/checks/seeds.rs"]
mod seeds;

use seeds::on_seeds;

const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn on_their_seeds() {
    on_seeds(PACKAGE, "answers", checks::answers);
    on_seeds(PACKAGE, "configuration", checks::configuration);
}

proptest! {
    #[test]
    fn any_answer(bytes: Vec<u8>) {
        checks::answers(&bytes);
    }

    #[test]
    fn almost_an_answer(
        kind in 0u8..4,
        status in prop::sample::select(vec![200, 201, 204, 206, 301, 404, 416, 429, 503]),
        range in "(bytes [0-9]{1,5}-[0-9]{1,5}/[0-9*]{1,6})?",
        length in 0usize..200,
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\ncontent-range: {range}\r\n\r\n"
        );
        checks::answers(&[&[kind], head.as_bytes(), &body].concat());
    }

    /// Framing that is right, wrong, or both at once.
    #[test]
    fn almost_a_body(
        kind in 0u8..4,
        version in 0u8..2,
        headers in proptest::collection::vec(prop::sample::select(vec![
            "content-length: 64",
            "content-length: 65",
            "transfer-encoding: chunked",
            "transfer-encoding: gzip, chunked",
            "connection: close",
            "connection: keep-alive",
            " folded",
            "retry-after: 1",
        ]), 0..4),
        informational in 0usize..3,
        chunks in proptest::collection::vec((0usize..70, 0usize..70, ";?[ -~]{0,4}"), 0..4),
        end in "(0\r\n)?(x: y\r\n)?(\r\n)?[ -~]{0,3}",
    ) {
        let mut text = "HTTP/1.1 100 Continue\r\n\r\n".repeat(informational);
        text += &format!("HTTP/1.{version} 206 X\r\n");
        headers.iter().for_each(|header| text += &format!("{header}\r\n"));
        text += "\r\n";
        for (said, sent, extension) in chunks {
            text += &format!("{said:x}{extension}\r\n{}\r\n", "d".repeat(sent));
        }
        checks::answers(&[&[kind], text.as_bytes(), end.as_bytes()].concat());
    }

    #[test]
    fn almost_configuration(text in "([a-z_]{3,12} ?= ?['\"]?[a-z0-9/-]{0,9}['\"]?\n){0,4}") {
        checks::configuration(text.as_bytes());
    }
}
