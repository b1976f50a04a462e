// SPDX-License-Identifier: GPL-2.0-only
//! Which request meets which fault: a pure function of the seed and the request's number.
//!
//! Numbers are those of a request's class (the third read, the fifth write), so the reads of a
//! client meet the same faults however its writes fall between them. The mixing function is the
//! one of SplitMix64 (Steele, Lea and Flood, *Fast splittable pseudorandom number generators*,
//! 2014).

use super::plan::Plan;
use super::rule::{Class, Fault, WHOLE};

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The fault that a request meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Drawn {
    /// The rule's place in the plan.
    pub(crate) rule: usize,
    pub(crate) fault: Fault,
    /// What is still open about the fault goes by this number.
    pub(crate) chance: u64,
}

impl Drawn {
    /// A number from `min` to `max`, both of them possible.
    pub(crate) fn between(self, min: u64, max: u64) -> u64 {
        min + scale(self.chance, max.saturating_sub(min).saturating_add(1))
    }
}

/// The fault of the request `number` of its class, counted from 0.
pub(crate) fn draw(plan: &Plan, class: Class, number: u64) -> Option<Drawn> {
    let stream = mix(plan.seed().wrapping_add((class as u64 + 1).wrapping_mul(GOLDEN)));
    let random = mix(stream.wrapping_add(number.wrapping_mul(GOLDEN)));
    let mut left = u32::try_from(scale(random, u64::from(WHOLE))).unwrap_or(WHOLE);
    for (index, rule) in plan.rules().iter().enumerate() {
        if rule.scope.covers(class) {
            match left.checked_sub(rule.rate) {
                Some(rest) => left = rest,
                None => return Some(Drawn { rule: index, fault: rule.fault, chance: mix(random) }),
            }
        }
    }
    None
}

/// Maps a random number to one below `end`, as evenly as 64 bits allow.
fn scale(random: u64, end: u64) -> u64 {
    ((u128::from(random) * u128::from(end)) >> 64) as u64
}

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::rule::Kind;

    const DRAWS: u64 = 10_000;

    fn schedule(text: &str, class: Class) -> Vec<Option<Drawn>> {
        let plan: Plan = text.parse().unwrap();
        (0..DRAWS).map(|number| draw(&plan, class, number)).collect()
    }

    #[test]
    fn a_seed_gives_the_same_schedule_again_and_another_seed_another() {
        let text = "read:20%:delay=1..900 write:20%:reset-amid any:5%:garbage";
        let one = schedule(&format!("seed=1 {text}"), Class::Read);
        assert_eq!(one, schedule(&format!("seed=1 {text}"), Class::Read));
        assert_ne!(one, schedule(&format!("seed=2 {text}"), Class::Read));
        let hits =
            |draws: &[Option<Drawn>]| -> Vec<bool> { draws.iter().map(Option::is_some).collect() };
        let writes = schedule(&format!("seed=1 {text}"), Class::Write);
        assert_ne!(hits(&one), hits(&writes), "classes have schedules of their own");
    }

    #[test]
    fn rates_are_kept() {
        let text = "seed=42 read:2%:reset-before any:1.5%:status=503 write:30%:lost-reply \
                    all:0.5%:busy=1 control:10%:full";
        for (class, expected) in [
            (Class::Read, &[(Kind::ResetBefore, 200), (Kind::Status, 150), (Kind::Busy, 50)][..]),
            (Class::Write, &[(Kind::Status, 150), (Kind::LostReply, 3000), (Kind::Busy, 50)]),
            (Class::Control, &[(Kind::Busy, 50), (Kind::Full, 1000)]),
        ] {
            let draws = schedule(text, class);
            for &(kind, mean) in expected {
                let hit = |drawn: &&Drawn| drawn.fault.kind() == kind;
                let count = draws.iter().flatten().filter(hit).count() as f64;
                // Five standard deviations: a correct rate fails once in a million seeds.
                let bound = 5.0 * f64::from(mean).sqrt();
                let off = (count - f64::from(mean)).abs();
                assert!(off < bound, "{class:?} {kind:?}: {count}, not {mean}");
            }
            let all: u32 = expected.iter().map(|(_, mean)| mean).sum();
            let faulty = draws.iter().flatten().count() as f64;
            assert!((faulty - f64::from(all)).abs() < 5.0 * f64::from(all).sqrt(), "{faulty}");
        }
    }

    #[test]
    fn never_and_always() {
        assert!(schedule("read:0%:full", Class::Read).iter().all(Option::is_none));
        assert!(schedule("read:100%:full", Class::Read).iter().all(Option::is_some));
        assert!(schedule("read:100%:full", Class::Write).iter().all(Option::is_none));
    }

    #[test]
    fn a_span_is_used_to_both_its_ends() {
        let mut seen = [0; 4];
        for drawn in schedule("read:100%:full", Class::Read).into_iter().flatten() {
            seen[usize::try_from(drawn.between(10, 13) - 10).unwrap()] += 1;
            assert_eq!(drawn.between(7, 7), 7);
        }
        assert!(seen.iter().all(|&count| (2300..2700).contains(&count)), "{seen:?}");
    }
}
