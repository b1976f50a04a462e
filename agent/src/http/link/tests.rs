// SPDX-License-Identifier: GPL-2.0-only
//! A connection in memory, whose other end is in the test's hand.

mod beside_hyper;

use super::*;
use crate::base::window::Window;
use crate::http::target::Target;
use crate::paths::Request;
use crate::store::Operation;
use crate::store::Subject;
use futures_util::future::join;
use futures_util::FutureExt;
use proptest::prelude::*;
use std::future::Future;
use tokio::io::{duplex, AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::yield_now;

/// What a connection in memory holds in each direction.
const HELD: usize = 16 << 10;
const LEN: usize = 16;
const DATA: &[u8; LEN] = b"0123456789abcdef";

fn connection() -> (Link, DuplexStream) {
    let (near, far) = duplex(HELD);
    (Link::new(Stream::Memory(near)), far)
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(test)
}

/// A read of so many bytes; what comes of it, in words.
async fn read_of(link: &mut Link, len: usize) -> (Result<Vec<u8>, String>, Option<Rest>) {
    let (volume, window) = (Subject::new("v"), Window::from_vec(vec![0xee; len + 1]));
    let io = Io { offset: 0, window: &window, len };
    Operation::Read(&volume, io).write_head(&Target::default(), link.request_mut());
    let head = match link.ask(None).await {
        Ok(head) => head,
        Err(lost) => return (Err(format!("{lost:?}")), None),
    };
    let (mut body, mut sink) = (head.body, Sink::Window(&io, 0));
    let received = link.receive(&mut body, &mut sink).await;
    assert_eq!(window.to_vec(len + 1)[len], 0xee, "nothing beyond");
    let Sink::Window(_, at) = sink else { panic!("another sink") };
    match received {
        Ok(()) => (Ok(window.to_vec(at)), Some(link.finish(head.persists))),
        // How much of it was seen depends on the pieces.
        Err(Spoilt::TooLong(seen)) if seen > len as u64 => (Err("TooLong".to_owned()), None),
        Err(spoilt) => (Err(format!("{spoilt:?}")), None),
    }
}

async fn read(link: &mut Link) -> (Result<Vec<u8>, String>, Option<Rest>) {
    read_of(link, LEN).await
}

/// What a read comes to whose answer comes in pieces of these sizes, the last one as often as
/// needed, before the connection ends.
fn answered(bytes: &[u8], len: usize, sizes: &[usize]) -> (Result<Vec<u8>, String>, Option<Rest>) {
    run(async {
        let (mut link, mut far) = connection();
        let server = async {
            let last = sizes.last().expect("a size");
            let (mut bytes, mut sizes) = (bytes, sizes.iter().chain(std::iter::repeat(last)));
            while !bytes.is_empty() {
                let size = *sizes.next().expect("endless");
                let (piece, rest) = bytes.split_at(size.min(bytes.len()));
                if far.write_all(piece).await.is_err() {
                    break;
                }
                bytes = rest;
                yield_now().await;
            }
            drop(far);
        };
        // The link's end must not outlive the read, or a server that is full would wait for ever.
        let client = async {
            let outcome = read_of(&mut link, len).await;
            drop(link);
            outcome
        };
        join(client, server).await.0
    })
}

fn at_once(text: &str) -> (Result<Vec<u8>, String>, Option<Rest>) {
    answered(text.as_bytes(), LEN, &[text.len().max(1)])
}

const GOOD: &str = "HTTP/1.1 206 Partial Content\r\nContent-Length: 16\r\n\r\n0123456789abcdef";

#[test]
fn answers_of_each_kind() {
    let data = || Ok(DATA.to_vec());
    for (text, rest) in [
        (GOOD.to_owned(), Rest::Reusable),
        (format!("HTTP/1.1 100 Continue\r\n\r\n{GOOD}"), Rest::Reusable),
        (format!("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n{GOOD}"), Rest::Reusable),
        (GOOD.replace("1.1", "1.0"), Rest::Closed),
        (
            GOOD.replace("1.1", "1.0").replace("\n\r", "\nConnection: Keep-Alive\r\n\r"),
            Rest::Reusable,
        ),
        (GOOD.replace("\n\r", "\nConnection: close\r\n\r"), Rest::Closed),
        (GOOD.replace("Content-Length: 16", "x: y"), Rest::Closed),
        (format!("{GOOD}JUNK"), Rest::Junk),
        (format!("{GOOD}\r\n"), Rest::Junk),
    ] {
        for size in [text.len(), 1, 7] {
            // The junk may come too late to be seen.
            if size == text.len() || rest != Rest::Junk {
                let outcome = answered(text.as_bytes(), LEN, &[size]);
                assert_eq!(outcome, (data(), Some(rest)), "{text:?} by {size}");
            }
        }
    }
}

#[test]
fn what_is_no_answer() {
    for (text, kind) in [
        ("", "Unanswered"),
        ("H", "Broken"),
        ("HTTP/1.1 206 Partial Content\r\nx: ", "Broken"),
        ("HTTP/1.1 100 Continue\r\n\r\n", "Broken"),
        ("HTTP/1.1 206 Partial Content\r\ncontent-length: 16\r\n\r\n01234567", "Broken"),
        ("HTTP/1.1 206 Partial Content\r\ntransfer-encoding: chunked\r\n\r\n5\r\n012", "Broken"),
        (
            "HTTP/1.1 206 Partial Content\r\ntransfer-encoding: chunked\r\n\r\n5\r\n01234X",
            "Garbage",
        ),
        ("SSH-2.0-x\r\n", "Garbage"),
        ("HTTP/1.1 206 P\0", "Garbage"),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", "Garbage"),
        ("HTTP/1.1 206 X\r\ncontent-length: 17\r\n\r\n0123456789abcdefg", "TooLong"),
        ("HTTP/1.1 206 X\r\n\r\n0123456789abcdefg", "TooLong"),
    ] {
        for size in [text.len().max(1), 1, 5] {
            let (result, rest) = answered(text.as_bytes(), LEN, &[size]);
            let error = result.expect_err(text);
            assert!(error.contains(kind) && rest.is_none(), "{text:?} by {size}: {error}");
        }
    }
}

#[test]
fn informational_answers_without_end_are_refused() {
    let informational =
        |count: u32| "HTTP/1.1 102 Processing\r\n\r\n".repeat(count as usize) + GOOD;
    assert!(at_once(&informational(MAX_INFORMATIONAL)).0.is_ok());
    assert!(at_once(&informational(MAX_INFORMATIONAL + 1)).0.is_err());
}

#[test]
fn long_heads_have_a_bound_and_their_memory_is_given_back() {
    let with = |len: usize| {
        let mut text = GOOD.to_owned();
        text.insert_str(text.find("\r\n").expect("a line"), &format!("\r\nx: {}", "y".repeat(len)));
        text
    };
    // By single bytes, each of which looked like the end of a line to whoever waits for one.
    let lines = GOOD.replacen("\r\n", &format!("\r\n{}", "x:\r\n".repeat(200)), 1);
    assert!(answered(lines.as_bytes(), LEN, &[1]).0.is_ok());
    for size in [1, 4096] {
        assert!(answered(with(100 << 10).as_bytes(), LEN, &[size]).0.is_ok(), "by {size}");
    }
    let endless = with(MAX_HEAD_BYTES);
    let (result, _) = answered(endless.as_bytes(), LEN, &[4096]);
    assert!(result.expect_err("too long").contains("Garbage"));
    run(async {
        let (mut link, mut far) = connection();
        let text = with(100 << 10);
        let both = join(read(&mut link), far.write_all(text.as_bytes())).await;
        assert_eq!(both.0, (Ok(DATA.to_vec()), Some(Rest::Reusable)));
        assert_eq!(link.buffer.room(0).len(), USUAL_BYTES);
    });
}

#[test]
fn a_kept_connection_that_ended_or_spoke_is_not_used() {
    for junk in ["", "HTTP/1.1 408 Request Timeout\r\n\r\n"] {
        run(async {
            let (mut link, mut far) = connection();
            far.write_all(GOOD.as_bytes()).await.expect("room");
            assert_eq!(read(&mut link).await, (Ok(DATA.to_vec()), Some(Rest::Reusable)));
            far.write_all(junk.as_bytes()).await.expect("room");
            if junk.is_empty() {
                far.shutdown().await.expect("ended");
            }
            let (result, _) = read(&mut link).await;
            let error = result.expect_err("it is over");
            assert!(error.contains("Unsent"), "{error}");
            assert!(!link.busy, "there is nothing to take back");
        });
    }
}

/// A write of so many bytes, up to the head of its answer.
async fn write(link: &mut Link, len: usize) -> Result<Head, Lost> {
    let (volume, window) = (Subject::new("v"), Window::from_vec(vec![b'w'; len]));
    let io = Io { offset: 0, window: &window, len };
    let operation = Operation::Write(&volume, io);
    operation.write_head(&Target::default(), link.request_mut());
    link.ask(operation.body()).await
}

/// Reads a request with so many bytes of data.
async fn request(far: &mut DuplexStream, len: usize) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(far.read_u8().await.expect("a head"));
    }
    assert!(head.starts_with(b"PUT /v"), "{head:?}");
    let mut data = vec![0; len];
    far.read_exact(&mut data).await.expect("data");
    assert!(data.iter().all(|byte| *byte == b'w'));
}

