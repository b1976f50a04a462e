// SPDX-License-Identifier: GPL-2.0-only
//! What the client makes of answers, against servers that do what no good server does.

mod rest_support;

use std::time::{Duration, Instant};

use nix::libc;
use rest_support::*;
use srb_agent::base::errors::{ErrorKind, RequestError};
use srb_agent::base::settings::Settings;
use srb_agent::base::window::Window;
use srb_agent::volume::{Pipeline, Volumes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BYTES: &[u8; 16] = b"0123456789abcdef";

/// Reads 16 bytes at 512 of the volume `v`.
async fn read(settings: Settings) -> Result<Vec<u8>, RequestError> {
    let repository = unprobed(settings);
    let pipeline = Pipeline::new(repository.clone());
    let window = Window::from_vec(vec![0xee; 32]);
    pipeline.read(&repository.volume("v"), 512, &window, 16).await?;
    assert_eq!(window.to_vec(32)[16..], [0xee; 16], "nothing beyond what was asked for");
    Ok(window.to_vec(16))
}

async fn write(settings: Settings) -> Result<(), RequestError> {
    let repository = unprobed(settings);
    let window = Window::from_vec(BYTES.to_vec());
    Pipeline::new(repository.clone()).write(&repository.volume("v"), 512, &window, 16, false).await
}

/// What a read comes to when the server always does this.
async fn read_of(script: Vec<Do>) -> (Result<Vec<u8>, RequestError>, usize) {
    let server = Scripted::start(move |_, _| script.clone()).await;
    let read = read(Settings { nb_req_retries: 1, ..settings(&[&server.url]) }).await;
    (read, server.asked().len())
}

#[tokio::test]
async fn requests_are_what_the_protocol_says() {
    let server = Scripted::start(|_, asked| {
        if asked.line.starts_with("GET") {
            answer("206 Partial Content", &["content-range: bytes 512-527/1024"], BYTES)
        } else {
            status("204 No Content")
        }
    })
    .await;
    let url = format!("{}/store/one", server.url);
    assert_eq!(read(settings(&[&url])).await.as_deref(), Ok(&BYTES[..]));
    assert_eq!(write(settings(&[&url])).await, Ok(()));
    let asked = server.asked();
    assert_eq!(server.lines(), ["GET /store/one/v", "PUT /store/one/v"]);
    for asked in &asked {
        assert_eq!(asked.header("range"), Some("bytes=512-527"));
        assert_eq!(
            asked.header("host").map(|host| format!("http://{host}")),
            Some(server.url.clone())
        );
    }
    assert_eq!(asked[1].body, BYTES);
    assert_eq!(asked[1].header("content-length"), Some("16"));
    assert_eq!(asked[1].header("transfer-encoding"), None);
}

#[tokio::test]
async fn each_status_has_its_errno_and_its_tries() {
    for (line, errno, tries) in [
        ("302 Found", libc::EPROTO, 1),
        ("400 Bad Request", libc::EIO, 1),
        ("401 Unauthorized", libc::EACCES, 1),
        ("403 Forbidden", libc::EACCES, 1),
        ("404 Not Found", libc::ENOENT, 1),
        ("408 Request Timeout", libc::EIO, 2),
        ("413 Payload Too Large", libc::ENOSPC, 1),
        ("416 Range Not Satisfiable", libc::EIO, 1),
        ("429 Too Many Requests", libc::EIO, 2),
        ("500 Internal Server Error", libc::EIO, 2),
        ("503 Service Unavailable", libc::EIO, 2),
        ("507 Insufficient Storage", libc::ENOSPC, 1),
    ] {
        let server = Scripted::start(move |_, _| answer(line, &[], "sorry")).await;
        let settings = Settings { nb_req_retries: 1, ..settings(&[&server.url]) };
        for error in [read(settings.clone()).await.err(), write(settings).await.err()] {
            let error = error.expect(line);
            assert_eq!((error.errno(), error.tries()), (errno, tries), "{error}");
            let text = error.to_string();
            assert!(text.contains(line) && text.contains(&server.url), "{text}");
            assert!(!text.contains('\n'), "{text}");
        }
        assert_eq!(server.asked().len(), 2 * tries as usize, "{line}");
        assert!(server.asked().iter().all(|asked| asked.connection < 2), "reused: {line}");
    }
}

#[tokio::test]
async fn a_200_with_exactly_the_bytes_is_data() {
    assert_eq!(read_of(answer("200 OK", &[], BYTES)).await.0.as_deref(), Ok(&BYTES[..]));
}

#[tokio::test]
async fn a_200_with_another_length_is_never_data() {
    for len in [0, 1, 15, 17, 1024, 1 << 20] {
        for status in ["200 OK", "206 Partial Content"] {
            let (read, asked) = read_of(answer(status, &[], vec![b'x'; len])).await;
            let error = read.expect_err("not data");
            assert_eq!((error.errno(), asked), (libc::EPROTO, 1), "{error}");
            assert!(error.to_string().contains("ignored the range"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_206_for_another_range_is_never_data() {
    for range in ["bytes 0-15/1024", "bytes 512-526/1024", "nonsense"] {
        let header = format!("content-range: {range}");
        let (read, asked) = read_of(answer("206 Partial Content", &[&header], BYTES)).await;
        assert_eq!((read.expect_err("not data").errno(), asked), (libc::EPROTO, 1));
    }
}

#[tokio::test]
async fn other_successes_are_no_data() {
    for line in ["204 No Content", "201 Created"] {
        let (read, _) = read_of(status(line)).await;
        assert_eq!(read.expect_err("not data").kind(), ErrorKind::Protocol);
    }
}

fn chunked(pieces: &[&[u8]]) -> Vec<Do> {
    let mut script =
        vec![raw("HTTP/1.1 206 Partial Content\r\ntransfer-encoding: chunked\r\n\r\n")];
    for piece in pieces {
        let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
        script.push(Do::Send(chunk));
        script.push(Do::Pause(Duration::from_millis(1)));
    }
    script.push(raw("0\r\n\r\n"));
    script
}

#[tokio::test]
async fn chunks_of_any_size() {
    let single: Vec<&[u8]> = BYTES.chunks(1).collect();
    assert_eq!(read_of(chunked(&single)).await.0.as_deref(), Ok(&BYTES[..]));
    assert_eq!(read_of(chunked(&[BYTES])).await.0.as_deref(), Ok(&BYTES[..]));
    for wrong in [&BYTES[..15], &[BYTES.as_slice(), b"!"].concat()] {
        let (read, asked) = read_of(chunked(&[wrong])).await;
        assert_eq!((read.expect_err("not data").errno(), asked), (libc::EPROTO, 1));
    }
}

#[tokio::test]
async fn an_answer_in_single_bytes() {
    let whole = b"HTTP/1.1 206 Partial Content\r\nContent-Length: 16\r\n\r\n0123456789abcdef";
    let script = whole.chunks(1).flat_map(|byte| [raw(byte), Do::Pause(Duration::ZERO)]).collect();
    assert_eq!(read_of(script).await.0.as_deref(), Ok(&BYTES[..]));
}

#[tokio::test]
async fn a_body_without_a_length_ends_with_its_connection() {
    let script = |body: &[u8]| {
        let head = b"HTTP/1.1 206 Partial Content\r\nconnection: close\r\n\r\n";
        vec![raw([head, body].concat()), Do::Close]
    };
    assert_eq!(read_of(script(BYTES)).await.0.as_deref(), Ok(&BYTES[..]));
    let (read, asked) = read_of(script(&BYTES[..9])).await;
    let error = read.expect_err("too short");
    assert_eq!((error.kind(), asked), (ErrorKind::Broken, 2), "{error}");
    let (read, asked) = read_of(script(&[b'x'; 17])).await;
    assert_eq!((read.expect_err("too long").errno(), asked), (libc::EPROTO, 1));
}

#[tokio::test]
async fn an_answer_that_contradicts_its_own_range_is_tried_again() {
    for len in [0, 15, 17] {
        let range = ["content-range: bytes 512-527/1024"];
        let (read, asked) = read_of(answer("206 Partial Content", &range, vec![b'x'; len])).await;
        let error = read.expect_err("not data");
        assert_eq!((error.kind(), asked), (ErrorKind::Garbage, 2), "{error}");
    }
}

#[tokio::test]
async fn garbage_among_the_headers_is_tried_again() {
    for header in ["content-length: sixteen", "content-length: -1", "no colon", "b\0d: 1", ": 1"] {
        let text = format!("HTTP/1.1 206 Partial Content\r\n{header}\r\n\r\n0123456789abcdef");
        let (read, asked) = read_of(vec![raw(text), Do::Hang]).await;
        let error = read.expect_err("no answer");
        assert_eq!((error.kind(), asked), (ErrorKind::Garbage, 2), "{header:?} {error}");
    }
}

#[tokio::test]
async fn many_and_large_headers() {
    let many: Vec<String> = (0..200).map(|n| format!("x-header-{n}: {n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let server = Scripted::start({
        let script = answer("206 Partial Content", &many, BYTES);
        move |_, _| script.clone()
    })
    .await;
    let repository = unprobed(Settings { nb_req_retries: 0, ..settings(&[&server.url]) });
    let pipeline = Pipeline::new(repository.clone());
    for _ in 0..3 {
        let window = Window::from_vec(vec![0; 16]);
        assert_eq!(pipeline.read(&repository.volume("v"), 512, &window, 16).await, Ok(()));
        assert_eq!(window.to_vec(16), BYTES);
    }
    let connections: Vec<_> = server.asked().iter().map(|asked| asked.connection).collect();
    assert_eq!(connections, [0, 0, 0]);
    let large = format!("x-large: {}", "x".repeat(200 << 10));
    let (read, _) = read_of(answer("206 Partial Content", &[&large], BYTES)).await;
    assert_eq!(read.as_deref(), Ok(&BYTES[..]));
}

#[tokio::test]
async fn headers_without_end_are_refused() {
    let head = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(2 << 20));
    let (read, asked) = read_of(vec![raw(head), Do::Hang]).await;
    assert_eq!((read.expect_err("no answer").kind(), asked), (ErrorKind::Garbage, 2));
}

#[tokio::test]
async fn no_http_is_tried_again_and_is_eproto() {
    for garbage in ["220 mail.example ESMTP\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "\0\0\0\0\r\n\r\n"] {
        let (read, asked) = read_of(vec![raw(garbage), Do::Hang]).await;
        let error = read.expect_err("no answer");
        assert_eq!((error.errno(), asked), (libc::EPROTO, 2), "{error}");
    }
}

#[tokio::test]
async fn connections_that_break() {
    let head = "HTTP/1.1 206 Partial Content\r\ncontent-length: 16\r\n\r\n";
    let half = format!("{head}01234567");
    for script in [
        vec![Do::Close],
        vec![Do::Reset],
        vec![raw("HTTP/1.1 206 Par"), Do::Close],
        vec![raw(head), Do::Close],
        vec![raw(&half), Do::Close],
        vec![raw(&half), Do::Pause(Duration::from_millis(20)), Do::Reset],
    ] {
        let (read, asked) = read_of(script.clone()).await;
        let error = read.expect_err("no answer");
        assert_eq!((error.errno(), error.tries(), asked), (libc::EIO, 2, 2), "{script:?} {error}");
        assert!(error.may_have_happened());
    }
}

#[tokio::test]
async fn more_bytes_than_promised_spoil_the_answer_and_the_connection() {
    let long = "HTTP/1.1 206 Partial Content\r\ncontent-length: 16\r\n\r\n0123456789abcdefJUNK";
    let (read, asked) = read_of(vec![raw(long)]).await;
    assert_eq!((read.expect_err("junk").errno(), asked), (libc::EPROTO, 2));
    // Junk that comes later: the connection is not used any more.
    let server = Scripted::start(|_, _| {
        let mut script = answer("206 Partial Content", &[], BYTES);
        script.extend([Do::Pause(Duration::from_millis(20)), raw("JUNK")]);
        script
    })
    .await;
    let repository = unprobed(settings(&[&server.url]));
    let pipeline = Pipeline::new(repository.clone());
    let (volume, window) = (repository.volume("v"), Window::from_vec(vec![0; 16]));
    for _ in 0..3 {
        assert_eq!(pipeline.read(&volume, 512, &window, 16).await, Ok(()));
        server.idle().await;
    }
    let connections: Vec<usize> = server.asked().iter().map(|asked| asked.connection).collect();
    assert_eq!(connections, [0, 1, 2]);
    assert_eq!(volume.retries(), 0);
}

#[tokio::test]
async fn a_server_that_hangs_is_etimedout_and_left_before_the_next_try() {
    let server = Scripted::start(|_, _| vec![Do::Hang]).await;
    let start = Instant::now();
    let limits = Settings { nb_req_retries: 2, ..settings(&[&server.url]) };
    let error = write(limits).await.expect_err("no answer");
    assert_eq!((error.errno(), error.tries()), (libc::ETIMEDOUT, 3), "{error}");
    assert!(error.to_string().contains("did not answer within 0.3 s"), "{error}");
    let (least, most) = (Duration::from_millis(900), Duration::from_millis(1600));
    assert!((least..most).contains(&start.elapsed()), "{:?}", start.elapsed());
    let asked = server.asked();
    let ended: Vec<usize> = asked.iter().map(|asked| asked.ended).collect();
    assert_eq!(ended, [0, 1, 2], "each connection ended before the next request");
}

#[tokio::test]
async fn a_body_that_hangs_is_etimedout() {
    let head = "HTTP/1.1 206 Partial Content\r\ncontent-length: 16\r\n\r\n0123";
    let (read, asked) = read_of(vec![raw(head), Do::Hang]).await;
    assert_eq!((read.expect_err("no end").errno(), asked), (libc::ETIMEDOUT, 2));
}

#[tokio::test]
async fn unreachable_servers_have_their_errnos() {
    let refused = nobody().await;
    for (urls, errno, tries) in [
        (vec![refused.as_str()], libc::ECONNREFUSED, 2),
        (vec!["http://224.0.0.1:81"], libc::EHOSTUNREACH, 2),
        (vec!["http://no-such-host.invalid"], libc::EHOSTUNREACH, 2),
        (vec![], libc::EDESTADDRREQ, 0),
        (vec![refused.as_str(), "null:"], libc::EINVAL, 0),
    ] {
        let mut settings = Settings { nb_req_retries: 1, ..settings(&urls) };
        settings.server_conn_timeout = Duration::from_secs(20);
        let error = read(settings.clone()).await.expect_err("no server");
        assert_eq!((error.errno(), error.tries()), (errno, tries), "{error}");
        let error = write(settings).await.expect_err("no server");
        assert_eq!((error.errno(), error.may_have_happened()), (errno, false), "{error}");
    }
}

#[tokio::test]
async fn retry_after_is_honoured_within_the_request_timeout() {
    let server = Scripted::start(|number, _| match number {
        0 => answer("503 Service Unavailable", &["retry-after: 1"], ""),
        _ => answer("206 Partial Content", &[], BYTES),
    })
    .await;
    let start = Instant::now();
    assert!(read(settings(&[&server.url])).await.is_ok());
    let (least, most) = (Duration::from_millis(295), Duration::from_millis(800));
    assert!((least..most).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test]
async fn answers_that_are_none_yet_are_passed_over() {
    let (hint, range) = ("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n", "bytes 512-527/1024");
    let server = Scripted::start(move |number, _| {
        // Unasked, and before as well as amid the pieces of what counts.
        let mut script = vec![raw("HTTP/1.1 100 Continue\r\n\r\n")];
        if number % 2 == 0 {
            script.push(Do::Pause(Duration::from_millis(5)));
        }
        script.push(raw(hint));
        let range = format!("content-range: {range}");
        script.extend(answer("206 Partial Content", &[&range], BYTES));
        script
    })
    .await;
    let repository = unprobed(Settings { nb_req_retries: 0, ..settings(&[&server.url]) });
    let pipeline = Pipeline::new(repository.clone());
    let (volume, window) = (repository.volume("v"), Window::from_vec(vec![0; 16]));
    for _ in 0..4 {
        assert_eq!(pipeline.read(&volume, 512, &window, 16).await, Ok(()));
        assert_eq!(window.to_vec(16), BYTES);
    }
    assert!(server.asked().iter().all(|asked| asked.connection == 0));
}

#[tokio::test]
async fn a_server_of_the_old_days_may_keep_its_connection() {
    for (header, connections) in [("x: y", [0, 1, 2]), ("connection: keep-alive", [0, 0, 0])] {
        let head =
            format!("HTTP/1.0 206 Partial Content\r\n{header}\r\ncontent-length: 16\r\n\r\n");
        let script = vec![raw(head), raw(BYTES)];
        let server = Scripted::start(move |_, _| script.clone()).await;
        let repository = unprobed(Settings { nb_req_retries: 0, ..settings(&[&server.url]) });
        let pipeline = Pipeline::new(repository.clone());
        let (volume, window) = (repository.volume("v"), Window::from_vec(vec![0; 16]));
        for _ in 0..3 {
            assert_eq!(pipeline.read(&volume, 512, &window, 16).await, Ok(()));
        }
        let used: Vec<usize> = server.asked().iter().map(|asked| asked.connection).collect();
        assert_eq!(used, connections, "{header}");
    }
}

#[tokio::test]
async fn what_leaves_open_where_the_body_ends_is_tried_again() {
    for headers in [
        "content-length: 16\r\ncontent-length: 17",
        "content-length: 16\r\ntransfer-encoding: chunked",
        "transfer-encoding: gzip, chunked",
        "x: y\r\n folded: z\r\ncontent-length: 16",
    ] {
        let text = format!("HTTP/1.1 206 Partial Content\r\n{headers}\r\n\r\n0123456789abcdef");
        let (read, asked) = read_of(vec![raw(text), Do::Hang]).await;
        assert_eq!((read.expect_err(headers).kind(), asked), (ErrorKind::Garbage, 2));
    }
}

#[tokio::test]
async fn an_early_answer_to_a_large_write_counts() {
    // More than the sockets hold, from a server that reads the head alone.
    const LEN: usize = 16 << 20;
    for (line, errno) in [
        ("507 Insufficient Storage", libc::ENOSPC),
        ("403 Forbidden", libc::EACCES),
        ("400 Bad Request", libc::EIO),
    ] {
        for lingers in [true, false] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback");
            let url = format!("http://{}", listener.local_addr().expect("bound"));
            let server = async {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut head = [0; 256];
                assert!(stream.read(&mut head).await.expect("a head") > 0);
                let text = format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(text.as_bytes()).await.expect("answered");
                // Closing with bytes unread resets the connection.
                lingers.then_some(stream)
            };
            let mut limits = Settings { nb_req_retries: 0, ..settings(&[&url]) };
            limits.req_timeout = Duration::from_secs(5);
            let repository = unprobed(limits);
            let (pipeline, volume) = (Pipeline::new(repository.clone()), repository.volume("v"));
            let window = Window::from_vec(vec![b'w'; LEN]);
            let write = pipeline.write(&volume, 0, &window, LEN, false);
            let (written, stream) = tokio::join!(write, server);
            let error = written.expect_err(line);
            assert_eq!((error.errno(), error.tries()), (errno, 1), "{error}");
            assert!(!error.may_have_happened(), "{error}");
            // What was not sent is never sent.
            if let Some(mut stream) = stream {
                let mut rest = Vec::new();
                let ended = stream.read_to_end(&mut rest).await;
                assert!(rest.len() < LEN && ended.is_err(), "{} of {LEN}", rest.len());
            }
        }
    }
}

#[tokio::test]
async fn a_kept_connection_that_died_costs_no_try() {
    for end in [Do::Close, Do::Reset] {
        let server = Scripted::start(move |_, asked| {
            let mut script = match asked.line.starts_with("GET") {
                true => answer("206 Partial Content", &[], BYTES),
                false => status("204 No Content"),
            };
            script.push(end.clone());
            script
        })
        .await;
        let repository = unprobed(Settings { nb_req_retries: 0, ..settings(&[&server.url]) });
        let pipeline = Pipeline::new(repository.clone());
        let (volume, window) = (repository.volume("v"), Window::from_vec(vec![0; 16]));
        for _ in 0..20 {
            assert_eq!(pipeline.read(&volume, 512, &window, 16).await, Ok(()));
            assert_eq!(pipeline.write(&volume, 512, &window, 16, false).await, Ok(()));
        }
        assert_eq!((volume.retries(), repository.status()[0].errors), (0, 0));
    }
}

#[tokio::test]
async fn a_kept_connection_whose_end_comes_with_the_next_request_costs_no_try() {
    // The first request of a connection is answered, the second one ends it unanswered.
    let answered = std::sync::Mutex::new(std::collections::HashSet::new());
    let server = Scripted::start(move |_, asked| {
        match answered.lock().expect("set").insert(asked.connection) {
            true => answer("206 Partial Content", &[], BYTES),
            false => vec![Do::Close],
        }
    })
    .await;
    let repository = unprobed(Settings { nb_req_retries: 0, ..settings(&[&server.url]) });
    let pipeline = Pipeline::new(repository.clone());
    let (volume, window) = (repository.volume("v"), Window::from_vec(vec![0; 16]));
    for _ in 0..5 {
        assert_eq!(pipeline.read(&volume, 512, &window, 16).await, Ok(()));
    }
    assert_eq!(server.asked().len(), 9);
}

#[tokio::test]
async fn bodies_that_eat_memory_are_refused() {
    let sized =
        |len: u64| vec![raw(format!("HTTP/1.1 200 OK\r\ncontent-length: {len}\r\n\r\n")), Do::Hang];
    let endless = || {
        let mut script = vec![raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")];
        let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 1 << 20], b"\r\n"].concat();
        script.extend((0..2).map(|_| Do::Send(chunk.clone())));
        script.push(Do::Hang);
        script
    };
    for script in [sized((1 << 20) + 1), sized(1 << 40), endless()] {
        let server = Scripted::start(move |_, _| script.clone()).await;
        let mut limits = settings(&[&server.url]);
        limits.req_timeout = Duration::from_secs(5);
        let volumes = Volumes::new(unprobed(limits));
        let error = volumes.stat("v").await.expect_err("too much");
        assert_eq!((error.errno(), error.tries()), (libc::EPROTO, 1), "{error}");
    }
    let server = Scripted::start(move |_, _| sized((64 << 20) + 1)).await;
    let error = Volumes::new(unprobed(settings(&[&server.url]))).list().await;
    assert_eq!(error.expect_err("too much").errno(), libc::EPROTO);
}

#[tokio::test]
async fn nonsense_instead_of_json_is_eproto() {
    for body in ["", "<html>", r#"{"metadata":{}}"#, r#"{"metadata":{"cdmi_size":-1}}"#] {
        let server = Scripted::start(move |_, _| answer("200 OK", &[], body)).await;
        let volumes = Volumes::new(unprobed(settings(&[&server.url])));
        assert_eq!(volumes.stat("v").await.expect_err(body).errno(), libc::EPROTO);
        assert_eq!(volumes.list().await.expect_err(body).errno(), libc::EPROTO);
    }
}
