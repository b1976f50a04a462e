// SPDX-License-Identifier: GPL-2.0-only
//! What may reach a terminal: text from servers and files is shown, never obeyed.

/// `text` as a terminal may see it: what a server calls a volume must not move the cursor.
pub(crate) fn shown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            safe.extend(c.escape_unicode());
        } else {
            safe.push(c);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_spelled_out() {
        assert_eq!(shown("v\u{f6}l 1"), "v\u{f6}l 1");
        assert_eq!(shown("a\x1b[2Jb\u{9b}"), "a\\u{1b}[2Jb\\u{9b}");
    }
}