#[test]
fn a_large_write_goes_out_as_the_server_takes_it() {
    run(async {
        let (mut link, mut far) = connection();
        for len in [1, HELD - 50, HELD, 5 * HELD, 3] {
            let server = async {
                request(&mut far, len).await;
                far.write_all(b"HTTP/1.1 204 Done\r\n\r\n").await.expect("room");
            };
            let (head, ()) = join(write(&mut link, len), server).await;
            let head = head.expect("an answer");
            assert_eq!((head.status, link.finish(head.persists)), (204, Rest::Reusable));
        }
    });
}

#[test]
fn an_answer_before_the_end_of_a_write_is_an_answer_and_ends_the_connection() {
    for then_ends in [true, false] {
        run(async {
            let (mut link, mut far) = connection();
            far.write_all(b"HTTP/1.1 507 Full\r\ncontent-length: 0\r\n\r\n").await.expect("room");
            let far = (!then_ends).then_some(far);
            let head = write(&mut link, 5 * HELD).await.expect("an answer");
            assert_eq!((head.status, link.finish(head.persists)), (507, Rest::Closed));
            assert!(link.busy, "what was not sent is never sent");
            drop(far);
        });
    }
}

#[test]
fn a_success_before_the_end_of_a_write_is_none() {
    run(async {
        let (mut link, mut far) = connection();
        far.write_all(b"HTTP/1.1 204 Done\r\n\r\n").await.expect("room");
        let lost = write(&mut link, 5 * HELD).await.expect_err("it has not got all of it");
        assert!(matches!(&lost, Lost::Failed(why) if why.ambiguous), "{lost:?}");
        assert!(link.busy);
    });
}

