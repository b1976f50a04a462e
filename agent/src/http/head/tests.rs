// SPDX-License-Identifier: GPL-2.0-only
//! Each rule of heads and of framing, and bytes that follow none.

use super::*;
use proptest::prelude::*;

/// The head with these lines after the first one.
fn with(status: &str, lines: &[&str]) -> Result<Head, String> {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let text = format!("{status}\r\n{lines}\r\n");
    let parsed = parse(text.as_bytes())?;
    let (head, len) = parsed.expect("it is whole");
    assert_eq!(len, text.len());
    Ok(head)
}

fn ok(lines: &[&str]) -> Result<Head, String> {
    with("HTTP/1.1 200 OK", lines)
}

fn body_of(lines: &[&str]) -> Option<Body> {
    ok(lines).ok().map(|head| head.body)
}

#[test]
fn where_a_body_ends() {
    assert_eq!(body_of(&["Content-Length: 5"]), Some(Body::of_length(5)));
    assert_eq!(body_of(&["content-length:\t007 "]), Some(Body::of_length(7)));
    assert_eq!(body_of(&["content-length: 5", "content-length: 5"]), Some(Body::of_length(5)));
    let longest = "content-length: 9999999999999999999";
    assert_eq!(body_of(&[longest]), Some(Body::of_length(9_999_999_999_999_999_999)));
    assert_eq!(body_of(&["TRANSFER-ENCODING: Chunked"]), Some(Body::chunked()));
    assert_eq!(body_of(&["x: y"]), Some(Body::until_close()));
    for status in ["HTTP/1.1 100 C", "HTTP/1.1 103 E", "HTTP/1.1 204 N", "HTTP/1.1 304 N"] {
        for lines in [&[][..], &["content-length: 9"], &["transfer-encoding: chunked"]] {
            let head = with(status, lines).expect("a head");
            assert_eq!(head.body, Body::of_length(0), "{status} {lines:?}");
        }
    }
}

#[test]
fn what_leaves_open_where_the_body_ends_is_no_answer() {
    for lines in [
        &["content-length: 5", "content-length: 6"][..],
        &["content-length: 5, 5"],
        &["content-length: "],
        &["content-length: +5"],
        &["content-length: -1"],
        &["content-length: 5 5"],
        &["content-length: 0x5"],
        &["content-length: 10000000000000000000"],
        &["content-length: 18446744073709551621"],
        &["content-length: 5", "transfer-encoding: chunked"],
        &["transfer-encoding: chunked", "content-length: 0"],
        &["transfer-encoding: gzip"],
        &["transfer-encoding: identity"],
        &["transfer-encoding: gzip, chunked"],
        &["transfer-encoding: chunked, chunked"],
        &["transfer-encoding: chunked", "transfer-encoding: chunked"],
        &["transfer-encoding: gzip", "transfer-encoding: chunked"],
        &["transfer-encoding: chunked;x"],
        &["transfer-encoding:"],
    ] {
        assert!(ok(lines).is_err(), "{lines:?}");
    }
    assert!(with("HTTP/1.0 200 OK", &["transfer-encoding: chunked"]).is_err());
}

#[test]
fn which_connections_persist() {
    let length = "content-length: 1";
    let persists = |status: &str, lines: &[&str]| with(status, lines).map(|head| head.persists);
    for (lines, then) in [
        (&[length][..], true),
        (&[length, "connection: keep-alive"], true),
        (&[length, "connection: closed, x-close"], true),
        (&[length, "connection: close"], false),
        (&[length, "connection: keep-alive", "Connection: x , CLOSE,y"], false),
        (&["transfer-encoding: chunked"], true),
        (&[], false),
    ] {
        assert_eq!(persists("HTTP/1.1 200 OK", lines), Ok(then), "{lines:?}");
    }
    for (lines, then) in [
        (&[length][..], false),
        (&[length, "connection: keep-alive"], true),
        (&[length, "connection: keep-alive, close"], false),
        (&["connection: keep-alive"], false),
    ] {
        assert_eq!(persists("HTTP/1.0 200 OK", lines), Ok(then), "{lines:?}");
    }
    // A body that should not be there may be.
    assert_eq!(persists("HTTP/1.1 204 No", &["content-length: 0"]), Ok(true));
    assert_eq!(persists("HTTP/1.1 204 No", &["content-length: 1"]), Ok(false));
    assert_eq!(persists("HTTP/1.1 204 No", &["transfer-encoding: chunked"]), Ok(false));
    assert_eq!(persists("HTTP/1.1 304 No", &["content-length: 1"]), Ok(true));
}

#[test]
fn first_lines() {
    for (line, status) in [
        ("HTTP/1.1 200", 200),
        ("HTTP/1.1 200 ", 200),
        ("HTTP/1.0 404 No such thing", 404),
        ("HTTP/1.1 999 \u{fc}", 999),
    ] {
        assert_eq!(with(line, &[]).map(|head| head.status), Ok(status), "{line:?}");
    }
    for line in [
        "HTTP/1.1 099 Low",
        "HTTP/1.1 000 None",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.2 200 OK",
        "HTTP/2 200 OK",
        "HTTP/1.1\t200 OK",
        "http/1.1 200 OK",
        "ICY 200 OK",
        "200 OK",
        " HTTP/1.1 200 OK",
        "\r\nHTTP/1.1 200 OK",
        "\nHTTP/1.1 200 OK",
        "HTTP/1.1 200 O\0K",
    ] {
        assert!(with(line, &[]).is_err(), "{line:?}");
    }
}

