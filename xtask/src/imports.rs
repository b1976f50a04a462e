// SPDX-License-Identifier: GPL-2.0-only
//! Which file of a crate takes something from which other.
//!
//! A file is a node, named by its module path (`rest::pool`; `main` or `lib` for a root). An edge
//! is a path that starts at `crate`, `self` or `super`, or at a module that the file declares and
//! that is no root, in a `use` or anywhere else in the code, macros included; it leads to the
//! longest prefix of the path that is a file. Declaring a module is not an import, and a module
//! that its root has from elsewhere (`#[path]`) is another crate. What is compiled for tests alone
//! does not count: a test may know everything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ItemMod, ItemUse, Macro, UseTree};

/// What each file imports, by module path.
pub(crate) type Imports = BTreeMap<String, BTreeSet<String>>;

/// What was wrong with a source.
#[derive(Debug)]
pub(crate) enum Error {
    /// It cannot be read.
    Io(PathBuf, io::Error),
    /// It is no Rust.
    Syntax(PathBuf, syn::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Syntax(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for Error {}

/// Reads all files below `root`, the folder that holds `lib.rs` or `main.rs`.
pub(crate) fn read(root: &Path) -> Result<Imports, Error> {
    let mut files = BTreeMap::new();
    collect(root, &mut Vec::new(), &mut files)?;
    let mut found = BTreeMap::new();
    let (mut tests_only, mut elsewhere) = (BTreeSet::new(), BTreeSet::new());
    for (module, path) in &files {
        let text = fs::read_to_string(path).map_err(|error| Error::Io(path.clone(), error))?;
        let syntax = syn::parse_file(&text).map_err(|error| Error::Syntax(path.clone(), error))?;
        let mut reader = Reader { module: segments(module), ..Reader::default() };
        reader.visit_file(&syntax);
        elsewhere.append(&mut reader.elsewhere);
        reader.add_children();
        tests_only.extend(reader.tests_only);
        found.insert(module.clone(), reader.paths);
    }
    let is_test = |module: &str| {
        tests_only.iter().any(|test| {
            module
                .strip_prefix(test.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        })
    };
    let target = |path: &[String]| {
        let longest = (1..=path.len()).rev().map(|count| path[..count].join("::"));
        longest.into_iter().find(|name| files.contains_key(name)).or_else(|| root_of(&files))
    };
    let mut imports = Imports::new();
    for (module, paths) in found.iter().filter(|(module, _)| !is_test(module)) {
        let within =
            paths.iter().filter(|path| !path.first().is_some_and(|it| elsewhere.contains(it)));
        let targets = within.filter_map(|path| target(path));
        let targets = targets.filter(|name| name != module && !is_test(name)).collect();
        imports.insert(module.clone(), targets);
    }
    Ok(imports)
}

/// Where an item of the root itself lies.
fn root_of(files: &BTreeMap<String, PathBuf>) -> Option<String> {
    ["lib", "main"].into_iter().find(|name| files.contains_key(*name)).map(str::to_owned)
}

/// The module path as segments; a root has none.
fn segments(module: &str) -> Vec<String> {
    match module {
        "lib" | "main" => Vec::new(),
        _ => module.split("::").map(str::to_owned).collect(),
    }
}

fn collect(
    folder: &Path,
    above: &mut Vec<String>,
    files: &mut BTreeMap<String, PathBuf>,
) -> Result<(), Error> {
    let failed = |error| Error::Io(folder.to_owned(), error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
        if path.is_dir() {
            // Programs of their own, which use the crate from outside; and what no module can be
            // called, hence is none.
            if above.is_empty() && ["bin", "crate"].contains(&stem) {
                continue;
            }
            above.push(stem.to_owned());
            collect(&path, above, files)?;
            above.pop();
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let mut module = above.clone();
            if stem != "mod" {
                module.push(stem.to_owned());
            }
            files.insert(module.join("::"), path);
        }
    }
    Ok(())
}

/// Gathers the paths of one file, as segments from the crate's root.
#[derive(Debug, Default)]
struct Reader {
    module: Vec<String>,
    paths: BTreeSet<Vec<String>>,
    /// Modules that the file declares, and paths that may lead into them.
    children: BTreeSet<Vec<String>>,
    relative: BTreeSet<Vec<String>>,
    /// Modules that are compiled for tests alone.
    tests_only: BTreeSet<String>,
    /// Modules whose files are said to be somewhere else.
    elsewhere: BTreeSet<String>,
}

impl Reader {
    fn add(&mut self, path: &[String]) {
        let mut at = match path.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("self" | "super") => self.module.clone(),
            _ => {
                self.relative.insert([&self.module, path].concat());
                return;
            }
        };
        for segment in path {
            match segment.as_str() {
                "crate" | "self" => {}
                "super" => drop(at.pop()),
                _ => at.push(segment.clone()),
            }
        }
        self.paths.insert(at);
    }

    /// Adds the paths that start at a module which the file declares.
    fn add_children(&mut self) {
        let into = |path: &&Vec<String>| self.children.iter().any(|child| path.starts_with(child));
        self.paths.extend(self.relative.iter().filter(into).cloned());
    }

    fn add_tree(&mut self, tree: &UseTree, above: &mut Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                above.push(path.ident.to_string());
                self.add_tree(&path.tree, above);
                above.pop();
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.add_tree(tree, above));
            }
            UseTree::Name(name) => self.add_last(name.ident.to_string(), above),
            UseTree::Rename(rename) => self.add_last(rename.ident.to_string(), above),
            UseTree::Glob(_) => self.add(above),
        }
    }