#[test]
fn an_answer_that_is_none_yet_does_not_end_a_write() {
    run(async {
        let (mut link, mut far) = connection();
        let len = 5 * HELD;
        let server = async {
            far.write_all(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2").await.expect("room");
            yield_now().await;
            request(&mut far, len).await;
            far.write_all(b"04 Done\r\n\r\n").await.expect("room");
        };
        let (head, ()) = join(write(&mut link, len), server).await;
        let head = head.expect("an answer");
        assert_eq!((head.status, link.finish(head.persists)), (204, Rest::Reusable));
    });
}

#[test]
fn a_connection_that_ends_amid_a_write() {
    for (said, lost) in [(&b""[..], "Unanswered"), (b"HTTP/1.1 5", "Failed"), (b"\0", "Garbage")] {
        run(async {
            let (mut link, mut far) = connection();
            let server = async {
                far.write_all(said).await.expect("room");
                yield_now().await;
                drop(far);
            };
            let (result, ()) = join(write(&mut link, 5 * HELD), server).await;
            let error = format!("{:?}", result.expect_err("no answer"));
            assert!(error.contains(lost), "{error}");
        });
    }
}

#[test]
fn a_connection_that_takes_nothing_was_asked_nothing() {
    run(async {
        let (mut link, far) = connection();
        drop(far);
        for len in [1, 5 * HELD] {
            link.used = false;
            let lost = write(&mut link, len).await.expect_err("nobody is there");
            assert!(matches!(lost, Lost::Unsent(_)), "{lost:?}");
        }
    });
}

#[test]
fn a_request_that_is_dropped_leaves_a_busy_link() {
    run(async {
        let (mut link, mut far) = connection();
        assert!(write(&mut link, LEN).now_or_never().is_none());
        assert!(link.busy);
        // The answer that it had been waiting for comes too late: nobody takes it for another's.
        far.write_all(b"HTTP/1.1 204 Done\r\n\r\n").await.expect("room");
        let lost = write(&mut link, LEN).await.expect_err("it spoke first");
        assert!(matches!(lost, Lost::Unsent(_)), "{lost:?}");
    });
}

/// Answers of all kinds, right and wrong.
fn answers() -> impl Strategy<Value = Vec<u8>> {
    let length =
        (0usize..40, proptest::collection::vec(any::<u8>(), 0..40)).prop_map(|(len, body)| {
            let head = format!("HTTP/1.1 206 X\r\ncontent-length: {len}\r\n\r\n");
            [head.into_bytes(), body].concat()
        });
    let chunks = proptest::collection::vec("[a-z]{1,9}", 0..6).prop_map(|chunks| {
        let mut text = "HTTP/1.1 206 X\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
        for chunk in chunks {
            text += &format!("{:x}\r\n{chunk}\r\n", chunk.len());
        }
        (text + "0\r\n\r\n").into_bytes()
    });
    let informational =
        "(HTTP/1.1 10[0-3] X\r\n\r\n){0,3}HTTP/1.[01] [0-9]{3} X\r\n(a: b\r\n){0,3}\r\n[a-z]{0,30}";
    prop_oneof![
        length,
        chunks,
        informational.prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..60),
        "(HTTP/1.1 |\r\n|[ -~]){0,60}".prop_map(String::into_bytes),
    ]
}

