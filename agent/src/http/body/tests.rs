// SPDX-License-Identifier: GPL-2.0-only
//! Bodies of each kind, in pieces of every size, and what is no body.

use super::*;
use proptest::prelude::*;

/// What comes of a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outcome {
    data: Vec<u8>,
    /// Bytes that were taken.
    taken: usize,
    over: bool,
    refused: bool,
}

/// Takes a body from bytes that come in pieces of these sizes, the last one as often as needed.
fn take(mut body: Body, bytes: &[u8], sizes: &[usize]) -> Outcome {
    let (mut outcome, mut come) = (Outcome::default(), 0);
    let mut sizes = sizes.iter().chain(std::iter::repeat(sizes.last().expect("a size")));
    loop {
        let before = body;
        match body.step(&bytes[outcome.taken..come]) {
            Ok(Step::Data(count)) => {
                assert!(count > 0 && count <= come - outcome.taken);
                outcome.data.extend(&bytes[outcome.taken..][..count]);
                outcome.taken += count;
            }
            Ok(Step::Framing(count)) => {
                assert!(count > 0 && count <= come - outcome.taken);
                outcome.taken += count;
            }
            Ok(Step::More) => {
                assert_eq!(body, before);
                assert!(come - outcome.taken < MAX_FRAMING_BYTES, "it never needs more at a time");
                if come == bytes.len() {
                    return outcome;
                }
                come = (come + sizes.next().expect("endless")).min(bytes.len());
            }
            Ok(Step::Over) => {
                outcome.over = true;
                return outcome;
            }
            Err(_) => {
                outcome.refused = true;
                return outcome;
            }
        }
    }
}

fn whole(body: Body, text: &str) -> Outcome {
    take(body, text.as_bytes(), &[text.len().max(1)])
}

#[test]
fn a_length_is_a_length() {
    let outcome = whole(Body::of_length(3), "abcd");
    assert_eq!((&*outcome.data, outcome.over), (&b"abc"[..], true));
    assert!(whole(Body::of_length(0), "x").over);
    assert!(!whole(Body::of_length(3), "ab").over);
    assert_eq!(Body::of_length(3).announced(), Some(3));
}

#[test]
fn the_end_of_the_connection_is_an_end() {
    let outcome = whole(Body::until_close(), "abc");
    assert_eq!((&*outcome.data, outcome.over), (&b"abc"[..], false));
    assert!(Body::until_close().ends_with_connection());
    assert!(!Body::chunked().ends_with_connection() && !Body::of_length(0).ends_with_connection());
}

#[test]
fn chunks_in_every_notation() {
    for (text, data) in [
        ("0\r\n\r\n", ""),
        ("3\r\nabc\r\n0\r\n\r\n", "abc"),
        ("003\r\nabc\r\n00\r\n\r\n", "abc"),
        ("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789"),
        ("3;x=y\r\nabc\r\n0;z\r\n\r\n", "abc"),
        ("3 \r\nabc\r\n0\r\n\r\n", "abc"),
        ("1\r\n\r\r\n1\r\n\n\r\n0\r\n\r\n", "\r\n"),
        ("3\r\nabc\r\n0\r\nx: y\r\ncontent-length: 5\r\n\r\n", "abc"),
    ] {
        for size in 1..=text.len() {
            let outcome = take(Body::chunked(), text.as_bytes(), &[size]);
            let right = Outcome {
                data: data.as_bytes().to_vec(),
                taken: text.len(),
                over: true,
                refused: false,
            };
            assert_eq!(outcome, right, "{text:?} by {size}");
        }
    }
}

#[test]
fn what_is_no_chunk_is_refused() {
    for text in [
        "\r\n",
        "\r\n\r\n",
        "x\r\n",
        "-1\r\n",
        "+3\r\nabc\r\n",
        "0x3\r\nabc\r\n",
        " 3\r\nabc\r\n",
        "3 3\r\nabc\r\n",
        "3\nabc\n",
        "3\rabc",
        "3;a\nb\r\nabc\r\n",
        "3;\n\r\nabc\r\n",
        "10000000000000000\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabc\rx",
        "0\r\nno colon\r\n\r\n",
        "0\r\n x: y\r\n\r\n",
        "0\r\n: y\r\n\r\n",
    ] {
        for size in 1..=text.len() {
            let outcome = take(Body::chunked(), text.as_bytes(), &[size]);
            assert!(outcome.refused && !outcome.over, "{text:?} by {size}: {outcome:?}");
        }
    }
}

