// SPDX-License-Identifier: GPL-2.0-only
//! Servers in memory, for tests that must run the same way each time.
//!
//! Before: [`super::connect`] asks here first, in unit tests alone. After: the other end of the
//! connection goes to whoever registered the host's name on this thread.

use std::cell::RefCell;
use std::collections::HashMap;

use tokio::io::{duplex, DuplexStream};
use tokio::sync::mpsc;

use super::stream::Stream;

/// What a connection in memory holds in each direction.
const BUFFER_BYTES: usize = 64 << 10;

/// Where connections to a host go.
type Host = mpsc::UnboundedSender<DuplexStream>;

thread_local! {
    static HOSTS: RefCell<HashMap<String, Host>> = RefCell::default();
}

/// Takes the connections of this thread to `host`.
pub(crate) fn listen(host: &str) -> mpsc::UnboundedReceiver<DuplexStream> {
    let (sender, receiver) = mpsc::unbounded_channel();
    HOSTS.with_borrow_mut(|hosts| hosts.insert(host.to_owned(), sender));
    receiver
}

/// A connection to a host in memory; `None` if there is none of this name.
pub(super) fn open(host: &str) -> Option<Stream> {
    let (near, far) = duplex(BUFFER_BYTES);
    let sent = HOSTS.with_borrow(|hosts| hosts.get(host).map(|known| known.send(far)))?;
    sent.expect("the server listens as long as the test runs");
    Some(Stream::Memory(near))
}
