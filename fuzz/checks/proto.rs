// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What must hold for any bytes that cross a trust boundary. The fuzz targets run these, and so
//! does `tests/hostile.rs` on the seeds and on random bytes.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::AtomicU64;

use srb_proto::atomic::Word;
use srb_proto::command::{self, Kind, RepositoryUrl};
use srb_proto::control::{Listing, LISTING_HEAD_BYTES};
use srb_proto::descriptor::{Completion, Submission, COMPLETION_WORDS, SUBMISSION_WORDS};
use srb_proto::doorbell::{ReadySet, Sleeper, CAPACITY, WORDS};
use srb_proto::layout::Mapping;
use srb_proto::ring::{Consumer, Overrun, Shared};
use srb_proto::status::{Errno, Status};

/// Bytes that somebody wrote into sysfs: each parser refuses them, or gives something valid.
pub(crate) fn commands(data: &[u8]) {
    if let Ok((volume, bytes)) = command::parse_volume_and_size(data) {
        volume_is_valid(volume);
        assert!(bytes > 0 && bytes % 512 == 0 && bytes <= command::MAX_SIZE_BYTES);
    }
    if let Ok((volume, device)) = command::parse_volume_and_device(data) {
        volume_is_valid(volume);
        device_is_valid(device);
    }
    if let Ok(volume) = command::parse_volume(data) {
        volume_is_valid(volume);
    }
    if let Ok((device, _)) = command::parse_detach(data) {
        device_is_valid(device);
    }
    for (_, parsed) in command::parse_urls(data) {
        match parsed {
            Ok(url) => url_is_valid(&url),
            Err(error) => assert!(!error.reason().is_empty()),
        }
    }
    if let Ok(url) = RepositoryUrl::parse(data) {
        url_is_valid(&url);
    }
}

fn volume_is_valid(name: &str) {
    assert!((1..=command::MAX_VOLUME_BYTES).contains(&name.len()));
    assert!(!name.contains(['/', ' ', '\n', '\0']) && name != "." && name != "..");
    let encoded: Vec<u8> = command::encoded(name).collect();
    assert_eq!(decoded(&encoded), name.as_bytes());
    let safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"%-._~".contains(byte);
    assert!(encoded.iter().all(safe));
}

fn device_is_valid(name: &str) {
    assert!((1..=command::MAX_DEVICE_BYTES).contains(&name.len()));
    assert!(name.is_ascii() && !name.contains(['/', '!', ' ', '\\', '%']));
}

/// What a server makes of a percent-encoded segment.
fn decoded(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((first, rest)) = bytes.split_first() {
        bytes = rest;
        out.push(match (first, rest) {
            (b'%', [high, low, after @ ..]) => {
                bytes = after;
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).expect("hexadecimal digits");
                u8::from_str_radix(digits, 16).expect("hexadecimal digits")
            }
            _ => *first,
        });
    }
    out
}

fn url_is_valid(url: &RepositoryUrl) {
    let text = url.as_str();
    assert!((1..=command::MAX_URL_BYTES).contains(&text.len()));
    // It goes into lists, lines and HTTP headers as it is.
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && !b",\"<>?#@".contains(&byte)));
    assert_eq!(RepositoryUrl::parse(text.as_bytes()).as_ref(), Ok(url), "not canonical");
    match url.kind() {
        Kind::Http { host, port, path } => {
            assert!(port != 0 && !host.is_empty());
            assert!(path.is_empty() || path.starts_with('/') && !path.ends_with('/'));
            let host = match host.parse::<Ipv6Addr>() {
                Ok(_) => format!("[{host}]"),
                Err(_) => host.to_string(),
            };
            let numeric = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
            let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
            assert!(host.starts_with('[') || !numeric(last) || host.parse::<Ipv4Addr>().is_ok());
            let port = if port == 80 { String::new() } else { format!(":{port}") };
            assert_eq!(text, format!("http://{host}{port}{path}"), "the parts are not the whole");
        }
        Kind::Null { size_bytes } => assert!(size_bytes > 0 && text.starts_with("null:")),
    }
}

/// Places of the ring that [`entries`] puts into hostile memory.
const PLACES: usize = 4;

