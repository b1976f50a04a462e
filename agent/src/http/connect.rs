// SPDX-License-Identifier: GPL-2.0-only
//! TCP connections to a host with any number of addresses.
//!
//! Before: [`super::pool`] has no idle connection. After: [`super::link`] speaks HTTP over it.
//! Addresses are tried in the order that the resolver gives (RFC 6724), the next one starting when
//! the one before it failed or has not succeeded within a moment, after RFC 8305; the first
//! connection wins.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{lookup_host, TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use super::lookup::{Lookup, MAX_ADDRESSES};
use super::stream::Stream;
use crate::base::errors::{ErrorKind, Failure};

/// "Connection Attempt Delay" of RFC 8305.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
/// Silence after which the kernel asks whether the other side still exists, and how often.
const KEEPALIVE_SECS: u32 = 15;

/// A connection within `budget`, by addresses that are known already if there are some; in unit
/// tests, the server may be in memory.
pub(crate) async fn open(
    host: (&str, u16),
    known: &Lookup,
    budget: Duration,
) -> Result<Stream, Failure> {
    #[cfg(test)]
    if let Some(stream) = super::memory::open(host.0) {
        return Ok(stream);
    }
    connect(host, known.fresh(), budget).await.map(Stream::Tcp)
}

/// Connects within `budget`, looking up the name included.
async fn connect(
    host: (&str, u16),
    known: Vec<SocketAddr>,
    budget: Duration,
) -> Result<TcpStream, Failure> {
    timeout(budget, connect_any(host, known)).await.unwrap_or_else(|_| {
        let text = format!("did not accept a connection within {} s", budget.as_secs_f64());
        Err(Failure::new(ErrorKind::ConnectTimeout, text))
    })
}

async fn connect_any(
    (host, port): (&str, u16),
    known: Vec<SocketAddr>,
) -> Result<TcpStream, Failure> {
    if !known.is_empty() {
        if let Ok(stream) = connect_first(known.into_iter()).await {
            return Ok(stream);
        }
    }
    let found = lookup_host((host, port)).await.map_err(|error| match shortage(&error) {
        Some(failure) => failure,
        None => unresolved(&error),
    })?;
    connect_first(found.take(MAX_ADDRESSES)).await
}

fn unresolved(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(ErrorKind::Unresolved, format!("has no address: {error}"))
}

/// The first connection to one of these.
async fn connect_first(
    mut addresses: impl Iterator<Item = SocketAddr>,
) -> Result<TcpStream, Failure> {
    let mut attempts = FuturesUnordered::new();
    let mut failure: Option<Failure> = None;
    loop {
        let more = match addresses.next() {
            Some(address) => {
                attempts.push(connect_one(address));
                true
            }
            None => false,
        };
        tokio::select! {
            Some(result) = attempts.next() => match result {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = Some(worse(failure, classify(&error))),
            },
            () = sleep(NEXT_ADDRESS_AFTER), if more => {}
            else => return Err(failure.unwrap_or_else(|| unresolved(&"the name is empty"))),
        }
    }
}

async fn connect_one(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_nodelay(true)?;
    socket.set_keepalive(true)?;
    setsockopt(&socket, sockopt::TcpKeepIdle, &KEEPALIVE_SECS)?;
    setsockopt(&socket, sockopt::TcpKeepInterval, &KEEPALIVE_SECS)?;
    socket.connect(address).await
}

/// What this machine lacks, which says nothing of the server.
fn shortage(error: &io::Error) -> Option<Failure> {
    const LACKING: [i32; 5] =
        [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS, libc::EADDRNOTAVAIL];
    error.raw_os_error().filter(|errno| LACKING.contains(errno))?;
    let text = format!("was not asked, this machine has nothing left to connect with: {error}");
    Some(Failure::new(ErrorKind::Shortage, text))
}

fn classify(error: &io::Error) -> Failure {
    if let Some(failure) = shortage(error) {
        return failure;
    }
    let (kind, text) = match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            (ErrorKind::Refused, "refused the connection".to_owned())
        }
        io::ErrorKind::TimedOut => {
            (ErrorKind::ConnectTimeout, "did not accept a connection".to_owned())
        }
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => {
            (ErrorKind::Refused, format!("broke the connection off: {error}"))
        }
        _ => (ErrorKind::Unreachable, format!("cannot be reached: {error}")),
    };
    Failure::new(kind, text)
}

