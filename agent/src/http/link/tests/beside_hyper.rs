// SPDX-License-Identifier: GPL-2.0-only
//! The same answers, to this client and to hyper's: what one takes and the other refuses is known,
//! and has a reason (docs/decisions/http-path.md).

use super::*;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::fmt::Write as _;

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its body was the sixteen bytes that were asked for.
    Data,
    /// An error, or other bytes.
    Refused,
}

use Fate::{Data, Refused};

// In all of these `{head}` stands for a status line of 206, `{body}` for the sixteen bytes, and
// `{chunks}` for these in one chunk and the end.

/// Data for both.
const BOTH_TAKE: &[&str] = &[
    // As it should be.
    "{head}content-length: 16\r\n\r\n{body}",
    "{head}\r\n{body}",
    "{head}transfer-encoding: chunked\r\n\r\n{chunks}",
    "{head}transfer-encoding: chunked\r\n\r\n8\r\n01234567\r\n8\r\n89abcdef\r\n0\r\n\r\n",
    "{head}transfer-encoding: chunked\r\n\r\n10;name=value\r\n{body}\r\n0\r\nx: y\r\n\r\n",
    "{head}transfer-encoding: CHUNKED\r\n\r\n{chunks}",
    "{head}transfer-encoding: chunked\r\n\r\n0010\r\n{body}\r\n0\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n{head}content-length: 16\r\n\r\n{body}",
    "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n{head}content-length: 16\r\n\r\n{body}",
    "HTTP/1.0 206 Old\r\ncontent-length: 16\r\n\r\n{body}",
    "HTTP/1.0 206 Old\r\n\r\n{body}",
    "HTTP/1.1 206\r\ncontent-length: 16\r\n\r\n{body}",
    "HTTP/1.1 206 \r\ncontent-length: 16\r\n\r\n{body}",
    "HTTP/1.1 206 Café\r\ncontent-length: 16\r\n\r\n{body}",
    "{head}x: café\r\ncontent-length: 16\r\n\r\n{body}",
    "{head}x:\r\ncontent-length:16\r\n\r\n{body}",
    "{head}content-length: \t 16 \t\r\n\r\n{body}",
    "{head}Content-Length: 0016\r\n\r\n{body}",
    // Lines that end otherwise.
    "HTTP/1.1 206 Unix\ncontent-length: 16\n\n{body}",
    "{head}content-length: 16\r\n\n{body}",
    // Status lines.
    "HTTP/1.1 999 X\r\ncontent-length: 16\r\n\r\n{body}",
    // Where the body ends.
    "{head}content-length: 16\r\ncontent-length: 16\r\n\r\n{body}",
    // Chunks.
    "{head}transfer-encoding: chunked\r\n\r\n10 \r\n{body}\r\n0\r\n\r\n",
    "{head}transfer-encoding: chunked\r\n\r\n10;\r\n{body}\r\n0\r\n\r\n",
    "{head}transfer-encoding: chunked\r\n\r\n10\r\n{body}\r\n0;x\r\n\r\n",
];

/// No data for either.
const BOTH_REFUSE: &[&str] = &[
    // Lines that end otherwise.
    "{head}content-length: 16\r\r\n\r\n{body}",
    "{head}x: a\rb\r\ncontent-length: 16\r\n\r\n{body}",
    "{head}x: a\r\n folded\r\ncontent-length: 16\r\n\r\n{body}",
    "{head} content-length: 16\r\n\r\n{body}",
    // Status lines.
    "HTTP/1.2 206 X\r\ncontent-length: 16\r\n\r\n{body}",
    "HTTP/2.0 206 X\r\ncontent-length: 16\r\n\r\n{body}",
    "HTTP/0.9 206 X\r\ncontent-length: 16\r\n\r\n{body}",
    "http/1.1 206 X\r\ncontent-length: 16\r\n\r\n{body}",
    "HTTP/1.1  206 X\r\ncontent-length: 16\r\n\r\n{body}",
    "HTTP/1.1 2060 X\r\ncontent-length: 16\r\n\r\n{body}",
    "HTTP/1.1 26 X\r\ncontent-length: 16\r\n\r\n{body}",
    "HTTP/1.1 099 X\r\ncontent-length: 16\r\n\r\n{body}",
    "HTTP/1.1 206 a\0b\r\ncontent-length: 16\r\n\r\n{body}",
    "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n{body}",
    "{body}",
    "SSH-2.0-OpenSSH_9.2\r\n",
    "",
    // Names and values.
    "{head}content-length : 16\r\n\r\n{body}",
    "{head}: nameless\r\ncontent-length: 16\r\n\r\n{body}",
    "{head}no colon\r\ncontent-length: 16\r\n\r\n{body}",
    "{head}x y: z\r\ncontent-length: 16\r\n\r\n{body}",
    "{head}x\0: z\r\ncontent-length: 16\r\n\r\n{body}",
    "{head}x: \0\r\ncontent-length: 16\r\n\r\n{body}",
    "{head}(x): z\r\ncontent-length: 16\r\n\r\n{body}",
    // Where the body ends.
    "{head}content-length: 16\r\ncontent-length: 17\r\n\r\n{body}",
    "{head}content-length: 17\r\n\r\n{body}",
    "{head}content-length: 15\r\n\r\n{body}",
    "{head}content-length: -16\r\n\r\n{body}",
    "{head}content-length: +16\r\n\r\n{body}",
    "{head}content-length: 0x10\r\n\r\n{body}",
    "{head}content-length: 16.0\r\n\r\n{body}",
    "{head}content-length: 1 6\r\n\r\n{body}",
    "{head}content-length:\r\n\r\n{body}",
    "{head}content-length: 18446744073709551632\r\n\r\n{body}",
    "{head}transfer-encoding: chunked, gzip\r\n\r\n{chunks}",
    "{head}transfer-encoding: xchunked\r\n\r\n{chunks}",
    "{head}transfer-encoding : chunked\r\n\r\n{chunks}",
    "HTTP/1.0 206 Old\r\ntransfer-encoding: chunked\r\n\r\n{chunks}",
    "HTTP/1.1 204 None\r\ncontent-length: 16\r\n\r\n{body}",
    "HTTP/1.1 304 None\r\ncontent-length: 16\r\n\r\n{body}",
    // Chunks.
    "{head}transfer-encoding: chunked\r\n\r\n10\r\n{body}\r\n0\r\n",
    "{head}transfer-encoding: chunked\r\n\r\n10\r\n{body}\r\n",
    "{head}transfer-encoding: chunked\r\n\r\n10\r\n{body}",
    "{head}transfer-encoding: chunked\r\n\r\n10\r\n{body}0\r\n\r\n",
    "{head}transfer-encoding: chunked\r\n\r\n10\n{body}\n0\n\n",
    "{head}transfer-encoding: chunked\r\n\r\n 10\r\n{body}\r\n0\r\n\r\n",
    "{head}transfer-encoding: chunked\r\n\r\n+10\r\n{body}\r\n0\r\n\r\n",
    "{head}transfer-encoding: chunked\r\n\r\n0x10\r\n{body}\r\n0\r\n\r\n",
    "{head}transfer-encoding: chunked\r\n\r\n-1\r\n{body}\r\n0\r\n\r\n",
    "{head}transfer-encoding: chunked\r\n\r\n\r\n{body}\r\n0\r\n\r\n",
    "{head}transfer-encoding: chunked\r\n\r\n10000000000000010\r\n{body}\r\n0\r\n\r\n",
    "{head}transfer-encoding: chunked\r\n\r\n11\r\n{body}\r\n0\r\n\r\n",
    "{head}transfer-encoding: chunked\r\n\r\nf\r\n{body}\r\n0\r\n\r\n",
    "{head}transfer-encoding: chunked\r\n\r\n10\r\n{body}\r\n0\r\nno colon\r\n\r\n",
];

