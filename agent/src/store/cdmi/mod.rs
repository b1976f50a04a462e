// SPDX-License-Identifier: GPL-2.0-only
//! Volumes as files on a CDMI server: read and written in place, by ranges.
//!
//! Before: [`crate::volume`] makes an [`Operation`]. After: [`crate::paths`] carry it through its
//! tries; [`answer`] says what came of one, and [`listing`] reads the JSON in it. [`probe`] proves
//! that a server honours ranges, before anything is written to it.
//!
//! # Errors
//! The table of statuses is `answer`'s; what is no answer to what was asked is
//! [`crate::base::errors::ErrorKind::Protocol`].

mod answer;
mod listing;
mod operation;
pub(crate) mod probe;
mod request;

pub(crate) use self::answer::Reply;
pub(crate) use self::operation::Operation;

#[cfg(test)]
mod tests;
