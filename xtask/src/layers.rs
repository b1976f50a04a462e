// SPDX-License-Identifier: GPL-2.0-only
//! The order of each tree's modules, and whether the imports keep to it.
//!
//! Two rules. Files import each other in no circle, but for a file and its own children: a module
//! and what it is split into are one thing. And where a tree has layers, a file imports from its
//! own layer and those below, never from one above.

use std::collections::BTreeMap;
use std::path::Path;

use petgraph::algo::tarjan_scc;
use petgraph::graph::DiGraph;

use crate::imports::{self, Imports};

/// A tree of sources.
#[derive(Debug)]
struct Tree {
    /// Below the checkout.
    folder: &'static str,
    /// Top-level modules, the highest layer first; modules of one layer stand together. Empty: no
    /// order but that there are no circles.
    layers: &'static [&'static [&'static str]],
}

const TREES: [Tree; 7] = [
    Tree {
        folder: "agent/src",
        layers: &[
            &["main", "lib"],
            &["sim"],
            // The one place where the layers are wired.
            &["standby", "agent", "parting"],
            &["status"],
            &["kernel"],
            &["volume"],
            &["store"],
            &["paths"],
            &["http"],
            &["process"],
            &["base"],
        ],
    },
    Tree { folder: "proto/src", layers: &[] },
    Tree { folder: "status/src", layers: &[] },
    Tree { folder: "srbctl/src", layers: &[] },
    Tree { folder: "playground/src", layers: &[] },
    Tree {
        folder: "kmod",
        layers: &[
            &["main"],
            &["class_files"],
            &["commands", "housekeeping", "suspend"],
            &["chardev", "disk_files"],
            &["session"],
            &["calls"],
            &["registry"],
            &["device"],
            &["channel"],
            &["link"],
            &["peer"],
            &["memory"],
            &["pressure"],
            &["fate", "lifecycle", "names", "rounds", "urls"],
            &["log"],
            &["params"],
            &["atomic", "layout"],
            &["ffi"],
        ],
    },
    Tree { folder: "xtask/src", layers: &[&["main"], &["layers"], &["imports"], &["slice"]] },
];

/// What is wrong in all trees, a sentence each.
pub(crate) fn check_all(root: &Path) -> Result<Vec<String>, imports::Error> {
    let mut findings = Vec::new();
    for tree in &TREES {
        let imports = imports::read(&root.join(tree.folder))?;
        let of_tree = circles(&imports).into_iter().chain(climbs(&imports, tree.layers));
        findings.extend(of_tree.map(|finding| format!("{}: {finding}", tree.folder)));
    }
    Ok(findings)
}

/// Files that import each other, one another's children aside.
fn circles(imports: &Imports) -> Vec<String> {
    let mut graph = DiGraph::new();
    let nodes: BTreeMap<&str, _> =
        imports.keys().map(|module| (module.as_str(), graph.add_node(module.as_str()))).collect();
    for (from, targets) in imports {
        for target in targets {
            graph.add_edge(nodes[from.as_str()], nodes[target.as_str()], ());
        }
    }
    let circles = tarjan_scc(&graph).into_iter().map(|members| {
        let mut members: Vec<&str> = members.into_iter().map(|node| graph[node]).collect();
        members.sort_unstable();
        members
    });
    circles
        .filter(|members| members.len() > 1 && !is_one_module(members))
        .map(|members| format!("a circle of {}", members.join(", ")))
        .collect()
}

/// Whether one of them is the parent of all others.
fn is_one_module(members: &[&str]) -> bool {
    members.iter().any(|parent| {
        members.iter().filter(|member| *member != parent).all(|member| {
            let name = member.strip_prefix(parent).and_then(|rest| rest.strip_prefix("::"));
            name.is_some_and(|name| !name.contains("::"))
        })
    })
}

/// Imports from a layer above, and modules without a layer.
fn climbs(imports: &Imports, layers: &[&[&str]]) -> Vec<String> {
    if layers.is_empty() {
        return Vec::new();
    }
    let top = |module: &str| module.split("::").next().unwrap_or_default().to_owned();
    let layer = |module: &str| {
        let name = top(module);
        layers.iter().position(|layer| layer.contains(&name.as_str()))
    };
    let mut findings = Vec::new();
    for (from, targets) in imports {
        let Some(own) = layer(from) else {
            findings.push(format!("{from} is in no layer"));
            continue;
        };
        let above = targets.iter().filter(|target| layer(target).is_some_and(|it| it < own));
        findings
            .extend(above.map(|target| format!("{from} imports {target}, which lies above it")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports(edges: &[(&str, &[&str])]) -> Imports {
        edges
            .iter()
            .map(|(from, to)| ((*from).to_owned(), to.iter().map(|it| (*it).to_owned()).collect()))
            .collect()
    }

    #[test]
    fn circles_are_found_and_a_module_with_its_children_is_none() {
        let family = imports(&[("a", &["a::b", "a::c"]), ("a::b", &["a"]), ("a::c", &["a::b"])]);
        assert!(circles(&family).is_empty());
        let circle = imports(&[("a", &["b"]), ("b", &["c"]), ("c", &["a"]), ("d", &["a"])]);
        assert_eq!(circles(&circle), ["a circle of a, b, c"]);
        let grandchild = imports(&[("a", &["a::b::c"]), ("a::b::c", &["a"])]);
        assert_eq!(circles(&grandchild).len(), 1);
    }

    #[test]
    fn layers_import_downwards_alone() {
        let layers: &[&[&str]] = &[&["main"], &["store", "paths"], &["http"]];
        let tree = imports(&[
            ("main", &["store"]),
            ("store", &["paths", "http::pool"]),
            ("paths", &["store"]),
            ("http::pool", &["store"]),
            ("stray", &[]),
        ]);
        assert_eq!(
            climbs(&tree, layers),
            ["http::pool imports store, which lies above it", "stray is in no layer"]
        );
    }

    #[test]
    fn one_import_upwards_closes_a_circle_in_the_module() {
        let tree = TREES.iter().find(|tree| tree.folder == "kmod").expect("it is there");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(tree.folder);
        let mut imports = imports::read(&folder).expect("readable");
        assert!(imports.len() > 40, "its files were found");
        imports.get_mut("pressure").expect("a file").insert("registry".to_owned());
        imports.get_mut("ffi::mm").expect("a file").insert("memory".to_owned());
        let circle = circles(&imports).concat();
        assert!(circle.contains("pressure, registry"), "{circle}");
        assert_eq!(
            climbs(&imports, tree.layers),
            [
                "ffi::mm imports memory, which lies above it",
                "pressure imports registry, which lies above it"
            ]
        );
    }

    #[test]
    fn one_import_upwards_closes_a_circle_in_the_agent() {
        let tree = TREES.iter().find(|tree| tree.folder == "agent/src").expect("it is there");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(tree.folder);
        let mut imports = imports::read(&folder).expect("readable");
        assert!(imports.len() > 70, "its files were found");
        imports.get_mut("http::pool").expect("a file").insert("paths::attempt".to_owned());
        imports.get_mut("kernel::queue").expect("a file").insert("kernel::worker".to_owned());
        let circles = circles(&imports);
        for (one, other) in [("http::pool", "paths::attempt"), ("kernel::queue", "kernel::worker")]
        {
            let both = |it: &String| it.contains(one) && it.contains(other);
            assert!(circles.iter().any(both), "{one}, {other}: {circles:?}");
        }
        assert_eq!(
            climbs(&imports, tree.layers),
            ["http::pool imports paths::attempt, which lies above it"]
        );
    }

    #[test]
    fn the_project_keeps_to_its_layers() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        assert_eq!(check_all(&root).expect("readable"), [""; 0]);
    }
}