/// Data for hyper alone, and why not for us.
const HYPER_TAKES: &[(&str, &str)] = &[
    (
        "\r\n{head}content-length: 16\r\n\r\n{body}",
        "what stands before the status line may be the rest of another answer",
    ),
    (
        "{head}content-length: 16, 16\r\n\r\n{body}",
        "RFC 9110, 8.6: may be refused; somebody on the way has joined two fields",
    ),
    (
        "{head}content-length: 16\r\ntransfer-encoding: chunked\r\n\r\n{chunks}",
        "RFC 9112, 6.3: two ways to say where it ends are how answers are smuggled",
    ),
    (
        "{head}transfer-encoding: identity\r\ncontent-length: 16\r\n\r\n{body}",
        "a coding that nobody asked for: these are not the volume's bytes",
    ),
    ("{head}transfer-encoding: gzip\r\n\r\n{body}", "the same"),
    ("{head}transfer-encoding: gzip, chunked\r\n\r\n{chunks}", "the same"),
    (
        "{head}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n{chunks}",
        "RFC 9112, 6.1: chunked is applied once",
    ),
];

fn text(template: &str) -> Vec<u8> {
    let body = std::str::from_utf8(DATA).expect("text");
    let head = "HTTP/1.1 206 Partial Content\r\n";
    let template = template.replace("{chunks}", "10\r\n{body}\r\n0\r\n\r\n");
    template.replace("{head}", head).replace("{body}", body).into_bytes()
}

fn ours(answer: &[u8]) -> Fate {
    match answered(answer, LEN, &[answer.len().max(1)]).0 {
        Ok(data) if data == DATA => Data,
        _ => Refused,
    }
}

fn hypers(answer: &[u8]) -> Fate {
    run(async {
        let (near, mut far) = duplex(HELD);
        let server = async {
            let mut request = [0; 1024];
            let asked = far.read(&mut request).await.expect("a request");
            assert!(asked > 0);
            far.write_all(answer).await.expect("room");
            drop(far);
        };
        let client = async {
            let (mut sender, connection) = http1::handshake(TokioIo::new(near)).await?;
            let request = hyper::Request::get("/v").header("host", "x").body(Empty::<Bytes>::new());
            let asked = async {
                let answer = sender.send_request(request.expect("a request")).await?;
                answer.into_body().collect().await.map(|body| body.to_bytes())
            };
            // The connection ends with the server.
            let (body, _) = join(asked, connection).await;
            body
        };
        match join(client, server).await.0 {
            Ok(body) if body == DATA[..] => Data,
            _ => Refused,
        }
    })
}

#[test]
fn the_same_answers_to_both_clients() {
    let both = |fate: Fate| move |answer: &&'static str| (*answer, fate, fate, "");
    let expected = BOTH_TAKE
        .iter()
        .map(both(Data))
        .chain(BOTH_REFUSE.iter().map(both(Refused)))
        .chain(HYPER_TAKES.iter().map(|(answer, why)| (*answer, Refused, Data, *why)));
    let mut otherwise = String::new();
    for (template, we_do, hyper_does, why) in expected {
        let answer = text(template);
        let (ours, hypers) = (ours(&answer), hypers(&answer));
        if (ours, hypers) != (we_do, hyper_does) {
            let _ = writeln!(otherwise, "{template:?}: ours {ours:?}, hyper's {hypers:?} {why}");
        }
    }
    assert!(otherwise.is_empty(), "otherwise than it is listed:\n{otherwise}");
}
