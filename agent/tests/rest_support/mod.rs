// SPDX-License-Identifier: GPL-2.0-only
//! What the tests of the REST half share: settings, a server on a script, and shorthands.

#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use srb_agent::base::settings::Settings;
use srb_agent::base::tuning::RestConfig;
use srb_agent::volume::Repository;
use srb_proto::command::RepositoryUrl;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

/// A request as the server on a script saw it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `METHOD PATH`.
    pub line: String,
    /// In lower case, one line each.
    pub headers: String,
    /// As long as `content-length` says.
    pub body: Vec<u8>,
    /// Number of the connection.
    pub connection: usize,
    /// Connections that had ended when it came.
    pub ended: usize,
}

impl Asked {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// What the server does.
#[derive(Clone, Debug)]
pub enum Do {
    /// Sends bytes.
    Send(Vec<u8>),
    /// Waits.
    Pause(Duration),
    /// Waits until the client has closed the connection.
    Hang,
    /// Closes the connection.
    Close,
    /// Resets the connection.
    Reset,
}

/// A server that does what its script says for each request, by its number.
pub struct Scripted {
    pub url: String,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    asked: Vec<Asked>,
    /// Scripts that were carried out, or whose connection has ended.
    done: usize,
    /// Connections that have ended.
    ended: usize,
}

impl Scripted {
    /// Starts it on the test's runtime.
    pub async fn start(script: impl Fn(usize, &Asked) -> Vec<Do> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let log: Arc<Mutex<Log>> = Arc::default();
        let (script, shared) = (Arc::new(script), Arc::clone(&log));
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (script, log) = (Arc::clone(&script), Arc::clone(&shared));
                tokio::spawn(async move {
                    serve(stream, connection, &*script, &log).await;
                    log.lock().expect("log").ended += 1;
                });
            }
        });
        Self { url, log }
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.log.lock().expect("log").asked.clone()
    }

    /// Waits until all is done that the scripts say for the requests so far.
    pub async fn idle(&self) {
        let is_idle = || {
            let log = self.log.lock().expect("log");
            log.done == log.asked.len()
        };
        let wait = async {
            while !is_idle() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(10), wait).await.expect("the script ends");
    }

    /// Their first lines.
    pub fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    script: &(impl Fn(usize, &Asked) -> Vec<Do> + ?Sized),
    log: &Mutex<Log>,
) {
    let mut unread = Vec::new();
    while let Some(mut asked) = next_request(&mut stream, &mut unread).await {
        let number = {
            let mut log = log.lock().expect("log");
            asked.connection = connection;
            asked.ended = log.ended;
            log.asked.push(asked.clone());
            log.asked.len() - 1
        };
        let goes_on = carry_out(&mut stream, script(number, &asked)).await;
        log.lock().expect("log").done += 1;
        if !goes_on {
            return;
        }
    }
}

/// Whether the connection is still there afterwards.
async fn carry_out(stream: &mut TcpStream, script: Vec<Do>) -> bool {
    for action in script {
        match action {
            Do::Send(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return false;
                }
            }
            Do::Pause(time) => sleep(time).await,
            Do::Hang => {
                let mut byte = [0];
                while matches!(stream.read(&mut byte).await, Ok(1..)) {}
                return false;
            }
            Do::Close => return false,
            Do::Reset => {
                let _ = stream.set_zero_linger();
                return false;
            }
        }
    }
    true
}

async fn next_request(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<Asked> {
    let head_end = loop {
        if let Some(at) = unread.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(unread).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&unread[..head_end]).into_owned();
    let (line, headers) = head.split_once("\r\n")?;
    let line = line.strip_suffix(" HTTP/1.1")?.to_owned();
    let headers = headers.to_lowercase().replace('\r', "");
    let mut asked = Asked { line, headers, body: Vec::new(), connection: 0, ended: 0 };
    let len: usize = asked.header("content-length").map_or(0, |len| len.parse().expect("length"));
    while unread.len() < head_end + len {
        if stream.read_buf(unread).await.ok()? == 0 {
            return None;
        }
    }
    let rest = unread.split_off(head_end + len);
    asked.body = unread.split_off(head_end);
    *unread = rest;
    Some(asked)
}

/// A whole answer with a body.
pub fn answer(status: &str, headers: &[&str], body: impl AsRef<[u8]>) -> Vec<Do> {
    let body = body.as_ref();
    let mut bytes = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len());
    headers.iter().for_each(|header| bytes.push_str(&format!("{header}\r\n")));
    bytes.push_str("\r\n");
    vec![Do::Send([bytes.as_bytes(), body].concat())]
}

/// An answer without a body.
pub fn status(status: &str) -> Vec<Do> {
    answer(status, &[], b"")
}

/// An answer to a request for the size.
pub fn size(bytes: u64) -> Vec<Do> {
    answer("200 OK", &[], format!(r#"{{"metadata":{{"cdmi_size":{bytes}}}}}"#))
}

/// Exactly these bytes, whatever they are.
pub fn raw(bytes: impl AsRef<[u8]>) -> Do {
    Do::Send(bytes.as_ref().to_vec())
}

/// Settings for tests: quick to give up.
pub fn settings(urls: &[&str]) -> Settings {
    let parse = |url: &&str| RepositoryUrl::parse(url.as_bytes()).expect("a URL");
    Settings {
        version: 1,
        urls: urls.iter().map(parse).collect(),
        req_timeout: Duration::from_millis(300),
        server_conn_timeout: Duration::from_millis(300),
        ..Settings::default()
    }
}

/// A repository that writes without a probe.
pub fn unprobed(settings: Settings) -> Arc<Repository> {
    let repository = Repository::new(RestConfig { probe: false, ..RestConfig::default() });
    repository.apply(settings);
    repository
}

/// A repository that probes.
pub fn probed(settings: Settings) -> Arc<Repository> {
    let repository = Repository::new(RestConfig::default());
    repository.apply(settings);
    repository
}

/// A URL at which nobody listens.
pub async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    format!("http://{}", listener.local_addr().expect("bound"))
}

/// Runs a test as the agent's threads run, and not for ever.
pub async fn local<T>(test: impl Future<Output = T>) -> T {
    let bounded = timeout(Duration::from_secs(60), test);
    LocalSet::new().run_until(bounded).await.expect("the test ends")
}