/// Of two addresses' failures, the one that comes from nearer to the server; but an address that
/// was never asked leaves open whether the server is there.
fn worse(one: Option<Failure>, other: Failure) -> Failure {
    match one {
        _ if other.kind == ErrorKind::Shortage => other,
        Some(one) if one.kind == ErrorKind::Shortage => one,
        Some(one) if one.kind >= other.kind => one,
        _ => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> Vec<SocketAddr> {
        Vec::new()
    }

    #[tokio::test]
    async fn what_is_known_of_a_name_is_used_and_not_relied_on() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let budget = Duration::from_secs(5);
        let host = ("no-such-host.invalid", address.port());
        let stream = open(host, &Lookup::of(vec![address]), budget).await;
        assert!(stream.is_ok(), "nobody had to be asked for its address");
        // The host has another address meanwhile.
        let stale = "127.0.0.2:1".parse().expect("an address");
        let host = ("127.0.0.1", address.port());
        let stream = connect(host, vec![stale], budget).await.expect("looked up again");
        assert_eq!(stream.peer_addr().expect("peer"), address);
    }

    #[tokio::test]
    async fn the_next_address_is_tried() {
        // `localhost` may resolve to ::1 and 127.0.0.1; the server listens on the latter alone.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let stream =
            connect(("localhost", port), none(), Duration::from_secs(5)).await.expect("connected");
        assert!(stream.nodelay().expect("socket"));
        assert_eq!(stream.peer_addr().expect("peer").port(), port);
    }

    #[tokio::test]
    async fn refused() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        drop(listener);
        let failure =
            connect(("127.0.0.1", port), none(), Duration::from_secs(5)).await.expect_err("closed");
        assert_eq!(failure.kind, ErrorKind::Refused);
    }

    #[tokio::test]
    async fn no_such_name() {
        let budget = Duration::from_secs(20);
        let failure =
            connect(("no-such-host.invalid", 1), none(), budget).await.expect_err("RFC 6761");
        assert_eq!(failure.kind, ErrorKind::Unresolved);
    }

    #[test]
    fn what_this_machine_lacks_says_nothing_of_the_server() {
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS, libc::EADDRNOTAVAIL]
        {
            let lacking = || classify(&io::Error::from_raw_os_error(errno));
            assert_eq!(lacking().kind, ErrorKind::Shortage);
            let refused = || classify(&io::Error::from_raw_os_error(libc::ECONNREFUSED));
            assert_eq!(worse(Some(lacking()), refused()).kind, ErrorKind::Shortage);
            assert_eq!(worse(Some(refused()), lacking()).kind, ErrorKind::Shortage);
        }
        let unreachable = classify(&io::Error::from_raw_os_error(libc::ENETUNREACH));
        assert_eq!(unreachable.kind, ErrorKind::Unreachable);
    }

    #[test]
    fn of_two_addresses_the_one_that_got_further_is_told() {
        let failure = |errno| classify(&io::Error::from_raw_os_error(errno));
        let nearness = [libc::ENETUNREACH, libc::ECONNREFUSED, libc::ETIMEDOUT];
        for (further, one) in nearness.iter().enumerate() {
            for other in &nearness[..further] {
                let kind = failure(*one).kind;
                assert_eq!(worse(Some(failure(*one)), failure(*other)).kind, kind);
                assert_eq!(worse(Some(failure(*other)), failure(*one)).kind, kind);
            }
        }
        assert_eq!(worse(None, failure(libc::ECONNREFUSED)).kind, ErrorKind::Refused);
    }

    #[tokio::test]
    async fn no_route() {
        // Multicast addresses cannot be connected to.
        let failure =
            connect(("224.0.0.1", 1), none(), Duration::from_secs(5)).await.expect_err("no way");
        assert_eq!(failure.kind, ErrorKind::Unreachable);
    }

    #[tokio::test]
    async fn no_time() {
        // A listener whose queue is full drops further connections.
        let socket = TcpSocket::new_v4().expect("socket");
        socket.bind("127.0.0.1:0".parse().expect("address")).expect("loopback");
        let listener = socket.listen(1).expect("listening");
        let port = listener.local_addr().expect("bound").port();
        let mut waiting = Vec::new();
        for _ in 0..8 {
            match connect(("127.0.0.1", port), none(), Duration::from_millis(200)).await {
                Ok(stream) => waiting.push(stream),
                Err(failure) => {
                    assert_eq!(failure.kind, ErrorKind::ConnectTimeout);
                    return;
                }
            }
        }
        panic!("the queue took {} connections", waiting.len());
    }
}
