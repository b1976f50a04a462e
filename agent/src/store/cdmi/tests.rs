// SPDX-License-Identifier: GPL-2.0-only
//! How the tries of an operation look from outside while they go on.

use super::*;
use crate::base::errors::ErrorKind;
use crate::base::settings::Settings;
use crate::base::tuning::RestConfig;
use crate::base::window::{Io, Window};
use crate::paths::{Client, Progress, Seen, Watch};
use crate::volume::{Landing, Repository};
use std::sync::Arc;

use srb_proto::command::RepositoryUrl;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Answers one request on a fresh connection.
async fn answer_one(listener: &TcpListener, answer: &str) {
    let (mut stream, _) = listener.accept().await.expect("a connection");
    let mut request = [0; 4096];
    assert!(stream.read(&mut request).await.expect("a request") > 0);
    stream.write_all(answer.as_bytes()).await.expect("answered");
}

#[tokio::test]
async fn progress_tells_where_a_request_is_and_why() {
    let listeners = [
        TcpListener::bind("127.0.0.1:0").await.expect("loopback"),
        TcpListener::bind("127.0.0.1:0").await.expect("loopback"),
    ];
    let url = |listener: &TcpListener| {
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        RepositoryUrl::parse(url.as_bytes()).expect("a URL")
    };
    let urls = listeners.iter().map(url).collect();
    let repository = Repository::new(RestConfig { probe: false, ..RestConfig::default() });
    repository.apply(Settings { version: 9, urls, ..Settings::default() });
    let (client, progress) = (Client::new(Arc::clone(repository.paths())), Progress::default());
    let (volume, window) = (repository.volume("v"), Window::from_vec(vec![1; 8]));
    let write = Operation::Write(volume.subject(), Io { offset: 0, window: &window, len: 8 });
    let servers = async {
        answer_one(&listeners[0], "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").await;
        let (mut stream, _) = listeners[1].accept().await.expect("a connection");
        let seen = progress.seen();
        let _ = stream.read(&mut [0; 4096]).await.expect("a request");
        stream.write_all(b"HTTP/1.1 204 Yes\r\n\r\n").await.expect("answered");
        (seen, stream)
    };
    let watch = Watch { progress: Some(&progress), ..Watch::<Landing<'_>>::default() };
    let (done, (seen, _)) = tokio::join!(client.run(&write, watch), servers);
    done.expect("the second URL takes it");
    let last = Some((ErrorKind::ServerFailed, Some(503)));
    assert_eq!(seen, Seen { tries: 2, version: 9, place: 1, last });
    let name = repository.paths().url_at(seen.version, seen.place).expect("the list is the same");
    assert_eq!(name, url(&listeners[1]).as_str());
}