#[test]
fn header_lines_that_others_would_read_in_another_way_are_refused() {
    for line in [
        // Obsolete folding, and what looks like it.
        "x: 1\r\n 2",
        "x: 1\r\n\tcontent-length: 5",
        " x: 1",
        // White space before the colon.
        "content-length : 5",
        "x y: 1",
        ": 1",
        "no colon",
        "x: a\0b",
        "x: a\rb",
        "b\0d: 1",
        "x\r: 1",
    ] {
        assert!(ok(&[line]).is_err(), "{line:?}");
    }
}

#[test]
fn as_many_headers_as_servers_send() {
    let lines: Vec<String> = (0..MOST_HEADERS + 1).map(|n| format!("x-{n}: {n}")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    for count in [0, USUAL_HEADERS, USUAL_HEADERS + 1, MOST_HEADERS] {
        assert!(ok(&lines[..count]).is_ok(), "{count}");
    }
    assert!(ok(&lines).is_err());
    // The last one counts as well as the first.
    let mut last = lines[..MOST_HEADERS - 1].to_vec();
    last.push("content-length: 3");
    assert_eq!(body_of(&last), Some(Body::of_length(3)));
}

#[test]
fn ranges() {
    let range = |lines: &[&str]| ok(lines).expect("a head").range;
    assert_eq!(range(&[]), Range::Absent);
    for good in ["bytes 16-23/100", "bytes 16-23/*", "Bytes  16-23/24", "bytes 16 - 23 /24"] {
        let line = format!("Content-Range: {good}");
        assert_eq!(range(&[&line]), Range::Bytes(16, 23), "{good}");
    }
    for bad in [
        "bytes */100",
        "16-23/100",
        "",
        "bytes",
        "bytes 16-23",
        "bytes16-23/100",
        "bytes -16-23/100",
        "bytes +16-23/100",
        "bytes 16-/100",
        "items 16-23/100",
        "bytes 16-18446744073709551616/100",
        "bytes 16-23x/100",
        "bytes 16x-23/100",
        "bytes 1 6-23/100",
        "nonsense",
    ] {
        let line = format!("Content-Range: {bad}");
        assert_eq!(range(&[&line]), Range::Other, "{bad}");
    }
    let twice = ["content-range: bytes 16-23/24", "content-range: bytes 16-23/24"];
    assert_eq!(range(&twice), Range::Other);
}

#[test]
fn retry_after_in_seconds_or_as_a_date() {
    let after = |value: &str| {
        let line = format!("Retry-After: {value}");
        with("HTTP/1.1 503 No", &[&line]).expect("a head").retry_after
    };
    assert_eq!(after("7"), Some(Duration::from_secs(7)));
    assert_eq!(after("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::ZERO));
    assert!(after("Thu, 31 Dec 2099 23:59:59 GMT") > Some(Duration::from_secs(1 << 30)));
    for nonsense in ["-1", "", "soon", "1.5", "Fri, 31 Dec 1999", "99999999999999999999"] {
        assert_eq!(after(nonsense), None, "{nonsense}");
    }
    let wait = pause(b"Thu, 01 Jan 1970 00:00:09 GMT", SystemTime::UNIX_EPOCH);
    assert_eq!(wait, Some(Duration::from_secs(9)));
}

/// Lines of heads, good ones and bad ones.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("content-length: 5".to_owned()),
        Just("transfer-encoding: chunked".to_owned()),
        Just("connection: close".to_owned()),
        Just("content-range: bytes 0-4/9".to_owned()),
        "[a-z-]{1,14}: ?[ -~]{0,12}",
        "[\\x00-\\x7f]{0,12}",
    ]
}

proptest! {
    #[test]
    fn names_are_known_in_any_case(name in "[!#$%&'*+.^_`|~0-9A-Za-z-]{9,18}") {
        prop_assert_eq!(is(&name, b"connection"), name.eq_ignore_ascii_case("connection"));
        for (at, known) in name.char_indices() {
            // Like the known name but for one character.
            let mut almost = "content-length".to_owned();
            almost.replace_range(at.min(13)..=at.min(13), &known.to_string());
            prop_assert_eq!(
                is(&almost, b"content-length"),
                almost.eq_ignore_ascii_case("content-length"),
                "{}", almost
            );
        }
    }

    #[test]
    fn no_bytes_panic_and_none_beyond_the_head_count(bytes: Vec<u8>, more: Vec<u8>) {
        if let Ok(Some((head, len))) = parse(&bytes) {
            prop_assert!(len <= bytes.len());
            prop_assert_eq!(parse(&[&bytes, &*more].concat()), Ok(Some((head, len))));
        }
    }

    /// A head that is whole is the same whatever follows, and nothing before its end is whole.
    #[test]
    fn a_head_ends_where_it_ends(
        status in 0u16..1000,
        lines in proptest::collection::vec(line(), 0..6),
        more: Vec<u8>,
    ) {
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let text = format!("HTTP/1.1 {status:03} X\r\n{lines}\r\n");
        let whole = parse(text.as_bytes());
        prop_assert_ne!(&whole, &Ok(None));
        if let Ok(Some((head, len))) = &whole {
            let followed = [text.as_bytes(), &more].concat();
            prop_assert_eq!(parse(&followed), Ok(Some((*head, *len))));
            for cut in 0..*len {
                prop_assert_eq!(parse(&text.as_bytes()[..cut]), Ok(None), "{}", cut);
            }
        }
    }
}
