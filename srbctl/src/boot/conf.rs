// SPDX-License-Identifier: GPL-2.0-only
//! srb.conf: `NAME=VALUE` a line, as a shell would read it. `URLS` are the repository's, a
//! parameter of the module goes by its name, and `shutdown_secs` is for [`super::commands`].

use std::path::{Path, PathBuf};

use srb_proto::command::{parse_urls, Policy, RepositoryUrl};

use super::{each_line, Finding, Parsed, CONF, OLD_CONF};
use crate::known_params::{KNOWN, POLICY};

/// How long mounts may take to go when the machine stops, unless srb.conf says otherwise.
const SHUTDOWN_SECS: u32 = 60;
const MAX_SHUTDOWN_SECS: u32 = 3600;

/// A parameter, with where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) path: PathBuf,
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) value: String,
}

impl Setting {
    /// What is wrong with it, as it turned out.
    pub(super) fn finding(&self, what: String) -> Finding {
        Finding { path: self.path.clone(), line: self.line, what }
    }
}

/// What both files say together.
#[derive(Debug, PartialEq)]
pub(super) struct Conf {
    /// In their order, each once.
    pub(super) urls: Vec<RepositoryUrl>,
    /// Each once.
    pub(super) parameters: Vec<Setting>,
    pub(super) shutdown_secs: u32,
}

impl Default for Conf {
    fn default() -> Self {
        Self { urls: Vec::new(), parameters: Vec::new(), shutdown_secs: SHUTDOWN_SECS }
    }
}

/// Reads the original's file, if it is there, and then ours: later words win, URLs add up.
pub(super) fn read(etc: &Path) -> Parsed<Conf> {
    let mut conf = Conf::default();
    let mut findings = Vec::new();
    for name in [OLD_CONF, CONF] {
        let path = etc.join(name);
        each_line(&path, &mut findings, |line, text| conf.take(&path, line, text));
    }
    Parsed { value: conf, findings }
}

impl Conf {
    fn take(&mut self, path: &Path, line: usize, text: &str) -> Result<(), String> {
        let text = text.strip_prefix("export ").unwrap_or(text);
        let (name, value) = text.split_once('=').ok_or("this is not NAME=VALUE")?;
        let (name, value) = (name.trim(), unquoted(value.trim())?);
        match name {
            "URLS" => self.add_urls(value),
            "shutdown_secs" => {
                let secs = value.parse().ok().filter(|secs| (1..=MAX_SHUTDOWN_SECS).contains(secs));
                self.shutdown_secs = secs.ok_or_else(|| {
                    format!("shutdown_secs is a number from 1 to {MAX_SHUTDOWN_SECS}")
                })?;
                Ok(())
            }
            _ if KNOWN.iter().any(|known| known.name == name) => {
                check(name, value)?;
                self.parameters.retain(|other| other.name != name);
                let (path, name, value) = (path.to_owned(), name.to_owned(), value.to_owned());
                self.parameters.push(Setting { path, line, name, value });
                Ok(())
            }
            _ => {
                let names: Vec<_> = KNOWN.iter().map(|known| known.name).collect();
                let names = names.join(", ");
                Err(format!("{name:?} is none of URLS, shutdown_secs, {names}"))
            }
        }
    }

    /// A bad one does not keep the good ones out.
    fn add_urls(&mut self, list: &str) -> Result<(), String> {
        let mut wrong = Vec::new();
        for (text, parsed) in list.split_whitespace().flat_map(|word| parse_urls(word.as_bytes())) {
            match parsed {
                Ok(url) if self.urls.contains(&url) => {}
                Ok(url) => self.urls.push(url),
                Err(error) => {
                    wrong.push(format!("{}: {}", String::from_utf8_lossy(text), error.reason()));
                }
            }
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join("; "))
        }
    }
}

/// What can be known before the module is asked.
fn check(name: &str, value: &str) -> Result<(), String> {
    if name == POLICY {
        return Policy::parse(value.as_bytes())
            .map(drop)
            .map_err(|error| format!("{name}: {}", error.reason()));
    }
    match value.parse::<i64>() {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("{name} is a whole number; {value:?} is none")),
    }
}

