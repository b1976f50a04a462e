// SPDX-License-Identifier: GPL-2.0-only
//! An HTTP server that answers as a test tells it to, and can pass requests on to a playground.
//!
//! A thread accepts, and one serves each connection; all of them end with the [`Server`].

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::guest::wait::wait_until;
use crate::guest::TestResult;

/// How long the agent may take to send a request.
const REQUEST: Duration = Duration::from_secs(15);

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// `GET`, `PUT` or `DELETE`.
    pub(super) method: String,
    /// With the query.
    pub(super) path: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    /// A header's value; its name is in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether it sets the size of this volume.
    pub(super) fn sets_size_of(&self, volume: &str) -> bool {
        self.method == "PUT"
            && self.path == format!("/{volume}")
            && self.header("x-scal-truncate").is_some()
    }

    fn read(from: &mut impl BufRead) -> Option<Self> {
        let mut line = String::new();
        from.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, path) = (words.next()?, words.next()?);
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            from.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut request = Self { method, path, headers, body: Vec::new() };
        let len = request.header("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
        request.body.resize(len, 0);
        from.read_exact(&mut request.body).ok()?;
        Some(request)
    }
}

/// What is to be answered.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// A status, headers (each with its line's end) and a body.
    Http(&'static str, String, Vec<u8>),
    /// These bytes, and then the connection's end.
    Raw(&'static str),
    /// What the server on this port says.
    Of(u16),
    /// Nothing, for as long as the client waits.
    Silence,
}

impl Answer {
    /// A status such as `507 Insufficient Storage`.
    pub(super) fn status(status: &'static str) -> Self {
        Self::Http(status, String::new(), Vec::new())
    }

    /// 200 with this text.
    pub(super) fn text(text: &str) -> Self {
        Self::Http("200 OK", String::new(), text.as_bytes().to_vec())
    }
}

type Behaviour = Arc<dyn Fn(&Request) -> Answer + Send + Sync>;

struct Shared {
    behaviour: Mutex<Behaviour>,
    requests: Mutex<Vec<Request>>,
    connections: Mutex<Vec<TcpStream>>,
    ended: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The server.
pub(super) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// One that answers every request as `behaviour` says, on any port of 127.0.0.1.
    pub(super) fn start(
        behaviour: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> TestResult<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(Arc::new(behaviour)),
            requests: Mutex::default(),
            connections: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let accepting = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Ok(Self { address, shared, accepting: Some(accepting) })
    }

    /// One that never answers.
    pub(super) fn silent() -> TestResult<Self> {
        Self::start(|_| Answer::Silence)
    }

    /// One that answers everything with this status.
    pub(super) fn of_status(status: &'static str) -> TestResult<Self> {
        Self::start(move |_| Answer::status(status))
    }

    /// Answers further requests in another way.
    pub(super) fn behave(&self, behaviour: impl Fn(&Request) -> Answer + Send + Sync + 'static) {
        *lock(&self.shared.behaviour) = Arc::new(behaviour);
    }

    /// Its URL, in canonical form.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was asked so far.
    pub(super) fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }

    /// How many requests came so far.
    pub(super) fn count(&self) -> usize {
        lock(&self.shared.requests).len()
    }

    /// Waits for a request of this kind.
    pub(super) fn wait_for(&self, what: &str, is_it: impl Fn(&Request) -> bool) -> TestResult {
        wait_until(what, REQUEST, || lock(&self.shared.requests).iter().any(&is_it))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        for connection in lock(&self.shared.connections).drain(..) {
            // One that the client has closed is as good.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for connection in listener.incoming().flatten() {
        if shared.ended.load(Ordering::SeqCst) {
            return;
        }
        if let Ok(copy) = connection.try_clone() {
            lock(&shared.connections).push(copy);
        }
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            // The client may go away whenever it likes.
            let _ = serve(&connection, &shared);
            let _ = connection.shutdown(Shutdown::Both);
        });
    }
}

fn serve(mut connection: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut from = BufReader::new(connection);
    while let Some(request) = Request::read(&mut from) {
        lock(&shared.requests).push(request.clone());
        let behaviour = Arc::clone(&lock(&shared.behaviour));
        match behaviour(&request) {
            Answer::Http(status, headers, body) => {
                let len = body.len();
                let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {len}\r\n\r\n");
                connection.write_all(&[head.into_bytes(), body].concat())?;
            }
            Answer::Raw(text) => return connection.write_all(text.as_bytes()),
            Answer::Of(port) => return connection.write_all(&ask(port, &request)?),
            Answer::Silence => return from.read_to_end(&mut Vec::new()).map(drop),
        }
    }
    Ok(())
}

/// The whole answer of another server.
fn ask(port: u16, request: &Request) -> std::io::Result<Vec<u8>> {
    let mut upstream = TcpStream::connect(("127.0.0.1", port))?;
    let mut head = format!("{} {} HTTP/1.1\r\nConnection: close\r\n", request.method, request.path);
    for (name, value) in &request.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    upstream.write_all(&[head.as_bytes(), &request.body].concat())?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer)?;
    Ok(answer)
}
