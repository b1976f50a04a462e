// SPDX-License-Identifier: GPL-2.0-only
//! Which URL is chosen, and what of it is told to others.

use super::*;
use crate::paths::UrlState;
use srb_proto::command::RepositoryUrl;

fn settings(version: u64, urls: &[&str]) -> Settings {
    let parse = |url: &&str| RepositoryUrl::parse(url.as_bytes()).expect("a URL");
    Settings { version, urls: urls.iter().map(parse).collect(), ..Settings::default() }
}

fn three() -> (Arc<Paths>, Vec<Arc<Url>>) {
    let repository = Paths::new(RestConfig::default());
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
    assert_eq!(changes.borrow_and_update().map(|news| news.active), Some(1));
    repository.failed(&urls[1], ErrorKind::Timeout, "slow");
    assert_eq!(repository.active_url(), Some((1, 2)));
    repository.failed(&urls[2], ErrorKind::Timeout, "slow");
    assert_eq!(repository.active_url(), Some((1, 2)), "nothing is better");
    repository.succeeded(&urls[0]);
    assert_eq!(repository.active_url(), Some((1, 0)), "failback");
}

/// Where a request goes that has failed so often at each place; `None`: is not to go there.
fn choose(repository: &Paths, failures: [Option<u32>; 3]) -> Option<usize> {
    repository.state().choose(|index| failures[index], false)
}

#[test]
fn a_try_goes_to_the_best_that_failed_the_request_least() {
    let (repository, urls) = three();
    let choose = |failures: [u32; 3]| choose(&repository, failures.map(Some));
    assert_eq!(choose([0, 0, 0]), Some(0));
    assert_eq!(choose([1, 0, 0]), Some(1));
    assert_eq!(choose([1, 1, 1]), Some(0));
    repository.failed(&urls[0], ErrorKind::Refused, "refused");
    assert_eq!(choose([0, 0, 0]), Some(1));
    assert_eq!(choose([0, 2, 1]), Some(2));
    repository.failed(&urls[1], ErrorKind::Refused, "refused");
    repository.failed(&urls[2], ErrorKind::Refused, "refused");
    assert_eq!(choose([1, 1, 0]), Some(2), "all are down");
    repository.succeeded(&urls[1]);
    assert_eq!(choose([0, 3, 0]), Some(1));
}

#[test]
fn a_url_that_is_down_gets_what_can_go_nowhere_else() {
    let (repository, urls) = three();
    repository.failed(&urls[0], ErrorKind::Refused, "refused");
    // Whether its pause is over or not, a request is no probe.
    urls[0].health.probe_failed("refused", 0);
    assert_eq!(choose(&repository, [Some(0), Some(2), Some(1)]), Some(2));
    assert_eq!(choose(&repository, [Some(0), Some(2), None]), Some(1));
    assert_eq!(choose(&repository, [Some(0), None, None]), Some(0));
    assert_eq!(choose(&repository, [None, None, None]), None);
}

#[tokio::test]
async fn what_must_not_be_written_to_gets_reads_alone() {
    let (repository, urls) = three();
    let verdict = || async { Ok(Err("ignores ranges".to_owned())) };
    for unfit in [&urls[0], &urls[1]] {
        unfit.fitness.establish(verdict()).await.expect("a verdict").as_ref().expect_err("unfit");
    }
    let choose = |failures: [Option<u32>; 3], needs_fit| {
        repository.state().choose(|index| failures[index], needs_fit)
    };
    assert_eq!(choose([Some(0); 3], false), Some(0));
    assert_eq!(choose([Some(0); 3], true), Some(2));
    repository.failed(&urls[2], ErrorKind::Refused, "refused");
    assert_eq!(choose([Some(0), Some(0), Some(3)], true), Some(2), "it may come back");
    assert_eq!(choose([Some(0), Some(0), None], true), Some(0), "to be told why");
}

#[tokio::test]
async fn who_probes_is_woken_by_a_url_that_goes_down_and_by_a_new_list() {
    use futures_util::FutureExt;
    let (repository, urls) = three();
    assert!(repository.probing().now_or_never().is_some(), "the list was new");
    assert!(repository.probing().now_or_never().is_none());
    repository.failed(&urls[0], ErrorKind::Broken, "accident");
    assert!(repository.probing().now_or_never().is_none());
    repository.failed(&urls[0], ErrorKind::Refused, "refused");
    assert!(repository.probing().now_or_never().is_some());
}

#[test]
fn a_place_has_a_name_as_long_as_the_list_is_the_same() {
    let (repository, _) = three();
    assert_eq!(repository.url_at(1, 2).as_deref(), Some("http://c"));
    assert_eq!((repository.url_at(1, 3), repository.url_at(2, 0)), (None, None));
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
    let repository = Paths::new(RestConfig::default());
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
fn what_one_agent_has_seen_of_a_url_the_next_one_is_told() {
    let repository = Paths::new(RestConfig::default());
    repository.apply(settings(1, &["http://a", "http://b", "http://c"]));
    assert_eq!(repository.news().map(|news| news.fit_urls), Some(0));
    let news = repository.subscribe();
    repository
        .apply(Settings { fit_urls: 0b100, ..settings(2, &["http://a", "http://b", "http://c"]) });
    assert!(news.has_changed().expect("the repository lives"));
    // The others are found out about as ever.
    let Route::Http(urls) = &repository.state().route else { panic!("http") };
    let known = |url: &Arc<Url>| url.fitness.verdict().is_some();
    let verdicts: Vec<bool> = urls.iter().map(known).collect();
    assert_eq!(verdicts, [false, false, true]);
    // Places may change, what is known goes with the URL.
    repository.apply(settings(3, &["http://c", "http://a"]));
    assert_eq!(repository.news().map(|news| news.fit_urls), Some(0b01));
}

#[test]
fn each_change_and_each_worker_has_a_number_of_its_own() {
    let (repository, _) = three();
    let before = repository.epoch();
    repository.apply(settings(2, &["http://a"]));
    assert!(repository.epoch() > before);
    let (one, other) = (repository.join(), repository.join());
    assert_ne!(one, other);
}

#[tokio::test(start_paused = true)]
async fn milliseconds_are_counted_since_the_start() {
    let (repository, _) = three();
    let before = repository.now_ms();
    tokio::time::advance(std::time::Duration::from_millis(1500)).await;
    assert_eq!(repository.now_ms() - before, 1500);
}