#[test]
fn what_is_between_data_is_bounded() {
    let extension = |len: usize| format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(len));
    assert!(whole(Body::chunked(), &extension(MAX_FRAMING_BYTES - 4)).over);
    let trailer = |len: usize| format!("0\r\nx: {}\r\n\r\n", "t".repeat(len));
    assert!(whole(Body::chunked(), &trailer(MAX_FRAMING_BYTES - 7)).over);
    let many = |count: usize| format!("0\r\n{}\r\n", "x: y\r\n".repeat(count));
    assert!(whole(Body::chunked(), &many(MAX_TRAILERS)).over);
    for text in [
        extension(MAX_FRAMING_BYTES - 3),
        extension(1 << 20),
        trailer(MAX_FRAMING_BYTES - 6),
        trailer(1 << 20),
        many(MAX_TRAILERS + 1),
    ] {
        for size in [1, 100, text.len()] {
            let outcome = take(Body::chunked(), text.as_bytes(), &[size]);
            assert!(outcome.refused, "{} by {size}", text.len());
        }
    }
}

#[test]
fn data_may_be_taken_past_it() {
    let mut body = Body::chunked();
    assert_eq!((body.certain_data(), body.step(b"5\r\n")), (0, Ok(Step::Framing(3))));
    assert_eq!(body.certain_data(), 5);
    body.took(2);
    assert_eq!(body.step(b"cd"), Ok(Step::Data(2)));
    body.took(1);
    assert_eq!(body.certain_data(), 0);
    assert_eq!(body.step(b"\r\n"), Ok(Step::Framing(2)));
    let mut body = Body::of_length(2);
    body.took(2);
    assert_eq!(body.step(b""), Ok(Step::Over));
}

#[test]
fn many_small_chunks_with_long_lines_are_refused() {
    let chunks = |count: usize, extension: usize| {
        let chunk = format!("1;{}\r\nx\r\n", "e".repeat(extension));
        chunk.repeat(count) + "0\r\n\r\n"
    };
    assert!(whole(Body::chunked(), &chunks(20_000, 4)).over, "sizes with a little beside them");
    assert!(whole(Body::chunked(), &chunks(16, 1000)).over);
    let outcome = whole(Body::chunked(), &chunks(1000, 1000));
    assert!(outcome.refused && outcome.taken < 20_000, "{}", outcome.taken);
}

fn kinds() -> impl Strategy<Value = Body> {
    prop_oneof![
        Just(Body::chunked()),
        Just(Body::until_close()),
        (0u64..200).prop_map(Body::of_length),
    ]
}

proptest! {
    /// Chunks of any sizes and texts, in pieces of any sizes.
    #[test]
    fn what_was_put_into_chunks_comes_out(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..9),
        extension in "(;[ -~]{0,9})?",
        trailers in "([a-z]{1,5}: [ -~]{0,9}\r\n){0,3}",
        sizes in proptest::collection::vec(1usize..30, 1..9),
        more: Vec<u8>,
    ) {
        let mut text = Vec::new();
        for chunk in &chunks {
            text.extend(format!("{:x}{extension}\r\n", chunk.len()).bytes());
            text.extend(chunk);
            text.extend(b"\r\n");
        }
        text.extend(format!("0{extension}\r\n{trailers}\r\n").bytes());
        let taken = text.len();
        text.extend(more);
        let outcome = take(Body::chunked(), &text, &sizes);
        let right = Outcome { data: chunks.concat(), taken, over: true, refused: false };
        prop_assert_eq!(outcome, right);
    }

    /// Whatever comes: the pieces it comes in change nothing, and nothing panics.
    #[test]
    fn pieces_change_nothing(
        body in kinds(),
        bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..120),
            "([0-9a-f]{1,2};?\r?\n[a-z]{0,20}\r?\n?){0,6}".prop_map(String::into_bytes),
        ],
        sizes in proptest::collection::vec(1usize..30, 1..9),
    ) {
        let pieces = take(body, &bytes, &sizes);
        let whole = take(body, &bytes, &[bytes.len().max(1)]);
        prop_assert_eq!(pieces, whole);
    }
}
