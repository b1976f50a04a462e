// SPDX-License-Identifier: GPL-2.0-only
//! The kernel's reports of data races, and which of them are the module's
//! (Documentation/dev-tools/kcsan.rst): those with a function of the module on one of the two
//! stacks. Others are between functions of the kernel that did not run for it.

use super::kmsg::Record;

/// How a report begins, after a rule.
const TITLE: &str = "BUG: KCSAN:";
/// How a function of the module is marked on a stack.
const OURS: &str = "[srb]";

/// A line of equal signs, above and below a report.
fn is_rule(record: &Record) -> bool {
    record.text.len() > 20 && record.text.bytes().all(|byte| byte == b'=')
}

/// The records without the reports of races in which the module has no part.
#[must_use]
pub fn without_others(records: Vec<Record>) -> Vec<Record> {
    let mut left = Vec::with_capacity(records.len());
    let mut records = records.into_iter().peekable();
    while let Some(record) = records.next() {
        let titled = records.peek().is_some_and(|next| next.text.contains(TITLE));
        if !is_rule(&record) || !titled {
            left.push(record);
            continue;
        }
        let mut report = vec![record];
        for line in records.by_ref() {
            let last = is_rule(&line);
            report.push(line);
            if last {
                break;
            }
        }
        if report.iter().any(|line| line.text.ends_with(OURS)) {
            left.append(&mut report);
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "==================================================================";

    fn log(lines: &[&str]) -> Vec<Record> {
        let record = |line: &&str| Record { level: 3, facility: 0, text: (*line).to_owned() };
        lines.iter().map(record).collect()
    }

    #[test]
    fn a_race_is_the_modules_if_it_is_on_a_stack() {
        let ours = log(&[RULE, "BUG: KCSAN: data-race in a / b", " a+0x1/0x2 [srb]", RULE]);
        assert_eq!(without_others(ours.clone()), ours);
        let by_its_name_alone = "CPU: 0 UID: 0 PID: 2 Comm: srb-agent";
        let others = log(&[RULE, "BUG: KCSAN: data-race in a / b", by_its_name_alone, RULE]);
        assert_eq!(without_others(others), []);
    }

    #[test]
    fn what_stands_around_a_race_is_left() {
        let race = [RULE, "BUG: KCSAN: data-race in a / b", " a+0x1/0x2", RULE];
        let lines = [&["before"][..], &race, &["between"], &race, &["after"]].concat();
        assert_eq!(without_others(log(&lines)), log(&["before", "between", "after"]));
        let cut_short = log(&race[..3]);
        assert_eq!(without_others(cut_short), []);
    }

    #[test]
    fn reports_of_another_kind_are_left() {
        let lines = log(&[RULE, "BUG: KASAN: use-after-free in a", " a+0x1/0x2", RULE]);
        assert_eq!(without_others(lines.clone()), lines);
    }
}
