// SPDX-License-Identifier: GPL-2.0-only
//! Where volumes live: the kinds of repositories.
//!
//! Before: [`crate::volume`] has a request whose turn it is. After: [`crate::paths`], or nothing.

pub(crate) mod cdmi;
pub(crate) mod null;
mod subject;

pub(crate) use self::subject::Subject;
