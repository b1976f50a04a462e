// SPDX-License-Identifier: GPL-2.0-only
//! The operations that change something: PUT in its four meanings, and DELETE.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};
use tokio::task::spawn_blocking;

use crate::answer::{empty, Answer, Refusal};
use crate::name::VolumeName;
use crate::piece::INLINE_BYTES;
use crate::put::Put;
use crate::range::{WriteRange, LARGEST_SIZE};
use crate::routes::Routes;
use crate::store::{Draft, Publish, Store};
use crate::upload::Upload;
use crate::volume::Volume;

impl Routes {
    pub(crate) async fn destroy(&self, name: VolumeName) -> Result<Answer, Refusal> {
        self.on_store(move |store| store.destroy(&name)).await?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    pub(crate) async fn put(
        &self,
        name: VolumeName,
        headers: &HeaderMap,
        upload: &mut Upload,
    ) -> Result<Answer, Refusal> {
        match Put::parse(headers, self.lenient)? {
            Put::Write(_) if self.quirks.ignore_range => self.replace(name, upload).await,
            Put::Write(range) => self.write(&name, range, upload).await,
            Put::Resize { size_bytes } => {
                upload.expect_none().await?;
                self.on_store(move |store| store.resize(&name, size_bytes)).await?;
                Ok(empty(StatusCode::OK))
            }
            Put::Create { size_bytes: Some(size) } => self.create_empty(name, size, upload).await,
            Put::Create { size_bytes: None } => self.create(name, upload).await,
            Put::Replace => self.replace(name, upload).await,
        }
    }

    async fn create_empty(
        &self,
        name: VolumeName,
        size_bytes: u64,
        upload: &mut Upload,
    ) -> Result<Answer, Refusal> {
        upload.expect_none().await?;
        let create = move |store: &Arc<Store>| {
            let draft = store.draft()?;
            draft.set_size(size_bytes)?;
            draft.publish(&name, Publish::New)
        };
        self.on_store(create).await?;
        Ok(empty(StatusCode::CREATED))
    }

    async fn create(&self, name: VolumeName, upload: &mut Upload) -> Result<Answer, Refusal> {
        let wanted = name.clone();
        // Before the body is taken, or a `100 Continue` sent for it.
        self.on_store(move |store| store.vacant(&wanted)).await?;
        let draft = self.receive(upload).await?;
        self.on_store(move |_| draft.publish(&name, Publish::New)).await?;
        Ok(empty(StatusCode::CREATED))
    }

    async fn replace(&self, name: VolumeName, upload: &mut Upload) -> Result<Answer, Refusal> {
        let draft = self.receive(upload).await?;
        let replaced = self.on_store(move |_| draft.publish(&name, Publish::Over)).await?;
        Ok(empty(if replaced { StatusCode::NO_CONTENT } else { StatusCode::CREATED }))
    }

    async fn receive(&self, upload: &mut Upload) -> Result<Draft, Refusal> {
        let mut draft = self.on_store(Store::draft).await?;
        let mut offset = 0;
        while let Some(piece) = upload.next().await? {
            let length = piece.len() as u64;
            if length > LARGEST_SIZE - offset {
                return Err(io::Error::from(nix::errno::Errno::EFBIG).into());
            }
            let write = move |_: &Arc<Store>| {
                draft.write_at(&piece, offset)?;
                Ok(draft)
            };
            draft = self.on_store(write).await?;
            offset += length;
        }
        Ok(draft)
    }

    async fn write(
        &self,
        name: &VolumeName,
        range: WriteRange,
        upload: &mut Upload,
    ) -> Result<Answer, Refusal> {
        let (volume, size) = self.find(name).await?;
        let bound = self.bound(range, size, upload.length())?;
        let mut written = 0;
        while let Some(piece) = upload.next().await? {
            let length = piece.len() as u64;
            if length > bound - written {
                return Err(if self.lenient { Refusal::beyond(size) } else { unequal(range) });
            }
            write_piece(&volume, piece, range.first + written).await?;
            written += length;
        }
        if written != range.length() && !self.lenient {
            return Err(unequal(range));
        }
        if self.store.syncs() {
            self.on_store(move |store| store.settle(&volume)).await?;
        }
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// The number of bytes that a body may have, when all that its head says is in order.
    fn bound(&self, range: WriteRange, size: u64, length: Option<u64>) -> Result<u64, Refusal> {
        if self.lenient {
            let room = size.checked_sub(range.first).ok_or_else(|| Refusal::beyond(size))?;
            return match length {
                Some(length) if length > room => Err(Refusal::beyond(size)),
                _ => Ok(room),
            };
        }
        if length.is_some_and(|length| length != range.length()) {
            return Err(unequal(range));
        }
        if range.last >= size || range.total.is_some_and(|total| total != size) {
            return Err(Refusal::beyond(size));
        }
        Ok(range.length())
    }
}

async fn write_piece(volume: &Arc<Volume>, piece: Bytes, offset: u64) -> Result<(), Refusal> {
    if piece.len() as u64 <= INLINE_BYTES {
        return Ok(volume.write_at(&piece, offset)?);
    }
    let volume = Arc::clone(volume);
    let outcome = spawn_blocking(move || volume.write_at(&piece, offset)).await;
    Ok(outcome.map_err(io::Error::other)??)
}

fn unequal(range: WriteRange) -> Refusal {
    Refusal::bad_request(format!("the body is not the range's {} bytes long", range.length()))
}
