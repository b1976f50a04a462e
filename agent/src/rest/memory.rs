// SPDX-License-Identifier: GPL-2.0-only
//! Servers in memory and chance from a seed, for tests that must run the same way each time.
//!
//! Before: [`super::connect`] and [`super::backoff`] ask here first, in unit tests alone. After:
//! the other end of the connection goes to whoever registered the host's name on this thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::Rng;
use tokio::io::{duplex, AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::{connect, Failure};

/// What a connection in memory holds in each direction.
const BUFFER_BYTES: usize = 64 << 10;

/// Where connections to a host go.
type Host = mpsc::UnboundedSender<DuplexStream>;

thread_local! {
    static HOSTS: RefCell<HashMap<String, Host>> = RefCell::default();
    static CHANCE: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// Either kind of connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Memory(DuplexStream),
}

/// Takes the connections of this thread to `host`.
pub(crate) fn listen(host: &str) -> mpsc::UnboundedReceiver<DuplexStream> {
    let (sender, receiver) = mpsc::unbounded_channel();
    HOSTS.with_borrow_mut(|hosts| hosts.insert(host.to_owned(), sender));
    receiver
}

/// Makes the pauses between tries on this thread depend on `chance` alone.
pub(crate) fn seed(chance: StdRng) {
    CHANCE.set(Some(chance));
}

pub(super) fn random_up_to(bound: Duration) -> Option<Duration> {
    CHANCE.with_borrow_mut(|chance| Some(chance.as_mut()?.random_range(Duration::ZERO..=bound)))
}

/// As [`connect::connect`], to hosts of either kind.
pub(crate) async fn open(host: (&str, u16), budget: Duration) -> Result<Stream, Failure> {
    let (near, far) = duplex(BUFFER_BYTES);
    let sent = HOSTS.with_borrow(|hosts| hosts.get(host.0).map(|known| known.send(far)));
    match sent {
        Some(sent) => {
            sent.expect("the server listens as long as the test runs");
            Ok(Stream::Memory(near))
        }
        None => connect::connect(host, budget).await.map(Stream::Tcp),
    }
}

impl Stream {
    pub(super) fn set_zero_linger(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_zero_linger(),
            Self::Memory(_) => Ok(()),
        }
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Memory(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Memory(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Memory(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
