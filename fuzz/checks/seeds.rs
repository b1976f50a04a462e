// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The inputs that every run of a check begins with.

use std::path::Path;

/// Runs a check on the seeds of its target; `package` is where a package of the workspace is.
pub(crate) fn on_seeds(package: &str, target: &str, check: fn(&[u8])) {
    let seeds = Path::new(package).join("../fuzz/seeds").join(target);
    let files: Vec<_> = std::fs::read_dir(seeds).expect("the target has seeds").collect();
    assert!(!files.is_empty());
    for file in files {
        let path = file.expect("a folder that can be read").path();
        check(&std::fs::read(&path).expect("a seed that can be read"));
    }
}
