// SPDX-License-Identifier: GPL-2.0-only
//! A plan of faults: a seed and rules, one line of text.

use std::fmt;
use std::str::FromStr;

use super::rule::{decimal, Class, Rule, WHOLE};

/// Rules of a plan.
const MOST_RULES: usize = 64;
const SEED: &str = "seed=";

/// What goes wrong, and how often: `seed=42 read:2%:delay=20..200 any:0.5%:reset-amid`.
///
/// Parsed from and displayed as that line; `docs/faults.md` describes it. Without a seed it is 0.
///
/// # Invariants
///
/// At least one rule. For each request the rates of the rules that are for it add up to at most
/// 100 %.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    seed: u64,
    rules: Vec<Rule>,
}

impl Plan {
    /// What decides which requests are hit.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The same faults on other requests.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The rules, in the order in which they were written.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

/// A text that is no plan; displayed with the word that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", word.as_ref().map(|word| format!("{word:?}: ")).unwrap_or_default())]
pub struct PlanError {
    word: Option<String>,
    reason: String,
}

impl PlanError {
    fn at(word: &str, reason: impl ToString) -> Self {
        Self { word: Some(word.to_owned()), reason: reason.to_string() }
    }

    fn whole(reason: &str) -> Self {
        Self { word: None, reason: reason.to_owned() }
    }
}

impl FromStr for Plan {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        let (mut seed, mut rules) = (None, Vec::new());
        for word in text.split_whitespace() {
            if let Some(number) = word.strip_prefix(SEED) {
                let number = decimal(number)
                    .ok_or_else(|| PlanError::at(word, "a seed is a number below 2^64"))?;
                if seed.replace(number).is_some() {
                    return Err(PlanError::at(word, "a plan has one seed"));
                }
                continue;
            }
            rules.push(Rule::parse(word).map_err(|error| PlanError::at(word, error))?);
            if rules.len() > MOST_RULES {
                return Err(PlanError::at(word, format!("a plan has at most {MOST_RULES} rules")));
            }
            let sum = |class| -> u32 {
                let its = rules.iter().filter(|rule: &&Rule| rule.scope.covers(class));
                its.map(|rule| rule.rate).sum()
            };
            if Class::ALL.into_iter().any(|class| sum(class) > WHOLE) {
                return Err(PlanError::at(word, "with the rules before it this is above 100%"));
            }
        }
        if rules.is_empty() {
            return Err(PlanError::whole("a plan has at least one rule"));
        }
        Ok(Self { seed: seed.unwrap_or(0), rules })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SEED}{}", self.seed)?;
        self.rules.iter().try_for_each(|rule| write!(f, " {rule}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::rule::{Fault, Kind, Scope};
    use proptest::prelude::*;

    fn shown(text: &str) -> String {
        match text.parse::<Plan>() {
            Ok(plan) => plan.to_string(),
            Err(error) => format!("! {error}"),
        }
    }

    #[test]
    fn plans_are_normalised() {
        for (text, normal) in [
            ("read:2%:delay=20..200", "seed=0 read:2%:delay=20..200"),
            (" any:1.50%:status=503\n\tseed=7 ", "seed=7 any:1.5%:status=503"),
            ("any:03.1400%:delay=05..5", "seed=0 any:3.14%:delay=5"),
            ("seed=18446744073709551615 all:0%:full", "seed=18446744073709551615 all:0%:full"),
            ("read:100%:full write:100.0000%:full", "seed=0 read:100%:full write:100%:full"),
            ("control:0.0001%:freeze=3600000", "seed=0 control:0.0001%:freeze=3600000"),
        ] {
            assert_eq!(shown(text), normal);
        }
        let plan: Plan = "seed=1 all:5%:full".parse().unwrap();
        assert_eq!(plan.with_seed(2).to_string(), "seed=2 all:5%:full");
    }

    #[test]
    fn errors_name_the_word_and_the_reason() {
        for (text, part) in [
            ("", "at least one rule"),
            ("seed=5", "at least one rule"),
            ("seed=-1", r#""seed=-1": a seed is"#),
            ("seed=18446744073709551616", "below 2^64"),
            ("seed=1 seed=1", "one seed"),
            ("read", r#""read": a rule is"#),
            ("read:2%", "a rule is SCOPE"),
            ("all:1%:full head:1%:full", r#""head:1%:full": scopes are"#),
            ("all:1:full", "a rate is"),
            ("all:%:full", "a rate is"),
            ("all:.5%:full", "a rate is"),
            ("all:1.%:full", "a rate is"),
            ("all:+1%:full", "a rate is"),
            ("all:100.0001%:full", "a rate is"),
            ("all:1.00001%:full", "four decimals"),
            ("all:1%:explode", "kinds are delay, "),
            ("all:1%:full=1", "no argument"),
            ("all:1%:delay", "needs an argument"),
            ("all:1%:delay=", "milliseconds"),
            ("all:1%:delay=1..", "milliseconds"),
            ("all:1%:delay=9..8", "longer than the longest"),
            ("all:1%:late=3600001", "at most 3600000"),
            ("all:1%:busy=3601", "at most 3600"),
            ("all:1%:status=200", "400 to 599"),
            ("all:1%:status=600", "400 to 599"),
            ("any:1%:wrong-range", "for read"),
            ("all:1%:ignore-range", "read, write and any"),
            ("any:60%:full read:41%:garbage", r#""read:41%:garbage": with the rules before"#),
        ] {
            let shown = shown(text);
            assert!(shown.starts_with('!') && shown.contains(part), "{text:?}: {shown}");
        }
        assert!(shown(&"all:1%:full ".repeat(65)).contains("at most 64 rules"));
        assert!(!shown("read:100%:full write:100%:full control:100%:full").contains('!'));
    }

    fn fault() -> impl Strategy<Value = Fault> {
        let ms = 0..=3_600_000_u64;
        prop_oneof![
            (ms.clone(), ms.clone())
                .prop_map(|(a, b)| Fault::Delay { min_ms: a.min(b), max_ms: a.max(b) }),
            (400..600_u16).prop_map(Fault::Status),
            (0..=3600_u32).prop_map(|retry_after_secs| Fault::Busy { retry_after_secs }),
            ms.clone().prop_map(|ms| Fault::Late { ms }),
            ms.prop_map(|ms| Fault::Freeze { ms }),
            prop::sample::select(vec![
                Fault::ResetBefore,
                Fault::ResetAmid,
                Fault::ResetAfter,
                Fault::ShortBody,
                Fault::LongBody,
                Fault::WrongRange,
                Fault::Garbage,
                Fault::LostReply,
                Fault::Full,
                Fault::IgnoreRange,
            ]),
        ]
    }

    fn plan() -> impl Strategy<Value = Plan> {
        // So many rules at so high a rate are at most 100 % together.
        let scopes = [Scope::Read, Scope::Write, Scope::Any, Scope::Control, Scope::All];
        let rule = (prop::sample::select(scopes.to_vec()), 0..=WHOLE / 8, fault());
        let rule = rule.prop_map(|(scope, rate, fault)| match fault.kind() {
            Kind::WrongRange | Kind::IgnoreRange => Rule { scope: Scope::Read, rate, fault },
            _ => Rule { scope, rate, fault },
        });
        (any::<u64>(), prop::collection::vec(rule, 1..=8))
            .prop_map(|(seed, rules)| Plan { seed, rules })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(plan in plan()) {
            prop_assert_eq!(plan.to_string().parse::<Plan>(), Ok(plan));
        }

        #[test]
        fn any_text_is_answered(text in "(seed=[0-9]{0,3} )?[a-z0-9%.:= -]{0,40}") {
            if let Ok(plan) = text.parse::<Plan>() {
                prop_assert_eq!(plan.to_string().parse::<Plan>(), Ok(plan));
            }
        }
    }
}
