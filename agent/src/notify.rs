// SPDX-License-Identifier: GPL-2.0-only
//! Tells the supervisor how far the agent has come, as sd_notify(3) describes it.
//!
//! Called from the main thread; without a `NOTIFY_SOCKET` in the environment nothing happens.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// All devices that the module has are served.
pub const READY: &str = "READY=1";
/// The agent is about to end.
pub const STOPPING: &str = "STOPPING=1";

/// Sends `state` to the supervisor, if there is one.
pub fn notify(state: &str) {
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET") {
        if let Err(error) = send(&socket, state) {
            tracing::warn!("cannot tell the supervisor {state}: {error}");
        }
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).expect("bound");
        let name = format!("srb-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let by_name = UnixDatagram::bind_addr(&address).expect("bound");
        for (socket, at) in [(by_path, path.into_os_string()), (by_name, format!("@{name}").into())]
        {
            send(&at, READY).expect("sent");
            let mut buffer = [0; 16];
            let len = socket.recv(&mut buffer).expect("received");
            assert_eq!(&buffer[..len], b"READY=1");
        }
        assert!(send(OsStr::new("/nonexistent/socket"), READY).is_err());
    }
}
