// SPDX-License-Identifier: GPL-2.0-only
//! HTTP/1.1 on a connection.
//!
//! Before: [`crate::paths`] have chosen a URL, and asks [`pool::Pool`] for a connection to it;
//! there is an idle one, or [`connect`] makes one, by addresses that [`lookup`] knows. After: the
//! socket. A [`link::Link`] sends the head of a request and the data after it, and receives an
//! answer into a [`sink::Sink`]. Below a link: `stream` (its socket), `buffer` (what has come),
//! `head` and `body` (what that is); beside it, `alarm` (its timer). `target` and `digits` are what
//! heads of requests are made of.
//!
//! Nothing in here knows what is asked, of which volume, or which URL is asked next.
//!
//! # Who owns what
//! A connection belongs to one thread: to its pool, or to the future of the request that uses it.
//! No task stands behind it, so a request that is dropped leaves nothing that could touch a window;
//! its connection is closed with it. [`lookup::Lookup`] belongs to a URL, and all threads share it.
//!
//! # Locks
//! That of a `Lookup`, for a copy; nothing is awaited under it.
//!
//! # Errors
//! [`crate::base::errors::Failure`], with a kind that says whether the server may have had the
//! request. Whether a connection had ended before anything was sent is told apart ([`link::Lost`]).

pub(crate) mod alarm;
pub(crate) mod body;
mod buffer;
pub(crate) mod connect;
pub(crate) mod digits;
pub(crate) mod head;
pub(crate) mod link;
pub(crate) mod lookup;
#[cfg(test)]
pub(crate) mod memory;
pub(crate) mod pool;
pub(crate) mod sink;
pub(crate) mod stream;
pub(crate) mod target;
