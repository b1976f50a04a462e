// SPDX-License-Identifier: GPL-2.0-only
//! Requests through the pipeline alone, 8 at a time on one thread: what callgrind and strace are
//! to count. docs/performance.md has the commands.

use std::process::ExitCode;
use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use futures_util::FutureExt;
use srb_agent::base::settings::Settings;
use srb_agent::base::tuning::RestConfig;
use srb_agent::base::window::Window;
use srb_agent::volume::{Pipeline, Repository};
use srb_proto::command::RepositoryUrl;
use tokio::task::{unconstrained, LocalSet};

const USAGE: &str = "usage: pipeline URL VOLUME read|write BYTES COUNT";
/// Requests under way.
const DEPTH: usize = 8;
/// Requests after which the first bytes of the volume come again.
const PLACES: u64 = 64;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, volume, kind, len, count] = arguments.as_slice() else { return usage() };
    let (Ok(url), Ok(len), Ok(count)) =
        (RepositoryUrl::parse(url.as_bytes()), len.parse::<usize>(), count.parse::<u64>())
    else {
        return usage();
    };
    let repository = Repository::new(RestConfig::default());
    repository.apply(Settings { version: 1, urls: vec![url], ..Settings::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let requests = run(&repository, volume, kind == "write", len, count);
    LocalSet::new().block_on(&runtime.expect("a runtime"), unconstrained(requests));
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::FAILURE
}

/// As a worker has them under way (`src/requests.rs`).
async fn run(repository: &Arc<Repository>, volume: &str, writes: bool, len: usize, count: u64) {
    let (pipeline, volume) = (Pipeline::new(Arc::clone(repository)), repository.volume(volume));
    let windows: Vec<Window> = (0..DEPTH).map(|_| Window::from_vec(vec![1; len])).collect();
    let request = |number: u64, place: usize| {
        let (pipeline, volume, window) = (&pipeline, &volume, &windows[place]);
        let offset = number % PLACES * len as u64;
        async move {
            let done = match writes {
                true => pipeline.write(volume, offset, window, len, false).await,
                false => pipeline.read(volume, offset, window, len).await,
            };
            done.expect("it succeeds");
            place
        }
        .boxed_local()
    };
    let mut under_way: FuturesUnordered<_> =
        (0..DEPTH).map(|place| request(place as u64, place)).collect();
    let mut next = DEPTH as u64;
    while let Some(place) = under_way.next().await {
        if next < count {
            under_way.push(request(next, place));
            next += 1;
        }
    }
}
