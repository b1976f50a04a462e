// SPDX-License-Identifier: GPL-2.0-only
//! What was asked and answered, and whether a register that nobody tampers with could have answered
//! so.
//!
//! # The model
//! Each sector is a register. A write takes effect at least once between its begin and its end if
//! it succeeded, any number of times there in any case (it may have had several tries), and until
//! the settle time after its end if it, or another one that was under way with it, failed. A read
//! returns what the last effect before some moment between its begin and its end left there. Every
//! write writes another value, so each read tells which write it saw, and the following are the
//! only ways to go wrong:
//! - a read of what nobody wrote, or nobody had begun to write;
//! - a read of a write that was overwritten before: another write began after the former had ended
//!   (also if that had failed), and had taken effect, by its success or by the witness of a read,
//!   before this read began;
//! - a read of a write that was gone before: another read saw something else after the former could
//!   take effect for the last time.

use std::collections::hash_map::DefaultHasher;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::time::Duration;

use tokio::time::Instant;

/// A moment: simulated time, and a number for the order of what happens at the same time.
pub(super) type Moment = (Instant, u64);

/// A request and what became of it.
#[derive(Debug)]
enum Event {
    Write { sectors: Range<usize>, value: u64, begin: Moment, end: Option<(Moment, bool)> },
    Read { first: usize, values: Vec<u64>, begin: Moment, end: Moment },
}

/// A write that has begun.
#[derive(Debug)]
pub(super) struct Begun(usize);

/// All that happened.
#[derive(Debug)]
pub(super) struct History {
    events: Vec<Event>,
    start: Moment,
    next: u64,
    writes: u64,
}

/// A write, as one sector sees it.
#[derive(Debug)]
struct Effects {
    begin: Moment,
    /// By when it had an effect.
    known: Option<Moment>,
    end: Option<Moment>,
    /// The last moment at which it may take effect, if nothing was written since.
    last: Option<Moment>,
    /// The earliest end of a read that began after that moment and saw something else.
    gone: Option<Moment>,
}

#[derive(Debug)]
struct Seen {
    value: u64,
    begin: Moment,
    end: Moment,
}

impl History {
    pub(super) fn new() -> Self {
        Self { events: Vec::new(), start: (Instant::now(), 0), next: 1, writes: 0 }
    }

    pub(super) fn now(&mut self) -> Moment {
        self.next += 1;
        (Instant::now(), self.next)
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// A new write; also says its value, which no other has.
    pub(super) fn begin_write(&mut self, sectors: Range<usize>) -> (Begun, u64) {
        self.writes += 1;
        let (value, begin) = (self.writes, self.now());
        self.events.push(Event::Write { sectors, value, begin, end: None });
        (Begun(self.events.len() - 1), value)
    }

    pub(super) fn end_write(&mut self, write: Begun, success: bool) {
        let now = self.now();
        if let Event::Write { end, .. } = &mut self.events[write.0] {
            *end = Some((now, success));
        }
    }

    pub(super) fn read(&mut self, first: usize, values: Vec<u64>, begin: Moment) {
        let end = self.now();
        self.events.push(Event::Read { first, values, begin, end });
    }

    /// A number that tells this history from others, at whatever time it happened.
    pub(super) fn digest(&self) -> u64 {
        let since = |moment: &Moment| (moment.0 - self.start.0, moment.1);
        let mut hasher = DefaultHasher::new();
        for event in &self.events {
            match event {
                Event::Write { sectors, value, begin, end } => {
                    let end = end.map(|(end, success)| (since(&end), success));
                    (sectors, value, since(begin), end).hash(&mut hasher);
                }
                Event::Read { first, values, begin, end } => {
                    (first, values, since(begin), since(end)).hash(&mut hasher);
                }
            }
        }
        hasher.finish()
    }

    /// Failed writes take effect until `settle` after their end.
    pub(super) fn check(&self, sectors: usize, settle: Duration) -> Result<(), String> {
        (0..sectors).try_for_each(|sector| {
            let (mut writes, reads) = self.of(sector, settle);
            judge(&mut writes, &reads).map_err(|why| format!("sector {sector}: {why}"))
        })
    }

    /// Whether a write of these sectors failed that was under way at some time from `begin` to
    /// `end`. Nobody can say which of the two came last, and a late try may turn it round.
    fn met_a_failure(&self, of: &Range<usize>, begin: Moment, end: Moment) -> bool {
        self.events.iter().any(|event| match event {
            Event::Write { sectors, begin: first, end: Some((last, false)), .. } => {
                let shares = sectors.start.max(of.start) < sectors.end.min(of.end);
                shares && *first < end && begin < *last
            }
            _ => false,
        })
    }

    fn of(&self, sector: usize, settle: Duration) -> (HashMap<u64, Effects>, Vec<Seen>) {
        let first = Some(self.start);
        let initial =
            Effects { begin: self.start, known: first, end: first, last: first, gone: None };
        let (mut writes, mut reads) = (HashMap::from([(0, initial)]), Vec::new());
        for event in &self.events {
            match event {
                Event::Write { sectors, value, begin, end } if sectors.contains(&sector) => {
                    let known = end.filter(|(_, success)| *success).map(|(end, _)| end);
                    let this = sector..sector + 1;
                    let last = end.map(|(end, success)| match success {
                        true if !self.met_a_failure(&this, *begin, end) => end,
                        _ => (end.0 + settle, u64::MAX),
                    });
                    let (begin, end) = (*begin, end.map(|(end, _)| end));
                    writes.insert(*value, Effects { begin, known, end, last, gone: None });
                }
                Event::Read { first, values, begin, end } => {
                    if let Some(value) = sector.checked_sub(*first).and_then(|n| values.get(n)) {
                        reads.push(Seen { value: *value, begin: *begin, end: *end });
                    }
                }
                Event::Write { .. } => {}
            }
        }
        (writes, reads)
    }
}

fn earlier(one: Option<Moment>, other: Moment) -> Option<Moment> {
    Some(one.map_or(other, |one| one.min(other)))
}

fn judge(writes: &mut HashMap<u64, Effects>, reads: &[Seen]) -> Result<(), String> {
    for read in reads {
        for (value, write) in &mut *writes {
            if *value == read.value {
                write.known = earlier(write.known, read.end);
            } else if write.last.is_some_and(|last| read.begin > last) {
                write.gone = earlier(write.gone, read.end);
            }
        }
    }
    for read in reads {
        let Some(write) = writes.get(&read.value).filter(|write| write.begin < read.end) else {
            return Err(format!("nobody wrote what was read: {read:?}"));
        };
        if write.gone.is_some_and(|gone| gone < read.begin) {
            return Err(format!("came back after it was gone: {read:?} of {write:?}"));
        }
        let overwrites = |other: &&Effects| {
            write.end.is_some_and(|end| other.begin > end)
                && other.known.is_some_and(|known| known < read.begin)
        };
        if let Some(by) = writes.values().find(overwrites) {
            return Err(format!("had been overwritten: {read:?} of {write:?} by {by:?}"));
        }
    }
    Ok(())
}

mod tests {
    use super::*;

