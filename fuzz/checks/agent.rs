// SPDX-License-Identifier: GPL-2.0-only
//! What must hold for any bytes that a server or an administrator gives the agent. The fuzz targets
//! run these, and so does `agent/tests/hostile.rs` on the seeds and on random bytes.

use std::cell::RefCell;
use std::fs;
use std::rc::Rc;
use std::time::Duration;

use srb_agent::base::settings::Settings;
use srb_agent::base::tuning::RestConfig;
use srb_agent::base::window::Window;
use srb_agent::process::config::{Arguments, Config};
use srb_agent::volume::{Pipeline, Repository, Volumes};
use srb_proto::command::{self, RepositoryUrl};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::LocalSet;
use tokio::time::timeout;

/// Bytes that are asked for.
const ASKED: usize = 64;
/// Of the window that they go to.
const WINDOW: usize = 128;
const UNTOUCHED: u8 = 0xa5;
/// Kinds of requests, and which of them asks for the names.
const KINDS: u8 = 4;
const LISTING: u8 = 2;
/// The server closes after its answer, so nothing waits for a time-out.
const REQ_TIMEOUT: Duration = Duration::from_secs(5);
const BOUND: Duration = Duration::from_secs(4);

/// Bytes that a server answers with before it closes the connection: a request ends, soon, with
/// what was asked for or with an error; a read leaves the rest of its window alone.
///
/// The first byte says what is asked.
pub(crate) fn answers(data: &[u8]) {
    let Some((kind, answer)) = data.split_first() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let asked = ask(*kind, &url, answer);
        let served = Rc::new(RefCell::new(0u32));
        let server = serve(listener, answer, Rc::clone(&served));
        tokio::select! {
            outcome = timeout(BOUND, asked) => outcome.expect("it ends"),
            () = server => unreachable!("the server goes on"),
        }
        // A fresh connection is asked once; a listing may name what is to be deleted.
        let most = if kind % KINDS == LISTING { 3 } else { 1 };
        assert!(*served.borrow() <= most, "asked {} times", served.borrow());
    });
}

/// Gives every connection the answer, once it has sent something.
async fn serve(listener: TcpListener, answer: &[u8], served: Rc<RefCell<u32>>) {
    loop {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut request = [0; 4096];
        if !matches!(stream.read(&mut request).await, Ok(1..)) {
            continue;
        }
        *served.borrow_mut() += 1;
        // The client may have seen enough.
        let _ = stream.write_all(answer).await;
        let _ = stream.shutdown().await;
        // What it still sends is read, so that the close is no reset.
        while matches!(stream.read(&mut request).await, Ok(1..)) {}
    }
}

async fn ask(kind: u8, url: &str, answer: &[u8]) {
    let rest = RestConfig { probe: false, settle: Duration::ZERO, ..RestConfig::default() };
    let repository = Repository::new(rest);
    let url = RepositoryUrl::parse(url.as_bytes()).expect("a URL");
    repository.apply(Settings {
        version: 1,
        urls: vec![url],
        req_timeout: REQ_TIMEOUT,
        nb_req_retries: 0,
        ..Settings::default()
    });
    let pipeline = Pipeline::new(repository.clone());
    let volume = repository.volume("v");
    let window = Window::from_vec(vec![UNTOUCHED; WINDOW]);
    match kind % KINDS {
        0 => {
            let read = pipeline.read(&volume, 4096, &window, ASKED).await;
            let bytes = window.to_vec(WINDOW);
            assert!(
                bytes.iter().skip(ASKED).all(|byte| *byte == UNTOUCHED),
                "beyond what was asked"
            );
            // The bytes came from somewhere.
            assert!(read.is_err() || answer.len() >= ASKED, "{read:?}");
        }
        1 => {
            let _ = pipeline.write(&volume, 4096, &window, ASKED, false).await;
            assert!(window.to_vec(WINDOW).iter().all(|byte| *byte == UNTOUCHED), "it was written");
        }
        LISTING => {
            for name in Volumes::new(repository).list().await.unwrap_or_default() {
                assert_eq!(command::parse_volume(name.as_bytes()), Ok(&*name), "{name:?}");
            }
        }
        _ => {
            let _ = Volumes::new(repository).stat("v").await;
        }
    }
}

/// Bytes in the configuration file: they are refused with a reason, or within what is allowed.
pub(crate) fn configuration(data: &[u8]) {
    thread_local! {
        static FILE: tempfile::NamedTempFile = tempfile::NamedTempFile::new().expect("a file");
    }
    FILE.with(|file| {
        fs::write(file.path(), data).expect("written");
        let arguments = Arguments { config: Some(file.path().into()), ..Arguments::default() };
        match Config::load(&arguments) {
            Ok(config) => assert!((-1000..=1000).contains(&config.oom_score_adj)),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
}
