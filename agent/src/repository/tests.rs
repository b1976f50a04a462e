// SPDX-License-Identifier: GPL-2.0-only
//! Which URL is chosen, and what of it is told to others.

use super::*;
use srb_proto::command::RepositoryUrl;

fn settings(version: u64, urls: &[&str]) -> Settings {
    let parse = |url: &&str| RepositoryUrl::parse(url.as_bytes()).expect("a URL");
    Settings { version, urls: urls.iter().map(parse).collect(), ..Settings::default() }
}

fn three() -> (Arc<Repository>, Vec<Arc<Url>>) {
    let repository = Repository::new(RestConfig::default());
    repository.apply(settings(1, &["http://a", "http://b", "http://c"]));
    let Route::Http(urls) = &repository.state().route else { panic!("http") };
    (Arc::clone(&repository), urls.clone())
}

#[test]
fn the_first_that_is_up_is_active() {
    let (repository, urls) = three();
    let mut changes = repository.subscribe();
    assert_eq!(repository.active_url(), Some((1, 0)));
    repository.failed(&urls[0], ErrorKind::Refused, "refused");
    assert!(changes.has_changed().expect("sender lives"));
    assert_eq!(*changes.borrow_and_update(), Some((1, 1)));
    repository.failed(&urls[1], ErrorKind::Timeout, "slow");
    assert_eq!(repository.active_url(), Some((1, 2)));
    repository.failed(&urls[2], ErrorKind::Timeout, "slow");
    assert_eq!(repository.active_url(), Some((1, 2)), "nothing is better");
    repository.succeeded(&urls[0]);
    assert_eq!(repository.active_url(), Some((1, 0)), "failback");
}

#[test]
fn a_try_goes_to_the_best_that_failed_the_request_least() {
    let (repository, urls) = three();
    let choose =
        |failures: [u32; 3], now_ms| repository.state().choose(|index| failures[index], now_ms);
    assert_eq!(choose([0, 0, 0], 0), Some(0));
    assert_eq!(choose([1, 0, 0], 0), Some(1));
    assert_eq!(choose([1, 1, 1], 0), Some(0));
    repository.failed(&urls[0], ErrorKind::Refused, "refused");
    assert_eq!(choose([0, 0, 0], 0), Some(1));
    assert_eq!(choose([0, 2, 1], 0), Some(2));
    // A trial, by one request.
    let later = urls[0].health.trial_at_ms();
    assert_eq!(choose([1, 0, 0], later), Some(1), "not again in the request that failed there");
    assert_eq!(choose([0, 0, 0], later), Some(0));
    assert_eq!(choose([0, 0, 0], later), Some(1));
    repository.failed(&urls[1], ErrorKind::Refused, "refused");
    repository.failed(&urls[2], ErrorKind::Refused, "refused");
    assert_eq!(choose([1, 1, 0], later), Some(2), "all are down");
}

#[test]
fn what_is_known_of_a_url_outlives_a_change_of_the_list() {
    let (repository, urls) = three();
    repository.failed(&urls[1], ErrorKind::Refused, "refused");
    repository.apply(settings(2, &["http://d", "http://b"]));
    let status = repository.status();
    assert_eq!(status.len(), 2);
    assert_eq!((status[0].state, status[0].active), (UrlState::Unknown, true));
    assert_eq!((status[1].state, status[1].consecutive_failures), (UrlState::Down, 1));
    assert_eq!(status[1].last_error.as_deref(), Some("refused"));
    assert_eq!(repository.active_url(), Some((2, 0)));
    repository.apply(settings(3, &[]));
    assert_eq!((repository.active_url(), repository.status()), (None, Vec::new()));
}

#[test]
fn null_stands_alone() {
    let repository = Repository::new(RestConfig::default());
    repository.apply(settings(1, &["null:1G"]));
    assert!(
        matches!(repository.state().route, Route::Null { size_bytes } if size_bytes == 1 << 30)
    );
    assert_eq!(repository.active_url(), Some((1, 0)));
    assert_eq!(repository.status()[0].url, "null:1g");
    repository.apply(settings(2, &["http://a", "null:"]));
    assert!(matches!(repository.state().route, Route::Mixed));
    assert_eq!(repository.active_url(), None);
}

#[test]
fn handles_of_one_volume_share_until_the_last_is_gone() {
    let repository = Repository::new(RestConfig::default());
    let (one, two) = (repository.volume("v"), repository.volume("v"));
    assert_eq!(one.id(), two.id());
    assert_ne!(one.id(), repository.volume("w").id());
    let id = one.id();
    drop((one, two));
    assert_ne!(repository.volume("v").id(), id);
}

#[test]
fn what_threads_share_can_be_shared() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Repository>();
    shared::<Volume>();
    shared::<crate::errors::RequestError>();
}
