// SPDX-License-Identifier: GPL-2.0-only
//! A proxy before a playground that holds requests for data back while everything else goes
//! through: a server that hangs at a moment of the test's choice.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::guest::TestResult;

/// How soon a connection notices that it may go on.
const STEP: Duration = Duration::from_millis(20);

/// See the module's documentation; ends with its owner.
pub(in crate::guest::cases) struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

// ORDERING: flags and a number that guard nothing.
#[derive(Default)]
struct State {
    holds_data: AtomicBool,
    cuts_at: Mutex<Option<&'static str>>,
    cuts: AtomicU64,
    ended: AtomicBool,
}

impl State {
    /// Whether the connection is to end at this request.
    fn cuts(&self, request: &str) -> bool {
        let word = *self.cuts_at.lock().unwrap_or_else(PoisonError::into_inner);
        let cuts = word.is_some_and(|word| request.contains(word));
        self.cuts.fetch_add(u64::from(cuts), Ordering::Relaxed);
        cuts
    }
}

impl Proxy {
    /// A proxy of the server at this port of the machine.
    pub(in crate::guest::cases) fn start(port: u16) -> TestResult<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let state = Arc::<State>::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.ended.load(Ordering::Relaxed) {
                    return;
                }
                let state = Arc::clone(&shared);
                // A connection that breaks is its client's concern.
                thread::spawn(move || serve(client, port, &state));
            }
        });
        Ok(Self { address, state })
    }

    /// Its URL, to be added.
    pub(in crate::guest::cases) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// From now on a connection ends, both ways, when a request comes whose head has this word, in
    /// lower case. Returns at once.
    pub(in crate::guest::cases) fn cut_at(&self, word: Option<&'static str>) {
        *self.state.cuts_at.lock().unwrap_or_else(PoisonError::into_inner) = word;
    }

    /// How often a connection was ended so.
    pub(in crate::guest::cases) fn cuts(&self) -> u64 {
        self.state.cuts.load(Ordering::Relaxed)
    }

    /// From now on requests for data are held back, or let through.
    pub(in crate::guest::cases) fn hold_data(&self, hold: bool) {
        self.state.holds_data.store(hold, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts; nothing else has to come of it.
        let _ = TcpStream::connect(self.address);
    }
}

/// Passes bytes on both ways; a request with a range waits as long as the proxy holds data.
fn serve(mut client: TcpStream, port: u16, state: &State) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
    let answers = thread::spawn(move || {
        // Its end, however it comes, ends the connection.
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let got = client.read(&mut buffer).unwrap_or(0);
        let Some(bytes) = buffer.get(..got).filter(|bytes| !bytes.is_empty()) else { break };
        let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
        if state.cuts(&text) {
            break;
        }
        let asks_for_data = text.contains("range: bytes");
        while asks_for_data
            && state.holds_data.load(Ordering::Relaxed)
            && !state.ended.load(Ordering::Relaxed)
        {
            thread::sleep(STEP);
        }
        if state.ended.load(Ordering::Relaxed) || server.write_all(bytes).is_err() {
            break;
        }
    }
    // What is shut down already cannot be again.
    let _ = server.shutdown(Shutdown::Both);
    let _ = answers.join();
    Ok(())
}
