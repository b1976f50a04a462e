// SPDX-License-Identifier: GPL-2.0-only
//! The URLs of one repository, and a request's way through them.
//!
//! Before: a store has a [`Request`]. After: [`crate::http`] carries one try of it, on a connection
//! to one URL. [`Paths`] is the list of URLs with what is known of each (`url`: `health`,
//! `fitness`, `counters`); a [`Client`] is one thread's way through them: `state` says which URL is
//! best, `reading` sends a read to the fastest, `limits` and `backoff` say when and how long,
//! `attempt` is one try and `hedge` two at a time, and `tries` keeps what became of them. Beside:
//! `prober` asks what is down, and `progress` shows others how far a request is.
//!
//! Nothing in here knows what is asked: that is the store's ([`request`]).
//!
//! # Who owns what
//! All threads share [`Paths`] and each URL; a client, its connections and its copy of the state
//! belong to one thread. The copy is renewed when the epoch has changed, which is one load.
//!
//! # Locks
//! The state's, then the news' (to publish what changed reads the state); of a URL, one for its
//! last error, and one held by whoever finds out whether it is fit, while others wait for that. The
//! last one alone is held while a server is waited for.
//!
//! # Errors
//! A try ends in a [`crate::base::errors::Failure`]; `ErrorKind::rule` says whether another one
//! follows. A request fails when no URL is left to try: each has failed it `nb_req_retries + 1`
//! times, or refused it for good; or when the time for all tries is over, which bounds every wait.

mod attempt;
mod backoff;
mod client;
mod counters;
mod fitness;
mod health;
mod hedge;
pub(crate) mod limits;
mod list;
mod path;
mod prober;
mod progress;
mod prove;
mod reading;
pub(crate) mod request;
mod state;
mod tries;
mod url;

pub(crate) use self::attempt::Attempts;
pub(crate) use self::client::Client;
pub(crate) use self::fitness::Verdict;
pub use self::health::UrlState;
pub(crate) use self::limits::budget;
pub use self::list::{Paths, UrlNews};
pub(crate) use self::path::Path;
pub(crate) use self::prober::Prober;
pub use self::progress::{Progress, Seen};
pub(crate) use self::prove::Prove;
pub(crate) use self::request::{Request, TryObserver, Watch};
pub(crate) use self::state::Route;
pub use self::url::UrlStatus;