/// Bytes that the other side wrote into shared memory, while this one was reading: nothing panics,
/// no more comes out of a ring than it holds, and entries mean the same written back.
///
/// The first bytes fill the memory; those after it say what happens, step by step.
pub(crate) fn entries(data: &[u8]) {
    let mut bytes = data.iter().copied();
    let submissions = Hostile::<SUBMISSION_WORDS>::fill(&mut bytes);
    let completions = Hostile::<COMPLETION_WORDS>::fill(&mut bytes);
    submissions.read(&mut bytes.clone(), submission);
    completions.read(&mut bytes.clone(), completion);
    ready_set(&mut bytes);
    let offset = u64::from_le_bytes(std::array::from_fn(|_| bytes.next().unwrap_or(0)));
    if let Some(mapping) = Mapping::at(offset) {
        assert_eq!(mapping.offset(), offset);
        assert!(mapping.bytes() > 0);
    }
    match Listing::from_bytes(data) {
        Some(listing) => assert_eq!(listing.names, &data[LISTING_HEAD_BYTES..]),
        None => assert!(data.len() < LISTING_HEAD_BYTES),
    }
}

fn word(bytes: &mut impl Iterator<Item = u8>) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|_| bytes.next().unwrap_or(0)))
}

struct Hostile<const N: usize> {
    tail: AtomicU64,
    words: Vec<AtomicU64>,
}

impl<const N: usize> Hostile<N> {
    fn fill(bytes: &mut impl Iterator<Item = u8>) -> Self {
        let words = (0..PLACES * N).map(|_| AtomicU64::new(word(bytes))).collect();
        // Small tails are the ones that get anywhere.
        let tail = bytes.next().map_or(0, u64::from);
        Self { tail: AtomicU64::new(tail), words }
    }

    /// Pops, and between pops changes the memory as `script` says.
    fn read(&self, script: &mut impl Iterator<Item = u8>, mut entry: impl FnMut([u64; N])) {
        let ring = Shared::<_, N>::new(&self.tail, &self.words).expect("a power of two");
        let mut consumer = Consumer::<N>::new();
        let (mut head, mut most) = (0u64, 0u64);
        loop {
            match consumer.pop(&ring) {
                Ok(Some(words)) => {
                    head += 1;
                    entry(words);
                }
                Ok(None) => assert_eq!(head, self.tail.load_relaxed(), "an entry is left"),
                Err(Overrun) => {
                    let ahead = self.tail.load_relaxed().wrapping_sub(head);
                    assert!(ahead > PLACES as u64, "{ahead} entries are no overrun");
                    return;
                }
            }
            most = most.max(self.tail.load_relaxed());
            assert!(head <= most, "more comes out than was ever claimed");
            match script.next() {
                None => return,
                Some(step @ 0..=127) => {
                    self.words[usize::from(step) % self.words.len()].store_relaxed(word(script));
                }
                Some(128..=191) => self.tail.store_relaxed(word(script)),
                Some(step) => {
                    let tail = self.tail.load_relaxed();
                    self.tail.store_relaxed(tail.wrapping_add(u64::from(step % 8)));
                }
            }
        }
    }
}

fn submission(words: [u64; SUBMISSION_WORDS]) {
    if let Ok(submission) = Submission::from_words(words) {
        assert_eq!(Submission::from_words(submission.to_words()), Ok(submission));
        let (tag, generation) = Submission::cancelled(submission.arg);
        let known = Submission::cancel_arg(tag, generation);
        assert_eq!(Submission::cancelled(known), (tag, generation));
    }
}

fn completion(words: [u64; COMPLETION_WORDS]) {
    let completion = Completion::from_words(words);
    assert_eq!(Completion::from_words(completion.to_words()), completion);
    match completion.status() {
        Some(status) => assert_eq!(status.to_number(), completion.status),
        None => assert_ne!(completion.status, 0),
    }
    if let Some(Status::Failed(errno)) = completion.status() {
        assert!(Errno::ALL.contains(&errno) && errno.number() < 512);
    }
}

/// A set over hostile words has members below its capacity, each at most once.
fn ready_set(bytes: &mut impl Iterator<Item = u8>) {
    let summary = AtomicU64::new(word(bytes));
    let words: Vec<_> = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
    for _ in 0..4 {
        let at = bytes.next().map_or(0, usize::from);
        words[at % WORDS].store_relaxed(word(bytes));
    }
    let few = bytes.next().map_or(WORDS, |count| usize::from(count) % (WORDS + 1));
    let set = ReadySet::new(&summary, &words[..few]);
    let mut members = BTreeSet::new();
    set.take(|member| {
        assert!(member < CAPACITY.min(few * 64) && members.insert(member));
    });
    assert!(set.is_empty());
    let flag = AtomicU64::new(word(bytes));
    let woken = [(); 2].map(|()| Sleeper::new(&flag).must_wake());
    assert!(!woken[1], "woken twice");
}
