// SPDX-License-Identifier: GPL-2.0-only
//! The slice of the kernel's `kernel` crate that the module is built with on kernels whose headers
//! do not have it: taken out of a kernel's source, and changed as `kmod/crate/changes` says.
//!
//! The source is not kept in this repository. A change names what it touches, and is an error if
//! that is not there exactly once: another source than the one it was written for is found at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

type Error = Box<dyn std::error::Error>;

/// What `changes` says, in its order.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    /// Versions of the source that it was written for, as `7.3`.
    versions: Vec<String>,
    /// Files and folders below `rust/` that are taken.
    takes: Vec<String>,
    edits: Vec<Edit>,
}

/// A change of one file.
#[derive(Debug, PartialEq)]
struct Edit {
    file: String,
    line: usize,
    what: What,
}

#[derive(Debug, PartialEq)]
enum What {
    /// The line that is this, but for blanks around it, goes.
    Line(String),
    /// The item whose first line begins so goes, with all attributes and comments that belong to
    /// it.
    Item(String),
    /// The text becomes another.
    Text(String, String),
    /// The lines go above the first line that begins so.
    Above(String, String),
}

/// Takes the slice out of `source`, a folder or an archive that `tar` unpacks, into `out`, which
/// must not be there. `own` is the folder with `changes` and the files that stand in place of the
/// crate's own.
pub(crate) fn take(source: &Path, own: &Path, out: &Path) -> Result<(), Error> {
    let plan = Plan::parse(&fs::read_to_string(own.join("changes"))?)?;
    let unpacked;
    let source = if source.is_dir() {
        source
    } else {
        unpacked = Unpacked::new(source, out.with_extension("unpacked"))?;
        &unpacked.0
    };
    let version = version(&fs::read_to_string(source.join("Makefile"))?)
        .ok_or("the source's Makefile names no version")?;
    if !plan.versions.contains(&version) {
        let known = plan.versions.join(", ");
        return Err(format!("this is Linux {version}; the changes are for {known}").into());
    }
    fs::create_dir(out)?;
    for path in &plan.takes {
        copy(&source.join("rust").join(path), &out.join(path))
            .map_err(|error| format!("{path}: {error}"))?;
    }
    for edit in &plan.edits {
        edit.apply(out)?;
    }
    for entry in fs::read_dir(own)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.file_name().ok_or("a file without a name")?;
            fs::copy(&path, out.join("kernel").join(name))?;
        }
    }
    fs::copy(source.join("COPYING"), out.join("COPYING"))?;
    fs::write(
        out.join("ORIGIN"),
        format!(
            "A part of rust/ of Linux {version}, changed for srb as kmod/crate/changes says;\n\
             kernel/lib.rs, prelude.rs and text.rs are srb's own. COPYING and the files' heads say \
             under which licences.\n"
        ),
    )?;
    Ok(())
}

/// What is needed of an archive, in a folder that goes when this does.
struct Unpacked(PathBuf);

impl Unpacked {
    fn new(source: &Path, folder: PathBuf) -> Result<Self, Error> {
        fs::create_dir(&folder)?;
        let unpacked = Self(folder);
        let done = Command::new("tar")
            .arg("-xf")
            .arg(source)
            .arg("-C")
            .arg(&unpacked.0)
            .args(["--strip-components=1", "--wildcards"])
            .args(["*/rust", "linux-*/Makefile", "linux-*/COPYING"])
            .status()?;
        if done.success() {
            Ok(unpacked)
        } else {
            Err(format!("tar: {done}").into())
        }
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        // A folder that cannot be removed is in nobody's way.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `VERSION.PATCHLEVEL` of a kernel's Makefile.
fn version(makefile: &str) -> Option<String> {
    let value = |name: &str| {
        makefile.lines().find_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        })
    };
    Some(format!("{}.{}", value("VERSION")?, value("PATCHLEVEL")?))
}

/// Copies a file or a folder, whose parents are made.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    if from.is_dir() {
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            copy(&from.join(&name), &to.join(&name))?;
        }
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to)?;
    Ok(())
}

impl Plan {
    fn parse(text: &str) -> Result<Self, Error> {
        let mut plan = Self::default();
        let mut file = None;
        for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
            let bad = |what: &str| format!("changes:{number}: {what}: {line}");
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(name) = line.strip_prefix('[') {
                file = Some(name.strip_suffix(']').ok_or_else(|| bad("no ]"))?.to_owned());
                continue;
            }
            let (verb, rest) = line.split_once(' ').ok_or_else(|| bad("one word"))?;
            let pair = || {
                let (left, right) = rest.split_once(" => ").ok_or_else(|| bad("no =>"))?;
                Ok::<_, String>((left.to_owned(), right.replace("\\n", "\n")))
            };
            let what = match verb {
                "version" => {
                    plan.versions.push(rest.to_owned());
                    continue;
                }
                "take" => {
                    plan.takes.extend(rest.split(' ').map(str::to_owned));
                    continue;
                }
                "line" => What::Line(rest.to_owned()),
                "item" => What::Item(rest.to_owned()),
                "text" => pair().map(|(old, new)| What::Text(old, new))?,
                "above" => pair().map(|(mark, new)| What::Above(mark, new))?,
                _ => return Err(bad("no such change").into()),
            };
            let file = file.clone().ok_or_else(|| bad("in no file"))?;
            plan.edits.push(Edit { file, line: number, what });
        }
        Ok(plan)
    }
}