    fn history(of: impl FnOnce(&mut History)) -> Result<(), String> {
        let mut history = History::new();
        of(&mut history);
        history.check(1, Duration::from_secs(1))
    }

    fn write(history: &mut History, success: bool) -> u64 {
        let (write, value) = history.begin_write(0..1);
        history.end_write(write, success);
        value
    }

    fn read(history: &mut History, value: u64) {
        let begin = history.now();
        history.read(0, vec![value], begin);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_right() {
        let right = history(|history| {
            read(history, 0);
            let one = write(history, true);
            read(history, one);
            let failed = write(history, false);
            read(history, one);
            read(history, failed);
            let (open, value) = history.begin_write(0..1);
            let (other, second) = history.begin_write(0..1);
            // Under way at the same time, they may alternate.
            [value, second, value, second].into_iter().for_each(|seen| read(history, seen));
            history.end_write(open, true);
            history.end_write(other, true);
            read(history, value);
        });
        assert_eq!(right, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_wrong() {
        let stale = history(|history| {
            let one = write(history, true);
            write(history, true);
            read(history, one);
        });
        assert!(stale.expect_err("stale").contains("had been overwritten"));
        let made_up = history(|history| read(history, 7));
        assert!(made_up.expect_err("made up").contains("nobody wrote"));
        let back = history(|history| {
            let (one, first) = history.begin_write(0..1);
            let (two, second) = history.begin_write(0..1);
            history.end_write(one, true);
            history.end_write(two, true);
            read(history, second);
            read(history, first);
        });
        assert!(back.expect_err("back").contains("came back"));
        let unseen = history(|history| {
            let one = write(history, true);
            let (_open, second) = history.begin_write(0..1);
            read(history, second);
            read(history, one);
        });
        assert!(unseen.expect_err("back").contains("came back"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_write_may_come_until_it_has_settled() {
        let mut history = History::new();
        write(&mut history, false);
        read(&mut history, 0);
        let other = write(&mut history, false);
        read(&mut history, other);
        assert_eq!(history.check(1, Duration::from_secs(1)), Ok(()));
        let mut history = History::new();
        let failed = write(&mut history, false);
        read(&mut history, 0);
        tokio::time::advance(Duration::from_secs(3)).await;
        read(&mut history, 0);
        assert_eq!(history.check(1, Duration::from_secs(1)), Ok(()));
        read(&mut history, failed);
        assert!(history.check(1, Duration::from_secs(1)).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_under_way_with_a_failed_write_may_alternate_with_it_until_it_has_settled() {
        let alternate = |wait: u64| async move {
            let mut history = History::new();
            let (one, first) = history.begin_write(0..1);
            let (two, second) = history.begin_write(0..1);
            history.end_write(one, true);
            history.end_write(two, false);
            read(&mut history, first);
            tokio::time::advance(Duration::from_secs(wait)).await;
            read(&mut history, second);
            read(&mut history, first);
            history.check(1, Duration::from_secs(1))
        };
        assert_eq!(alternate(0).await, Ok(()));
        assert!(alternate(3).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_write_never_comes_after_a_later_one() {
        let wrong = history(|history| {
            let failed = write(history, false);
            let one = write(history, true);
            read(history, one);
            read(history, failed);
        });
        assert!(wrong.expect_err("late").contains("had been overwritten"));
    }
}
