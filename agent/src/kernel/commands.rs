// SPDX-License-Identifier: GPL-2.0-only
//! What each op of the control channel does.
//!
//! Before: [`super::control_channel`] has taken a submission. After: [`crate::volume::Volumes`] for
//! operations on volumes, [`super::devices`] for devices that come and go; then its reply goes
//! back.
//!
//! # Errors
//! Those of an operation are noted, logged once, and go to the module with their words. [`Ended`]
//! is the session's.

use std::rc::Rc;

use nix::errno::Errno;
use nix::libc;
use srb_proto::command::check_volume_name;
use srb_proto::control::LISTING_HEAD_BYTES;
use srb_proto::descriptor::{Op, Submission};
use srb_proto::layout::CONTROL;
use tokio_util::sync::CancellationToken;

use super::ended::Ended;
use super::office::Office;
use crate::base::errors::RequestError;

/// What an operation gives: its reply, or a positive errno and the details for the module's log.
pub(super) type Reply = Result<Vec<u8>, (i32, String)>;

/// The name of an op in the log and in the list of failures.
fn name_of(op: Op) -> &'static str {
    match op {
        Op::Read => "read",
        Op::Write => "write",
        Op::List => "list",
        Op::Stat => "stat",
        Op::Create => "create",
        Op::Extend => "extend",
        Op::Destroy => "destroy",
        Op::Open => "open",
        Op::Close => "close",
        Op::Cancel => "cancel",
        Op::Undo => "undo",
    }
}

pub(super) async fn perform(
    office: Rc<Office>,
    submission: Submission,
    payload: Vec<u8>,
    cancelled: CancellationToken,
) -> Result<Reply, Ended> {
    let Submission { op, arg, .. } = submission;
    match op {
        Op::Open | Op::Close => {
            let Ok(index) = u32::try_from(arg) else {
                return Ok(Err((libc::EINVAL, format!("no device has the index {arg}"))));
            };
            if op == Op::Close {
                office.devices.close(index).await?;
                return Ok(Ok(Vec::new()));
            }
            let opened = office.devices.open(index).await?;
            Ok(opened.map(|()| Vec::new()).map_err(|errno| not_opened(&office, index, errno)))
        }
        Op::List | Op::Stat | Op::Create | Op::Extend | Op::Destroy | Op::Undo => {
            Ok(on_volume(&office, submission, &payload, &cancelled).await)
        }
        Op::Read | Op::Write | Op::Cancel => {
            Ok(Err((libc::EINVAL, format!("{op:?} on the control channel"))))
        }
    }
}

fn not_opened(office: &Office, index: u32, errno: Errno) -> (i32, String) {
    let message = format!("device {index} cannot be served: {}", errno.desc());
    tracing::error!("{message}");
    office.failures.note_local("open", None, message.clone(), errno as i32);
    (errno as i32, message)
}

async fn on_volume(
    office: &Office,
    submission: Submission,
    payload: &[u8],
    cancelled: &CancellationToken,
) -> Reply {
    let Submission { op, arg, repeated, .. } = submission;
    let volumes = &office.volumes;
    let name = match std::str::from_utf8(payload) {
        Ok(name) if op == Op::List || check_volume_name(name).is_ok() => name,
        _ => return Err((libc::EINVAL, "not the name of a volume".into())),
    };
    let empty = |()| Vec::new();
    let result = match op {
        Op::List => volumes.list().await.map(|names| listing(&names, arg)),
        Op::Stat => volumes.stat(name).await.map(|size| size.to_ne_bytes().to_vec()),
        Op::Create => volumes.create_unless(name, arg, repeated, cancelled).await.map(empty),
        Op::Undo => volumes.undo_create(name, arg).await.map(empty),
        Op::Extend => volumes.extend(name, arg, repeated).await.map(empty),
        _ => volumes.destroy(name, repeated).await.map(empty),
    };
    result.map_err(|error| {
        let volume = (op != Op::List).then_some(name);
        office.failures.note(name_of(op), volume, &error);
        let line = one_line(&error);
        tracing::warn!("{line}");
        (error.errno(), line)
    })
}

/// The error as the module's log takes it, whatever a server put into it.
fn one_line(error: &RequestError) -> String {
    error.to_string().replace(char::is_control, " ")
}

/// The reply to a listing: as many whole names as fit into `room` bytes.
fn listing(names: &[String], room: u64) -> Vec<u8> {
    let window = CONTROL.window_bytes as usize;
    let room = usize::try_from(room).unwrap_or(window).min(window);
    let mut reply = Vec::with_capacity(LISTING_HEAD_BYTES);
    reply.extend_from_slice(&(names.len() as u64).to_ne_bytes());
    for name in names {
        if name.len() >= room.saturating_sub(reply.len()) {
            break;
        }
        reply.extend_from_slice(name.as_bytes());
        reply.push(b'\n');
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::errors::ErrorKind;
    use srb_proto::control::Listing;

    #[test]
    fn a_listing_ends_with_a_whole_name() {
        let names = ["a".to_owned(), "bb".to_owned(), "ccc".to_owned()];
        for (room, expected) in [
            (0, &b""[..]),
            (9, b""),
            (10, b"a\n"),
            (12, b"a\n"),
            (13, b"a\nbb\n"),
            (17, b"a\nbb\nccc\n"),
            (u64::MAX, b"a\nbb\nccc\n"),
        ] {
            let reply = listing(&names, room);
            let listing = Listing::from_bytes(&reply).expect("a head");
            assert_eq!((listing.total, listing.names), (3, expected), "{room}");
        }
    }

    #[test]
    fn details_are_one_line() {
        let error = RequestError::plain(ErrorKind::Garbage, "list", "a\r\nb\u{7}");
        assert_eq!(one_line(&error), "list: a  b ");
    }
}