    fn add_last(&mut self, name: String, above: &mut Vec<String>) {
        above.push(name);
        self.add(above);
        above.pop();
    }

    /// Paths in what a macro is given, which is no syntax yet.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if path.is_empty() || colons == 2 => {
                    path.push(ident.to_string());
                    colons = 0;
                    continue;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => {
                    colons += 1;
                    continue;
                }
                _ => {}
            }
            self.add_if_qualified(&path);
            (path, colons) = (Vec::new(), 0);
            match token {
                TokenTree::Group(group) => self.add_tokens(group.stream()),
                TokenTree::Ident(ident) => path.push(ident.to_string()),
                _ => {}
            }
        }
        self.add_if_qualified(&path);
    }

    fn add_if_qualified(&mut self, path: &[String]) {
        if path.len() > 1 {
            self.add(path);
        }
    }
}

/// Whether the attributes say `cfg(test)`, alone or among `all(...)`.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).any(|attribute| {
        attribute.parse_args::<TokenStream>().is_ok_and(|condition| {
            let text = condition.to_string();
            text == "test" || (text.starts_with("all") && text.contains("test"))
        })
    })
}

/// The attributes of an item, where it may have some.
fn attributes(item: &syn::Item) -> &[Attribute] {
    match item {
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        } else if let syn::Item::Mod(module) = item {
            let mut path = self.module.clone();
            path.push(module.ident.to_string());
            self.tests_only.insert(path.join("::"));
        }
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if module.attrs.iter().any(|attribute| attribute.path().is_ident("path")) {
            self.elsewhere.insert(module.ident.to_string());
        }
        self.module.push(module.ident.to_string());
        if module.content.is_some() {
            visit::visit_item_mod(self, module);
        } else if self.module.len() > 1 {
            self.children.insert(self.module.clone());
        }
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.add_tree(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|it| it.ident.to_string()).collect();
        self.add_if_qualified(&segments);
        visit::visit_path(self, path);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.add_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }

    /// `pub(in path)` and `pub(crate)` name a module without taking anything from it.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports_of(files: &[(&str, &str)]) -> Imports {
        let folder = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        read(folder.path()).expect("readable")
    }

    fn of<'a>(imports: &'a Imports, module: &str) -> Vec<&'a str> {
        imports[module].iter().map(String::as_str).collect()
    }

    #[test]
    fn paths_lead_to_the_longest_file() {
        let imports = imports_of(&[
            ("main.rs", "mod a; mod b; struct Root; fn f() { a::go() }"),
            ("a.rs", "mod c; mod d; use crate::{b::{self, X}, Root}; fn g() { self::c::h() }"),
            ("a/c.rs", "use super::super::b::Y as Z; fn h() { super::g() }"),
            ("a/d.rs", "mod e; use e::E; fn j() { std::k() }"),
            ("a/d/e.rs", ""),
            ("b.rs", "fn i() { pin_init!(W { x: crate::a::c::K }) }"),
        ]);
        assert_eq!(of(&imports, "a"), ["a::c", "b", "main"]);
        assert_eq!(of(&imports, "a::c"), ["a", "b"]);
        assert_eq!(of(&imports, "a::d"), ["a::d::e"]);
        assert_eq!(of(&imports, "b"), ["a::c"]);
        assert_eq!(of(&imports, "main"), [""; 0]);
    }

    #[test]
    fn what_lies_elsewhere_is_another_crate() {
        let imports = imports_of(&[
            ("main.rs", "mod a; #[path = \"../../p.rs\"] mod p;"),
            ("a.rs", "use crate::p::X; fn f() { crate::p::g() }"),
            ("crate/lib.rs", "use crate::a;"),
        ]);
        assert_eq!(of(&imports, "a"), [""; 0]);
        assert_eq!(imports.len(), 2);
    }

    #[test]
    fn tests_may_know_everything() {
        let imports = imports_of(&[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "#[cfg(test)] mod tests; #[cfg(test)] use crate::b::X; fn f() {}"),
            ("a/tests.rs", "use crate::b::Y;"),
            ("b.rs", "#[cfg(test)] mod tests { use crate::a; }"),
        ]);
        assert_eq!(of(&imports, "a"), [""; 0]);
        assert_eq!(of(&imports, "b"), [""; 0]);
        assert!(!imports.contains_key("a::tests"));
    }
}
