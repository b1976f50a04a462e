// SPDX-License-Identifier: GPL-2.0-only
//! What the tries need of a request, and who may follow them.
//!
//! A store has a type for what it asks of a server; [`super::Client`] carries it through its tries
//! without knowing what that is. One type for each store: all of it is resolved when it is
//! compiled.

use std::fmt;

use super::progress::Progress;
use crate::base::errors::Failure;
use crate::base::window::Io;
use crate::http::head::Head;
use crate::http::link::{Link, Rest};
use crate::http::target::Target;

/// What one HTTP request does. To repeat it must be harmless by itself.
pub(crate) trait Request: fmt::Display {
    /// What it brings.
    type Reply;

    /// Writes the head of the request, in origin form; what `out` had is forgotten.
    fn write_head(&self, target: &Target, out: &mut Vec<u8>);

    /// What is sent after the head.
    fn body(&self) -> Option<&Io<'_>>;

    /// Reads an answer to its end. Says whether its connection can be used again.
    async fn receive(&self, link: &mut Link, head: &Head) -> (Result<Self::Reply, Failure>, Rest);

    /// Whether it reads data: it may go to whichever URL is fast, and to two of them.
    fn is_read(&self) -> bool;

    /// Data bytes read and written.
    fn data_bytes(&self) -> (u64, u64);

    /// Another try of it follows.
    fn is_tried_again(&self);
}

/// Who must know, while a request is tried, whether a server may still carry it out.
pub(crate) trait TryObserver {
    /// A try begins. One before it that did not end was dropped.
    fn begin_try(&self);

    /// A try was answered, or nothing was sent: it has landed or will not.
    fn end_try(&self);

    /// A try is over, its connection closed or its answer an excuse, and it may still land.
    fn abandon_try(&self);
}

/// Who follows a request through its tries.
#[derive(Debug)]
pub(crate) struct Watch<'a, O> {
    /// For those who want to know how far it is.
    pub(crate) progress: Option<&'a Progress>,
    /// Of what changes a volume: holds back what must not meet it while a try may still land.
    pub(crate) observer: Option<&'a O>,
    /// On the paths' clock, if it had to wait for its turn: since when. Its time counts from there.
    pub(crate) since_ms: Option<u64>,
}

impl<O> Default for Watch<'_, O> {
    fn default() -> Self {
        Self { progress: None, observer: None, since_ms: None }
    }
}
