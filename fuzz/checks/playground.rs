// SPDX-License-Identifier: GPL-2.0-only
//! What must hold for any bytes that a client or an operator gives the playground. The fuzz targets
//! run these, and so does `playground/tests/hostile.rs` on the seeds and on random bytes.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use srb_playground::{Config, Plan, Playground};

/// No answer takes as long.
const BOUND: Duration = Duration::from_secs(5);
/// Beside the folder of the volumes: nothing that a client says reaches it.
const OUTSIDE: &str = "outside";
/// The request of a client that does nothing wrong.
const NEXT: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
/// Bytes of an answer after which the client hangs up: a volume may be as large as it likes.
const ENOUGH: u64 = 1 << 20;
/// Volumes that inputs have made are removed when there are so many.
const MANY: usize = 50;

struct Server {
    folder: tempfile::TempDir,
    playground: Playground,
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(OUTSIDE), OUTSIDE).expect("a file");
        let config = Config::ephemeral(folder.path().join("data"));
        let playground = Playground::start(config).expect("a playground");
        Server { folder, playground }
    })
}

/// Sends bytes, and with `ends` that no more come; returns all that comes back, or [`ENOUGH`].
fn exchange(address: &str, bytes: &[u8], ends: bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(BOUND)).expect("a time-out");
    // It may have closed the connection before it was sent all.
    let _ = stream.write_all(bytes);
    if ends {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    match stream.take(ENOUGH).read_to_end(&mut answer) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            panic!("neither an answer nor the end after {BOUND:?}: {answer:?}")
        }
        // A reset is an end, too.
        _ => answer,
    }
}

/// Bytes that a client sends: they are answered or the connection is closed, in time; nothing
/// outside the folder changes, and the next client is served.
pub(crate) fn requests(data: &[u8]) {
    let Server { folder, playground } = server();
    let address = playground.url().trim_start_matches("http://").trim_end_matches('/');
    let answer = exchange(address, data, true);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{answer:?}");
    let next = exchange(address, NEXT, false);
    assert!(next.starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&next));
    let outside = names(folder.path());
    assert_eq!(outside, ["data", OUTSIDE], "beside the folder");
    assert_eq!(fs::read(folder.path().join(OUTSIDE)).expect("it is there"), OUTSIDE.as_bytes());
    let data = folder.path().join("data");
    let made = names(&data);
    if made.len() > MANY {
        made.iter().for_each(|name| remove(&data.join(name)));
    }
}

/// An upload that was cut off may remove its file first.
fn remove(file: &Path) {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => panic!("{}: {error}", file.display()),
        _ => {}
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<_> =
        entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A plan of faults, as an operator types it: refused with a reason, or shown as what parses to the
/// same.
pub(crate) fn plans(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<Plan>() {
        Ok(plan) => {
            let shown = plan.to_string();
            let again = shown.parse::<Plan>();
            assert_eq!(again.as_ref().map(Plan::to_string), Ok(shown.clone()), "{shown}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
