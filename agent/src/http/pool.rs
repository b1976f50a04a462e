// SPDX-License-Identifier: GPL-2.0-only
//! Idle connections of one worker to one URL: last in, first out, so that those which are not
//! needed grow old.
//!
//! Before: a try wants a connection. After: the one that was used last, or none.
//! Whether it has ended meanwhile shows when a request is handed to it, before anything is sent.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::alarm::Alarm;
use super::link::Link;
use super::stream::Stream;

/// A connection, and what bounds the time of its requests.
pub(crate) struct Connection {
    pub(crate) link: Link,
    pub(crate) alarm: Alarm,
}

impl Connection {
    /// HTTP over a fresh connection.
    pub(crate) fn new(stream: Stream) -> Box<Self> {
        Box::new(Self { link: Link::new(stream), alarm: Alarm::new() })
    }
}

/// The connections.
pub(crate) struct Pool {
    most: usize,
    oldest: Duration,
    /// The oldest one at the front.
    idle: RefCell<VecDeque<(Instant, Box<Connection>)>>,
}

impl Pool {
    /// No connections yet; `most` of them, none idle for longer than `oldest`.
    pub(crate) fn new(most: usize, oldest: Duration) -> Self {
        Self { most, oldest, idle: RefCell::default() }
    }

    /// The connection that was used last.
    pub(crate) fn take(&self, now: Instant) -> Option<Box<Connection>> {
        let mut idle = self.idle.borrow_mut();
        let (since, connection) = idle.pop_back()?;
        if now.saturating_duration_since(since) >= self.oldest {
            // All others are older.
            idle.clear();
            return None;
        }
        Some(connection)
    }

    /// Keeps a connection for later.
    pub(crate) fn keep(&self, connection: Box<Connection>, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        idle.push_back((now, connection));
        while idle.len() > self.most {
            idle.pop_front();
        }
    }

    /// Closes all.
    pub(crate) fn close_all(&self) {
        self.idle.borrow_mut().clear();
    }

    /// Closes those that are too old.
    pub(crate) fn close_idle(&self) {
        let mut idle = self.idle.borrow_mut();
        while idle.front().is_some_and(|(since, _)| since.elapsed() >= self.oldest) {
            idle.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpStream};

    async fn connection(listener: &TcpListener) -> (Box<Connection>, TcpStream) {
        let address = listener.local_addr().expect("bound");
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        let near = Connection::new(Stream::Tcp(near.expect("connected")));
        (near, far.expect("accepted").0)
    }

    fn pool(most: usize) -> Pool {
        Pool::new(most, Duration::from_secs(30))
    }

    /// How many connections of the pool the other side has seen end.
    fn closed(far: &[TcpStream]) -> Vec<bool> {
        let ended = |far: &TcpStream| matches!(far.try_read(&mut [0; 8]), Ok(0));
        far.iter().map(ended).collect()
    }

    #[tokio::test]
    async fn bounded_and_last_in_first_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let (pool, mut far) = (pool(2), Vec::new());
        for _ in 0..3 {
            let (near, other) = connection(&listener).await;
            pool.keep(near, Instant::now());
            far.push(other);
        }
        far[0].readable().await.expect("end");
        assert_eq!(closed(&far), [true, false, false]);
        drop(pool.take(Instant::now()).expect("the third one"));
        far[2].readable().await.expect("end");
        assert_eq!(closed(&far), [true, false, true]);
    }

    #[tokio::test]
    async fn old_ones_are_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let pool = pool(4);
        let (one, far_one) = connection(&listener).await;
        let (two, far_two) = connection(&listener).await;
        pool.keep(one, Instant::now());
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(29)).await;
        pool.keep(two, Instant::now());
        pool.close_idle();
        assert_eq!(pool.idle.borrow().len(), 2);
        tokio::time::advance(Duration::from_secs(2)).await;
        pool.close_idle();
        assert_eq!(pool.idle.borrow().len(), 1);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(pool.take(Instant::now()).is_none());
        tokio::time::resume();
        for far in [&far_one, &far_two] {
            far.readable().await.expect("end");
        }
    }
}
