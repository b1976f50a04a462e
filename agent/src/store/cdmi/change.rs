// SPDX-License-Identifier: GPL-2.0-only
//! Changes of a volume that is there: it grows, or is deleted.
//!
//! Before: [`super::Cdmi`] has the volume's turn. After: [`crate::paths`], for each request. What
//! nobody can tell after a try in doubt is asked once that try has landed or never will
//! ([`Turn::settled`]); what cannot be asked is said, and remembered as a doubt, so that the same
//! command given again finds its way.

use super::doubts::Doubt;
use super::{Cdmi, Operation};
use crate::base::errors::{ErrorKind, RequestError};
use crate::store::kind::{Store, Turn};
use crate::store::subject::Subject;

/// Makes a volume larger.
///
/// The new size is not read back: a 2xx is the server's word, and the probe has seen it keep that
/// word.
///
/// # Errors
/// [`ErrorKind::Invalid`] if the volume would not grow. With `repeated`, and after an extend to the
/// same size of which nobody could tell whether it had happened, a volume that has the size already
/// is a success.
pub(super) async fn extend(
    store: &Cdmi,
    volume: &Subject,
    size: u64,
    repeated: bool,
    turn: &impl Turn,
) -> Result<(), RequestError> {
    let name = volume.name();
    let what = format!("extend of volume {name} to {size} bytes");
    let old = store.size(volume).await.map_err(|error| error.within(&what))?;
    let repeated = repeated || store.doubts.holds(name, Doubt::Extended(size));
    if repeated && old == size {
        store.doubts.settle(name);
        return Ok(());
    }
    if size <= old {
        let why = format!("it would not grow: it has {old} bytes");
        return Err(RequestError::plain(ErrorKind::Invalid, what, why));
    }
    let error = match store.change(&Operation::SetSize(volume, size), turn).await {
        Ok(_) => {
            store.doubts.settle(name);
            return Ok(());
        }
        Err(error) if !error.may_have_happened() => return Err(error.within(what)),
        Err(error) => error,
    };
    turn.settled().await;
    match store.size(volume).await {
        Ok(now) if now == size => {
            store.doubts.settle(name);
            Ok(())
        }
        Ok(now) => Err(error.within(what).with_note(format!("it has {now} bytes"))),
        Err(asked) => {
            store.doubts.remember(name, Doubt::Extended(size));
            let note = format!("it may have been extended: extend it again; {asked}");
            Err(error.within(what).with_note(note))
        }
    }
}

/// Deletes a volume. With `repeated`, and after a destroy of which nobody could tell whether it had
/// happened, one that does not exist is a success.
pub(super) async fn destroy(
    store: &Cdmi,
    volume: &Subject,
    repeated: bool,
    turn: &impl Turn,
) -> Result<(), RequestError> {
    let name = volume.name();
    let what = format!("delete of volume {name}");
    let repeated = repeated || store.doubts.holds(name, Doubt::Destroyed);
    // Asked first, "no such volume" is the truth; after a try whose answer was lost it might come
    // from that try. A server that cannot tell a size may delete all the same.
    let existed = match store.size(volume).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            store.doubts.settle(name);
            return if repeated { Ok(()) } else { Err(error.within(what)) };
        }
        Err(error) if error.may_pass() => return Err(error.within(what)),
        known => known.is_ok(),
    };
    match store.change(&Operation::Delete(volume), turn).await {
        Ok(_) => {}
        Err(error)
            if error.kind() == ErrorKind::NotFound
                && (existed || repeated || error.may_have_happened()) => {}
        Err(error) if error.may_have_happened() => is_gone(store, volume, turn, error).await?,
        Err(error) => return Err(error),
    }
    store.doubts.settle(name);
    Ok(())
}

/// After a delete that ended in `error`, and may have happened.
async fn is_gone(
    store: &Cdmi,
    volume: &Subject,
    turn: &impl Turn,
    error: RequestError,
) -> Result<(), RequestError> {
    turn.settled().await;
    match store.size(volume).await {
        Err(asked) if asked.kind() == ErrorKind::NotFound => Ok(()),
        Ok(_) => Err(error.with_note("it is still there")),
        Err(asked) => {
            store.doubts.remember(volume.name(), Doubt::Destroyed);
            let note = format!("it may have been deleted: destroy it again; {asked}");
            Err(error.with_note(note))
        }
    }
}
