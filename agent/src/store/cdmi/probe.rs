// SPDX-License-Identifier: GPL-2.0-only
//! The proof that a server honours ranges, before anything is written to it.
//!
//! Before: [`crate::paths::Client`] is about to send its first write, create or change of size to a
//! URL. After: the verdict is kept in the URL's `fitness`, for all threads. A server that knows
//! nothing of ranges takes a ranged PUT as "replace the whole file" and destroys a volume; here it
//! only destroys a scratch volume.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::answer::Reply;
use super::operation::Operation;
use crate::base::errors::{ErrorKind, Failure};
use crate::base::window::{Io, Window};
use crate::paths::limits::Limits;
use crate::paths::{Attempts, Path, Prove, Verdict};
use crate::store::subject::Subject;

/// Begins the name of every scratch volume. Then come the seconds since 1970 and something nobody
/// guesses.
pub(crate) const PREFIX: &str = ".srb-probe-";
/// A third of the scratch volume, and what is written into its middle.
const PART: usize = 4096;
/// What the end of a probe may take beyond the probe itself.
const TIDY_UP: Duration = Duration::from_secs(2);
/// A scratch volume of this age belongs to no probe any more.
const LEFT_OVER_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether a volume was made by a probe, and is not to be shown.
pub(crate) fn is_scratch(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// Whether a scratch volume was left behind by a probe that could not delete it.
pub(crate) fn is_left_over(name: &str) -> bool {
    let made = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
    let made = made.and_then(|secs| secs.parse().ok()).map(Duration::from_secs);
    made.is_some_and(|made| now().saturating_sub(made) > LEFT_OVER_AFTER)
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Prove for Operation<'_> {
    /// A server that knows nothing of ranges would destroy a volume by these.
    fn needs_fit_server(&self) -> bool {
        matches!(self, Self::Create(_) | Self::SetSize(..) | Self::Write(..))
    }

    async fn prove(tries: &Attempts, path: &Path, limits: &Limits) -> Result<Verdict, Failure> {
        probe(tries, path, limits).await
    }
}

/// Finds out; `Err` if the server could not be asked, or refuses all writing.
async fn probe(tries: &Attempts, path: &Path, limits: &Limits) -> Result<Verdict, Failure> {
    let url = path.url().text();
    let name = format!("{PREFIX}{}-{:032x}", now().as_secs(), rand::random::<u128>());
    let scratch = Subject::new(&name);
    // Twice as long as a try: it is more than one request, but a request of a user waits.
    let bounded = limits.within(limits.whole().saturating_mul(2));
    let verdict = examine(tries, path, &bounded, &scratch).await;
    let limits = &limits.within(TIDY_UP);
    let (delete, now) = (Operation::Delete(&scratch), Instant::now());
    let deleted = tries.attempt(path, &delete, limits, now, &mut || {}).await;
    if let Err(failure) = deleted {
        if failure.kind != ErrorKind::NotFound && verdict.is_ok() {
            let why = failure.text;
            tracing::warn!(url, volume = name, why, "a probe's scratch volume was not deleted");
        }
    }
    match &verdict {
        Ok(Ok(())) => tracing::info!(url, "the server honours ranges"),
        Ok(Err(why)) => tracing::error!(url, why, "nothing will be written to this server"),
        Err(_) => {}
    }
    verdict
}

async fn examine(
    tries: &Attempts,
    path: &Path,
    limits: &Limits,
    scratch: &Subject,
) -> Result<Verdict, Failure> {
    let mut sent_twice = false;
    let create = Operation::Create(scratch);
    let created =
        tries.attempt(path, &create, limits, Instant::now(), &mut || sent_twice = true).await;
    match created {
        // Nobody else makes this name: the server got the first request of the two.
        Err(failure) if failure.kind == ErrorKind::Exists && sent_twice => {}
        Err(failure) if failure.kind == ErrorKind::Exists => {
            return Ok(Err("a volume that nobody has made exists there".to_owned()));
        }
        created => drop(created?),
    }
    let ask = async |operation: Operation<'_>| {
        tries.attempt(path, &operation, limits, Instant::now(), &mut || {}).await
    };
    let size = PART.saturating_mul(3);
    let pattern: Vec<u8> = (0..PART).map(|_| rand::random()).collect();
    ask(Operation::SetSize(scratch, size as u64)).await?;
    let window = Window::from_vec(pattern.clone());
    let middle = Io { offset: PART as u64, window: &window, len: PART };
    ask(Operation::Write(scratch, middle)).await?;
    match ask(Operation::Size(scratch)).await {
        Ok(Reply::Size(found)) if found == size as u64 => {}
        Ok(Reply::Size(found)) => {
            let what = "after a write into the middle of a volume of";
            return Ok(Err(format!("{what} {size} bytes, the server says it has {found}")));
        }
        Ok(_) => {}
        Err(failure) if failure.kind == ErrorKind::Protocol => return Ok(Err(failure.text)),
        Err(failure) => return Err(failure),
    }
    // Half a part on both sides, which must have stayed zeros.
    let half = PART / 2;
    let len = PART.saturating_mul(2);
    let around = Window::from_vec(vec![0xff; len]);
    let read = Io { offset: half as u64, window: &around, len };
    match ask(Operation::Read(scratch, read)).await {
        Ok(_) => {}
        Err(failure) if matches!(failure.kind, ErrorKind::Protocol | ErrorKind::OutOfRange) => {
            return Ok(Err(failure.text));
        }
        Err(failure) => return Err(failure),
    }
    let mut expected = vec![0; half];
    expected.extend_from_slice(&pattern);
    expected.resize(len, 0);
    if around.to_vec(len) == expected {
        Ok(Ok(()))
    } else {
        Ok(Err("other bytes were read than had been written".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_volumes_and_their_age() {
        let fresh = format!("{PREFIX}{}-ab", now().as_secs());
        assert!(is_scratch(&fresh) && !is_left_over(&fresh));
        let old = format!("{PREFIX}{}-ab", now().as_secs() - 2 * 24 * 60 * 60);
        assert!(is_scratch(&old) && is_left_over(&old));
        for name in ["vol1", "srb-probe-1-ab", ".srb-probe", ".srb-probe-x", ".srb-probe--1"] {
            assert!(!is_left_over(name), "{name}");
        }
    }
}
