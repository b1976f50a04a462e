// SPDX-License-Identifier: GPL-2.0-only
//! From a request to its answer, with no notion of connections.
//!
//! `connection` calls [`Routes::answer`] on the connection's task; `reading` and `writing` do the
//! operations. Work on files that may wait goes to the runtime's blocking threads; pieces of up to
//! [`INLINE_BYTES`](crate::piece::INLINE_BYTES) of an open volume do not (the figures are in the
//! crate's `README.md`).

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Method, Request};
use tokio::task::spawn_blocking;

use crate::answer::{Answer, Refusal};
use crate::config::Config;
use crate::name::VolumeName;
use crate::quirks::Quirks;
use crate::store::{Store, StoreError};
use crate::target::{Prefix, Target};
use crate::upload::Upload;
use crate::volume::Volume;

/// A repository and how it answers.
#[derive(Debug)]
pub(crate) struct Routes {
    pub(crate) store: Arc<Store>,
    pub(crate) prefix: Prefix,
    pub(crate) lenient: bool,
    pub(crate) quirks: Quirks,
    pub(crate) body_timeout: Duration,
}

impl Routes {
    pub(crate) fn new(store: Store, prefix: Prefix, config: &Config) -> Self {
        Self {
            store: Arc::new(store),
            prefix,
            lenient: config.lenient,
            quirks: config.quirks.clone(),
            body_timeout: config.limits.body_timeout,
        }
    }

    /// Takes a request apart.
    pub(crate) fn open(&self, request: Request<Incoming>) -> (Parts, Upload) {
        let (head, body) = request.into_parts();
        let upload = Upload::new(body, &head.headers, self.body_timeout);
        (head, upload)
    }

    /// Does what the request asks for, or says why not.
    pub(crate) async fn answer(&self, head: &Parts, mut upload: Upload) -> Answer {
        match self.dispatch(head, &mut upload).await {
            Ok(answer) => answer,
            Err(refusal) => {
                tracing::debug!(method = %head.method, uri = %head.uri, "{}", refusal.reason());
                upload.drain().await;
                refusal.into_answer()
            }
        }
    }

    async fn dispatch(&self, head: &Parts, upload: &mut Upload) -> Result<Answer, Refusal> {
        match Target::parse(&head.uri, &self.prefix)? {
            Target::Repository => match head.method {
                Method::GET | Method::HEAD => self.list().await,
                _ => Err(Refusal::method("GET, HEAD")),
            },
            Target::Volume { name, metadata: true } => match head.method {
                Method::GET | Method::HEAD => self.metadata(&name).await,
                _ => Err(Refusal::method("GET, HEAD")),
            },
            Target::Volume { name, metadata: false } => match head.method {
                Method::GET => self.read(&name, &head.headers).await,
                Method::HEAD => self.head(&name).await,
                Method::PUT => self.put(name, &head.headers, upload).await,
                Method::DELETE => self.destroy(name).await,
                _ => Err(Refusal::method("GET, HEAD, PUT, DELETE")),
            },
        }
    }

    /// The open volume and its size.
    pub(crate) async fn find(&self, name: &VolumeName) -> Result<(Arc<Volume>, u64), Refusal> {
        if let Some(found) = self.store.cached(name) {
            return Ok(found);
        }
        let name = name.clone();
        self.on_store(move |store| store.volume(&name)).await
    }

    /// Runs `work`, which may wait for the disk, away from the connections' threads.
    pub(crate) async fn on_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Store>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let store = Arc::clone(&self.store);
        let outcome = spawn_blocking(move || work(&store)).await;
        Ok(outcome.map_err(std::io::Error::other)??)
    }
}
