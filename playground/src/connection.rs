// SPDX-License-Identifier: GPL-2.0-only
//! One client's connection, on a task of its own: from its first byte to its end.
//!
//! `server` hands the socket over; each request passes through [`Session::pass`] on its way to
//! `routes`, and the answer on its way back. Where faults are to be met, `faults` stands between
//! the two; an ending that it asks for is played here, once hyper has let go of the socket.

use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::Request;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tracing::debug;

use crate::answer::Answer;
use crate::faults::ending::Ending;
use crate::faults::{act, Faults};
use crate::routes::Routes;

/// The largest head of a request, and the largest piece in which its body is handed on.
const BUFFER_BYTES: usize = 256 * 1024;
const HEADERS: usize = 100;

/// The connection ends here, without an answer.
#[derive(Debug, thiserror::Error)]
#[error("hung up on purpose")]
struct Hangup;

/// What the requests of one connection share.
#[derive(Debug)]
struct Session {
    routes: Arc<Routes>,
    faults: Faults,
    peer: SocketAddr,
    served: AtomicU32,
    /// What a fault wants done with the socket.
    ending: Mutex<Option<Ending>>,
    /// Dropped once the last answer that the connection may carry has been handed to the socket.
    last: Mutex<Option<oneshot::Sender<()>>>,
}

impl Session {
    async fn pass(&self, request: Request<Incoming>) -> Result<Answer, Hangup> {
        // ORDERING: a count of this task alone.
        let number = self.served.fetch_add(1, Ordering::Relaxed) + 1;
        let last = self.routes.quirks.close_after.map(NonZeroU32::get);
        if last.is_some_and(|last| number > last) {
            // Sent together with the last one, and read before that one's answer was out.
            return Err(Hangup);
        }
        let began = Instant::now();
        let line = tracing::enabled!(tracing::Level::DEBUG)
            .then(|| (request.method().clone(), request.uri().clone()));
        let (head, upload) = self.routes.open(request);
        let outcome = if self.faults.armed() {
            // Boxed: it is large, and every request's future would be.
            Box::pin(act::answer(&self.faults, &self.routes, head, upload)).await
        } else {
            Ok(self.routes.answer(&head, upload).await)
        };
        let mut answer = outcome.map_err(|ending| {
            *self.ending.lock().unwrap_or_else(PoisonError::into_inner) = Some(ending);
            Hangup
        })?;
        if let Some((method, uri)) = line {
            let status = answer.status().as_u16();
            debug!(peer = %self.peer, number, %method, %uri, status, took = ?began.elapsed());
        }
        if last == Some(number) {
            if let Some(signal) = self.last.lock().unwrap_or_else(PoisonError::into_inner).take() {
                answer.body_mut().on_end(signal);
            }
        }
        Ok(answer)
    }
}

/// Serves the client until it leaves, an error or timeout, or the end of its last request once
/// `stop` has come.
pub(crate) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    routes: Arc<Routes>,
    faults: Faults,
    head_timeout: Duration,
    stop: impl Future<Output = ()>,
) {
    let closes = routes.quirks.close_after.is_some();
    let (signal, last_answer) = oneshot::channel();
    let session = Arc::new(Session {
        routes,
        faults,
        peer,
        served: AtomicU32::new(0),
        ending: Mutex::new(None),
        last: Mutex::new(Some(signal)),
    });
    let service = service_fn(|request| {
        let session = Arc::clone(&session);
        async move { session.pass(request).await }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(BUFFER_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(stop, last_answer);
    let (mut stopping, mut leaving) = (false, false);
    loop {
        tokio::select! {
            // The connection first: an answer is handed over before its end is acted on.
            biased;
            outcome = &mut connection => {
                if let Err(error) = outcome {
                    debug!(%peer, %error, "connection ended");
                }
                break;
            }
            _ = &mut last_answer, if closes && !leaving => {
                leaving = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
            () = &mut stop, if !stopping => {
                stopping = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
        }
    }
    let ending = session.ending.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(ending) = ending {
        let stream = connection.into_parts().io.into_inner();
        if let Err(error) = ending.play(stream, session.routes.body_timeout).await {
            debug!(%peer, %error, "a connection's end was not seen by its client");
        }
    }
}
