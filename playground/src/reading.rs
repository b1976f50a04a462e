// SPDX-License-Identifier: GPL-2.0-only
//! The operations that change nothing: listing, size, HEAD and reads.

use std::sync::Arc;

use hyper::header::{
    HeaderName, HeaderValue, ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE,
};
use hyper::{HeaderMap, Response, StatusCode};
use serde::Serialize;

use crate::answer::{empty, Answer, Refusal};
use crate::body::Body;
use crate::name::VolumeName;
use crate::piece;
use crate::piece::INLINE_BYTES;
use crate::put::single;
use crate::range::{ReadRange, Span};
use crate::routes::Routes;
use crate::volume::Volume;

const CDMI_VERSION: HeaderName = HeaderName::from_static("x-cdmi-specification-version");
const CONTAINER: &str = "application/cdmi-container";
const OBJECT: &str = "application/cdmi-object";
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Container<'a> {
    object_type: &'a str,
    object_name: &'a str,
    // Last, so that the trailing comma has its place.
    children: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Object<'a> {
    object_type: &'a str,
    object_name: &'a str,
    metadata: Metadata,
}

#[derive(Serialize)]
struct Metadata {
    cdmi_size: Size,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Size {
    Number(u64),
    Text(String),
}

impl Routes {
    pub(crate) async fn list(&self) -> Result<Answer, Refusal> {
        let children = self.on_store(|store| Ok(store.names()?)).await?;
        let prefix = self.prefix.to_string();
        let name = prefix.trim_end_matches('/').rsplit_once('/').map_or("", |(_, name)| name);
        let name = format!("{name}/");
        let container =
            Container { object_type: CONTAINER, object_name: &name, children: &children };
        let mut json = json(&container)?;
        if self.quirks.trailing_comma && !children.is_empty() {
            json.insert(json.len() - "]}".len(), ',');
        }
        Ok(document(CONTAINER, json))
    }

    pub(crate) async fn metadata(&self, name: &VolumeName) -> Result<Answer, Refusal> {
        let (_, size) = self.find(name).await?;
        let cdmi_size = if self.quirks.size_as_string {
            Size::Text(size.to_string())
        } else {
            Size::Number(size)
        };
        let object = Object {
            object_type: OBJECT,
            object_name: name.as_str(),
            metadata: Metadata { cdmi_size },
        };
        Ok(document(OBJECT, json(&object)?))
    }

    pub(crate) async fn head(&self, name: &VolumeName) -> Result<Answer, Refusal> {
        let (_, size) = self.find(name).await?;
        let mut answer = empty(StatusCode::OK);
        answer.headers_mut().insert(CONTENT_LENGTH, size.into());
        self.describe(&mut answer);
        Ok(answer)
    }

    pub(crate) async fn read(
        &self,
        name: &VolumeName,
        headers: &HeaderMap,
    ) -> Result<Answer, Refusal> {
        let range = match single(headers, &RANGE)? {
            Some(range) if !self.quirks.ignore_range => Some(ReadRange::parse(range)?),
            _ => None,
        };
        let (volume, size) = self.find(name).await?;
        let mut answer = match range {
            None => Response::new(Body::volume(volume, 0, size)),
            Some(range) => {
                let span = range.resolve(size).ok_or_else(|| Refusal::beyond(size))?;
                self.partial(volume, span, size)?
            }
        };
        self.describe(&mut answer);
        Ok(answer)
    }

    fn partial(&self, volume: Arc<Volume>, span: Span, size: u64) -> Result<Answer, Refusal> {
        let body = if span.length <= INLINE_BYTES {
            Body::full(piece::read(&volume, span)?)
        } else {
            Body::volume(volume, span.first, span.length)
        };
        let mut answer = Response::new(body);
        if !self.quirks.reply_200 {
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = format!("bytes {}-{}/{size}", span.first, span.last());
            let range = HeaderValue::try_from(range).map_err(std::io::Error::other)?;
            answer.headers_mut().insert(CONTENT_RANGE, range);
        }
        Ok(answer)
    }

    fn describe(&self, answer: &mut Answer) {
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, OCTETS);
        if !self.quirks.ignore_range {
            headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        }
    }
}

fn document(kind: &'static str, json: String) -> Answer {
    let mut answer = Response::new(Body::full(json));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CDMI_VERSION, HeaderValue::from_static("1.0.1"));
    answer
}

fn json(document: &impl Serialize) -> Result<String, Refusal> {
    serde_json::to_string(document).map_err(|error| std::io::Error::other(error).into())
}
