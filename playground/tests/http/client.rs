// SPDX-License-Identifier: GPL-2.0-only
//! A server on a folder of its own, and a client that sends and shows every byte.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use srb_playground::{Config, Playground};
use tempfile::TempDir;

/// How long a test waits for what should come at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A server and its folder, both gone when dropped.
pub(crate) struct Server {
    pub(crate) playground: Playground,
    _folder: TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::ephemeral(folder.path().join("data"));
        change(&mut config);
        Self { playground: Playground::start(config).unwrap(), _folder: folder }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.playground.address())
    }

    /// One request on a connection of its own.
    pub(crate) fn ask(&self, line: &str, headers: &[&str], body: &[u8]) -> Reply {
        self.connect().ask(line, headers, body)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.playground.datapath().join(name)
    }

    /// Makes the volume `v` of these bytes.
    pub(crate) fn volume(&self, content: &[u8]) {
        assert_eq!(self.ask("PUT /v", &["If-None-Match: *"], content).status, 201);
    }

    pub(crate) fn content(&self) -> Vec<u8> {
        std::fs::read(self.file("v")).unwrap()
    }
}

/// A connection.
pub(crate) struct Client(BufReader<TcpStream>);

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    pub(crate) fn ask(&mut self, line: &str, headers: &[&str], body: &[u8]) -> Reply {
        let mut request = format!("{line} HTTP/1.1\r\nHost: playground\r\n");
        for header in headers {
            request.push_str(header);
            request.push_str("\r\n");
        }
        if !body.is_empty() {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        self.send([request.as_bytes(), body].concat());
        self.reply(line.starts_with("HEAD"))
    }

    /// The next answer; that to a HEAD has no body whatever it says.
    pub(crate) fn reply(&mut self, to_head: bool) -> Reply {
        let head = self.head();
        let length = head.header("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; if to_head { 0 } else { length }];
        self.0.read_exact(&mut body).unwrap();
        Reply { body, ..head }
    }

    /// The next answer without what follows its head.
    pub(crate) fn head(&mut self) -> Reply {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "closed after {lines:?}");
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let status = lines.remove(0).split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, headers: lines, body: Vec::new() }
    }

    /// Whether the connection is open and nothing has come over it.
    pub(crate) fn is_silent(&mut self) -> bool {
        let stream = self.0.get_mut();
        stream.set_nonblocking(true).unwrap();
        let peeked = stream.peek(&mut [0]);
        stream.set_nonblocking(false).unwrap();
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Reads to the end of the connection; a reset is one, too.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        self.end().0
    }

    /// Reads to the end of the connection, and tells which end it was.
    pub(crate) fn end(&mut self) -> (Vec<u8>, End) {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => (rest, End::Closed),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => (rest, End::Reset),
            Err(error) => panic!("{error}"),
        }
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    Reset,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &'_ &String| {
            line.split_once(':').is_some_and(|(found, _)| found.eq_ignore_ascii_case(name))
        };
        let line = self.headers.iter().find(named)?;
        line.split_once(':').map(|(_, value)| value.trim())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Bytes that show where they belong.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index / 251 + index) as u8).collect()
}