proptest! {
    /// Whatever comes, and in whatever pieces: it means the same.
    #[test]
    fn pieces_change_nothing(
        bytes in answers(),
        sizes in proptest::collection::vec(1usize..40, 1..9),
    ) {
        let whole = answered(&bytes, LEN, &[bytes.len().max(1)]);
        let (pieces, rest) = answered(&bytes, LEN, &sizes);
        prop_assert_eq!(&pieces, &whole.0);
        // What comes after the end may come too late to be seen.
        prop_assert!(rest == whole.1 || whole.1 == Some(Rest::Junk), "{:?} {:?}", rest, whole.1);
    }

    /// What is larger than the buffer goes past it, and arrives.
    #[test]
    fn large_bodies_arrive(
        chunked: bool,
        chunk in 1usize..60_000,
        sizes in proptest::collection::vec(1usize..40_000, 1..5),
        len in 1usize..100_000,
    ) {
        let data: Vec<u8> = (0..len).map(|at| (at / 3 % 251) as u8).collect();
        let mut text = b"HTTP/1.1 206 X\r\n".to_vec();
        if chunked {
            text.extend(b"transfer-encoding: chunked\r\n\r\n");
            for chunk in data.chunks(chunk) {
                text.extend(format!("{:x}\r\n", chunk.len()).bytes());
                text.extend(chunk);
                text.extend(b"\r\n");
            }
            text.extend(b"0\r\n\r\n");
        } else {
            text.extend(format!("content-length: {len}\r\n\r\n").bytes());
            text.extend(&data);
        }
        let (result, rest) = answered(&text, len, &sizes);
        prop_assert!(result == Ok(data) && rest == Some(Rest::Reusable));
    }
}
