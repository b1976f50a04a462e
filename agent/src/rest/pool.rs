// SPDX-License-Identifier: GPL-2.0-only
//! Idle connections of one worker to one URL: last in, first out, so that those which are not
//! needed grow old.
//!
//! Before: [`super::Client`] wants a connection. After: one that is alive as far as anybody has
//! heard, or none.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::link::Link;
use crate::repository::{RestConfig, Url};

/// The connections.
pub(crate) struct Pool {
    url: Arc<Url>,
    most: usize,
    oldest: Duration,
    /// The oldest one at the front.
    idle: RefCell<VecDeque<(Instant, Link)>>,
}

impl Pool {
    pub(crate) fn new(url: Arc<Url>, config: &RestConfig) -> Self {
        let (most, oldest) = (config.idle_connections, config.idle_timeout);
        Self { url, most, oldest, idle: RefCell::default() }
    }

    pub(crate) const fn url(&self) -> &Arc<Url> {
        &self.url
    }

    /// The connection that was used last.
    pub(crate) async fn take(&self) -> Option<Link> {
        loop {
            let (since, mut link) = self.idle.borrow_mut().pop_back()?;
            if since.elapsed() >= self.oldest {
                // All others are older.
                self.idle.borrow_mut().clear();
                return None;
            }
            if link.is_alive().await {
                return Some(link);
            }
        }
    }

    /// Keeps a connection for later.
    pub(crate) fn keep(&self, link: Link) {
        let mut idle = self.idle.borrow_mut();
        idle.push_back((Instant::now(), link));
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

    async fn link(listener: &TcpListener) -> (Link, TcpStream) {
        let address = listener.local_addr().expect("bound");
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        let mut link = Link::new(near.expect("connected")).await.expect("handshake");
        assert!(link.is_alive().await);
        (link, far.expect("accepted").0)
    }

    fn pool(idle_connections: usize) -> Pool {
        let config = RestConfig { idle_connections, ..RestConfig::default() };
        Pool::new(Arc::new(Url::new("http://a")), &config)
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
            let (near, other) = link(&listener).await;
            pool.keep(near);
            far.push(other);
        }
        far[0].readable().await.expect("end");
        assert_eq!(closed(&far), [true, false, false]);
        drop(pool.take().await.expect("the third one"));
        far[2].readable().await.expect("end");
        assert_eq!(closed(&far), [true, false, true]);
    }

    #[tokio::test]
    async fn dead_ones_are_skipped() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let pool = pool(4);
        let (one, _far_one) = link(&listener).await;
        let (two, far_two) = link(&listener).await;
        pool.keep(one);
        pool.keep(two);
        drop(far_two);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(pool.take().await.is_some());
        assert!(pool.take().await.is_none());
    }

    #[tokio::test]
    async fn old_ones_are_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let pool = pool(4);
        let (one, far_one) = link(&listener).await;
        let (two, far_two) = link(&listener).await;
        pool.keep(one);
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(29)).await;
        pool.keep(two);
        pool.close_idle();
        assert_eq!(pool.idle.borrow().len(), 2);
        tokio::time::advance(Duration::from_secs(2)).await;
        pool.close_idle();
        assert_eq!(pool.idle.borrow().len(), 1);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(pool.take().await.is_none());
        tokio::time::resume();
        for far in [&far_one, &far_two] {
            far.readable().await.expect("end");
        }
    }
}
