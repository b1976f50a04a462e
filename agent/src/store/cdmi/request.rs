// SPDX-License-Identifier: GPL-2.0-only
//! An operation, as the tries see it.
//!
//! Before: [`crate::paths`] make a try. After: [`super::operation`] says what is sent, and
//! [`super::answer`] what comes back.

use super::answer::{self, Reply};
use super::operation::Operation;
use crate::base::errors::Failure;
use crate::base::window::Io;
use crate::http::head::Head;
use crate::http::link::{Link, Rest};
use crate::http::target::Target;
use crate::paths::Request;

impl Request for Operation<'_> {
    type Reply = Reply;

    fn write_head(&self, target: &Target, out: &mut Vec<u8>) {
        Self::write_head(self, target, out);
    }

    fn body(&self) -> Option<&Io<'_>> {
        match self {
            Self::Write(_, io) => Some(io),
            _ => None,
        }
    }

    async fn receive(&self, link: &mut Link, head: &Head) -> (Result<Reply, Failure>, Rest) {
        answer::receive(link, self, head).await
    }

    fn is_read(&self) -> bool {
        matches!(self, Self::Read(..))
    }

    fn data_bytes(&self) -> (u64, u64) {
        match self {
            Self::Read(_, io) => (io.len as u64, 0),
            Self::Write(_, io) => (0, io.len as u64),
            _ => (0, 0),
        }
    }

    fn is_tried_again(&self) {
        if let Some(volume) = self.volume() {
            volume.count_retry();
        }
    }
}