impl Edit {
    fn apply(&self, out: &Path) -> Result<(), Error> {
        let path: PathBuf = out.join(&self.file);
        let failed =
            |why: &dyn std::fmt::Display| format!("changes:{}: {}: {why}", self.line, self.file);
        let text = fs::read_to_string(&path).map_err(|error| failed(&error))?;
        let changed = self.what.change(&text).map_err(|why| failed(&why))?;
        fs::write(&path, changed).map_err(|error| failed(&error))?;
        Ok(())
    }
}

impl What {
    /// The text with this change.
    fn change(&self, text: &str) -> Result<String, String> {
        let lines: Vec<&str> = text.lines().collect();
        let without = |first: usize, last: usize| {
            let kept = lines[..first].iter().chain(&lines[last + 1..]);
            kept.flat_map(|line| [line, "\n"]).collect::<String>()
        };
        match self {
            Self::Line(gone) => {
                let at = only(&lines, "line", |line| line.trim() == gone)?;
                Ok(without(at, at))
            }
            Self::Item(begin) => {
                let at = only(&lines, "item", |line| line.trim_start().starts_with(begin))?;
                Ok(without(head(&lines, at), tail(&lines, at)?))
            }
            Self::Text(old, new) => match text.matches(old.as_str()).count() {
                1 => Ok(text.replacen(old.as_str(), new, 1)),
                count => Err(format!("the text is there {count} times, not once")),
            },
            Self::Above(mark, new) => {
                let at = only(&lines, "line", |line| line.starts_with(mark.as_str()))?;
                let mut changed = lines.clone();
                changed.insert(at, new);
                Ok(changed.into_iter().flat_map(|line| [line, "\n"]).collect())
            }
        }
    }
}

/// The one line that is so.
fn only(lines: &[&str], what: &str, is: impl Fn(&str) -> bool) -> Result<usize, String> {
    let found: Vec<usize> = (0..lines.len()).filter(|&at| is(lines[at])).collect();
    match found[..] {
        [at] => Ok(at),
        _ => Err(format!("the {what} is there {} times, not once", found.len())),
    }
}

/// The first line of the attributes and comments above an item.
fn head(lines: &[&str], mut at: usize) -> usize {
    while at > 0 {
        let above = lines[at - 1].trim_start();
        if !above.starts_with("//") && !above.starts_with("#[") {
            break;
        }
        at -= 1;
    }
    at
}

/// The last line of an item: the one that closes its first bracket, or has its semicolon.
fn tail(lines: &[&str], at: usize) -> Result<usize, String> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let own = indent(lines[at]);
    for (offset, line) in lines[at..].iter().enumerate() {
        let line = line.trim_end();
        let whole = line.ends_with(';') || line.ends_with('}');
        if whole && indent(line) == own {
            return Ok(at + offset);
        }
    }
    Err("the item has no end".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "use a;\n\n/// Docs.\n#[cfg(x)]\npub fn one() {\n    two();\n}\n\nmod b;\n";

    #[test]
    fn a_plan_names_its_files_and_lines() {
        let plan = Plan::parse("version 7.3\ntake a b\n#\n[k/c.rs]\ntext x => y\\nz\n").unwrap();
        let what = What::Text("x".to_owned(), "y\nz".to_owned());
        let edits = vec![Edit { file: "k/c.rs".to_owned(), line: 5, what }];
        let takes = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(plan, Plan { versions: vec!["7.3".to_owned()], takes, edits });
        let wrong = Plan::parse("[f]\nmend it\n").unwrap_err().to_string();
        assert_eq!(wrong, "changes:2: no such change: mend it");
        assert!(Plan::parse("line x\n").is_err());
    }

    #[test]
    fn an_item_goes_with_what_stands_above_it() {
        let item = What::Item("pub fn one".to_owned());
        assert_eq!(item.change(TEXT).unwrap(), "use a;\n\n\nmod b;\n");
        let item = What::Item("mod b".to_owned());
        assert!(item.change(TEXT).unwrap().ends_with("}\n\n"));
    }

    #[test]
    fn what_is_not_there_once_is_an_error() {
        assert!(What::Line("mod c;".to_owned()).change(TEXT).is_err());
        assert!(What::Text("o".to_owned(), "i".to_owned()).change(TEXT).is_err());
        assert_eq!(What::Line("mod b;".to_owned()).change(TEXT).unwrap().matches("mod").count(), 0);
    }

    #[test]
    fn the_version_is_the_makefiles() {
        assert_eq!(version("VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\n").unwrap(), "7.3");
        assert_eq!(version("all:\n"), None);
    }
}
