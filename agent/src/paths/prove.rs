// SPDX-License-Identifier: GPL-2.0-only
//! What a server must prove before it gets a request that could destroy something there.
//!
//! Before: [`super::Client`] is about to send the first such request to a URL. After: the store
//! tries it out with requests of its own; the verdict is kept in the URL's [`super::fitness`].

use super::attempt::Attempts;
use super::fitness::Verdict;
use super::limits::Limits;
use super::path::Path;
use super::request::Request;
use crate::base::errors::Failure;

/// Requests of a store that asks a server for proof.
pub(crate) trait Prove: Request {
    /// Whether a server that is not fit for the store would destroy something by this one.
    fn needs_fit_server(&self) -> bool;

    /// Finds out whether the server at a URL is fit; `Err` if it could not be asked, or refuses all
    /// writing.
    async fn prove(tries: &Attempts, path: &Path, limits: &Limits) -> Result<Verdict, Failure>;
}