/// A value without its quotes, or without the comment after it.
fn unquoted(value: &str) -> Result<&str, String> {
    let Some(quote) = value.chars().next().filter(|first| matches!(first, '"' | '\'')) else {
        let end = value.find(" #").unwrap_or(value.len());
        return Ok(value.get(..end).unwrap_or_default().trim());
    };
    let rest = value.get(1..).unwrap_or_default();
    let (inside, after) = rest.split_once(quote).ok_or("the quote has no end")?;
    let after = after.trim();
    if after.is_empty() || after.starts_with('#') {
        Ok(inside.trim())
    } else {
        Err(format!("{after:?} stands after the end of the quote"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn parsed(files: &[(&str, &str)]) -> (Conf, Vec<String>) {
        let etc = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = etc.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        }
        let Parsed { value, findings } = read(etc.path());
        let root = format!("{}/", etc.path().display());
        (value, findings.iter().map(|it| it.to_string().replace(&root, "")).collect())
    }

    fn words(conf: &Conf) -> (Vec<&str>, Vec<(&str, &str)>) {
        (
            conf.urls.iter().map(RepositoryUrl::as_str).collect(),
            conf.parameters.iter().map(|it| (it.name.as_str(), it.value.as_str())).collect(),
        )
    }

    #[test]
    fn without_files_nothing_is_configured() {
        assert_eq!(parsed(&[]), (Conf::default(), vec![]));
    }

    #[test]
    fn urls_and_parameters() {
        let text = "# where\nURLS=\"http://a/x/, http://b\"  # two\n\nreq_timeout = 5 # short\n\
                    policy='queue=60'\nshutdown_secs=20\nreq_timeout=6\n";
        let (conf, findings) = parsed(&[(CONF, text)]);
        assert_eq!(findings, Vec::<String>::new());
        let expected = vec![("policy", "queue=60"), ("req_timeout", "6")];
        assert_eq!(words(&conf), (vec!["http://a/x", "http://b"], expected));
        assert_eq!(conf.shutdown_secs, 20);
    }

    #[test]
    fn the_originals_file_is_understood_and_comes_first() {
        let old = "# Space separated\nexport URLS='http://a http://b'\n";
        let (conf, findings) = parsed(&[(OLD_CONF, old), (CONF, "URLS=http://c,http://a")]);
        assert_eq!(findings, Vec::<String>::new());
        assert_eq!(words(&conf).0, ["http://a", "http://b", "http://c"]);
    }

    #[test]
    fn each_bad_line_is_named_and_the_others_hold() {
        let text = "URLS=http://a,ftp://b\nreq_timeout=soon\nnonsense\nreq_timeuot=5\n\
                    policy=hold\nURLS=\"http://c\nURLS=\"http://d\" http://e\n\
                    shutdown_secs=0\nagent_grace=-1\n";
        let (conf, findings) = parsed(&[(CONF, text)]);
        assert_eq!(words(&conf), (vec!["http://a"], vec![("agent_grace", "-1")]));
        let parts = [
            "srb/srb.conf:1: ftp://b: the URL does not begin with http://",
            "srb/srb.conf:2: req_timeout is a whole number; \"soon\" is none",
            "srb/srb.conf:3: this is not NAME=VALUE",
            "srb/srb.conf:4: \"req_timeuot\" is none of URLS, shutdown_secs, debug",
            "srb/srb.conf:5: policy: a policy is fail, queue or queue=SECONDS",
            "srb/srb.conf:6: the quote has no end",
            "srb/srb.conf:7: \"http://e\" stands after the end of the quote",
            "srb/srb.conf:8: shutdown_secs is a number from 1 to 3600",
        ];
        assert_eq!(findings.len(), parts.len(), "{findings:#?}");
        for (finding, part) in findings.iter().zip(parts) {
            assert!(finding.starts_with(part), "{finding}");
        }
    }
}
