// SPDX-License-Identifier: GPL-2.0-only
//! Requests a second over loopback, by size and number of connections:
//! `cargo bench -p srb-playground [-- SECONDS]`.
//!
//! The clients share the machine with the server, so the figures compare one build with another;
//! they are no limit of the server. Under `cargo test` each case runs for a moment only.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use srb_playground::{Config, Playground};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const VOLUME_BYTES: u64 = 256 * 1024 * 1024;

fn main() -> Outcome<()> {
    let benching = std::env::args().any(|argument| argument == "--bench");
    let seconds = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let span = Duration::from_secs_f64(seconds.unwrap_or(if benching { 3.0 } else { 0.05 }));
    let folder = tempfile::tempdir()?;
    let playground = Playground::start(Config::ephemeral(folder.path()))?;
    let address = playground.address();
    let create = format!(
        "PUT /v HTTP/1.1\r\nHost: h\r\nIf-None-Match: *\r\nX-Scal-Truncate: {VOLUME_BYTES}\r\n\r\n"
    );
    let mut client = Client::connect(address)?;
    client.turn(create.as_bytes())?;
    // Reads of a hole would not touch the page cache.
    for first in (0..VOLUME_BYTES).step_by(1 << 20) {
        client.turn(&request("PUT", first, 1 << 20))?;
    }
    println!("{:<6} {:>8} {:>12} {:>10} {:>8}", "", "bytes", "connections", "req/s", "MB/s");
    for (size, connections) in
        [(4 << 10, 1), (4 << 10, 32), (64 << 10, 1), (64 << 10, 8), (1 << 20, 1), (1 << 20, 8)]
    {
        for method in ["GET", "PUT"] {
            let rate = run(address, method, size, connections, span)?;
            let megabytes = rate * size as f64 / 1e6;
            println!("{method:<6} {size:>8} {connections:>12} {rate:>10.0} {megabytes:>8.0}");
        }
    }
    Ok(())
}

fn run(
    address: SocketAddr,
    method: &str,
    size: u64,
    connections: u64,
    span: Duration,
) -> Outcome<f64> {
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let load = |number: u64| -> Outcome<()> {
        let mut client = Client::connect(address)?;
        let mut block = number * 7919;
        // ORDERING: both atomics stand alone; the scope's end makes the count whole.
        while !stop.load(Ordering::Relaxed) {
            block = (block * 31 + 17) % (VOLUME_BYTES / size);
            client.turn(&request(method, block * size, size))?;
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    let began = Instant::now();
    thread::scope(|scope| -> Outcome<()> {
        let load = &load;
        let clients: Vec<_> =
            (0..connections).map(|number| scope.spawn(move || load(number))).collect();
        thread::sleep(span);
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().map_err(|_| "a client's thread panicked")??;
        }
        Ok(())
    })?;
    Ok(count.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64())
}

fn request(method: &str, first: u64, length: u64) -> Vec<u8> {
    let last = first + length - 1;
    let head = format!("{method} /v HTTP/1.1\r\nHost: h\r\nRange: bytes={first}-{last}\r\n");
    if method == "GET" {
        return (head + "\r\n").into_bytes();
    }
    let mut bytes = format!("{head}Content-Length: {length}\r\n\r\n").into_bytes();
    bytes.resize(bytes.len() + length as usize, 7);
    bytes
}

struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 2 << 20] })
    }

    /// Sends a request and takes all of its answer, which has to be a success.
    fn turn(&mut self, request: &[u8]) -> Outcome<()> {
        self.stream.write_all(request)?;
        let mut filled = 0;
        let (head, length) = loop {
            filled += self.read(filled)?;
            if let Some(parsed) = parse(&self.buffer[..filled])? {
                break parsed;
            }
        };
        while filled < head + length {
            filled += self.read(filled)?;
        }
        Ok(())
    }

    fn read(&mut self, at: usize) -> Outcome<usize> {
        match self.stream.read(&mut self.buffer[at..])? {
            0 => Err("the server hung up".into()),
            count => Ok(count),
        }
    }
}

/// The lengths of head and body, once the head is there.
fn parse(bytes: &[u8]) -> Outcome<Option<(usize, usize)>> {
    let Some(end) = bytes.windows(4).take(4096).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end])?;
    if !head.starts_with("HTTP/1.1 2") {
        return Err(head.into());
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    Ok(Some((end + 4, length.unwrap_or("0").parse()?)))
}
