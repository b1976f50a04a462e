#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Measures which lines and branches of proto, agent, srbctl and playground the host's tests run, by
# building and running them in the sdk: its rustc and its llvm-cov are of one LLVM, which those of
# the host need not be. What runs in the VM, and under loom, is not counted.
# usage: coverage.sh    leaves target/results/coverage.txt, .json and .lcov, and prints the crates

# The tree that builds the programs for the VM.
KERNEL=trixie-backports
. "$(dirname "$0")/lib.sh"

# Folders and names of the crates.
CRATES=(proto agent srbctl playground)
PACKAGES=(srb-proto srb-agent srbctl srb-playground)
RESULTS=$ROOT/target/results
# As the tests see it; a folder of $(userspace_name) outside.
INSIDE=/target/coverage

# coverage_cargo ARGUMENT...: `cargo test` in the sdk, counting.
coverage_cargo() {
    "$ROOT/scripts/userspace.sh" \
        --config 'build.rustc-workspace-wrapper="/src/scripts/coverage-rustc.sh"' \
        --config "env.LLVM_PROFILE_FILE=\"$INSIDE/profiles/%m-%p.profraw\"" \
        test --locked --no-fail-fast --lib --bins --tests --target-dir "$INSIDE" \
        "${PACKAGES[@]/#/--package=}" "$@"
}

# report PROGRAM...: what the tests of these programs left becomes one file, all.lcov.
report() {
    inside "$CACHE/$(sdk_name)" "$ROOT:/src:ro" "$CACHE/$(userspace_name):/target" -- \
        sh /src/scripts/coverage-inside.sh "$INSIDE" "$@"
}

sources() {
    for crate in "${CRATES[@]}"; do
        find "$crate/src" -name '*.rs'
    done
}

need_root "measuring coverage"
"$ROOT/scripts/sdk.sh"
OUTSIDE=$CACHE/$(userspace_name)${INSIDE#/target}
mkdir -p "$RESULTS" "$OUTSIDE"
rm -rf "$OUTSIDE/profiles"
step "tests that count" coverage_cargo --no-run --message-format=json
mapfile -t PROGRAMS < <(grep -o '"executable":"[^"]*"' "$STEP_LOG" | cut -d'"' -f4 | sort -u)
# What building left: build scripts do not count, and procedural macros run in the compiler.
rm -rf "$OUTSIDE/profiles"
step "running them" coverage_cargo
step "adding up" report "${PROGRAMS[@]}"
cp "$OUTSIDE/all.lcov" "$RESULTS/coverage.lcov"
cd "$ROOT"
mapfile -t SOURCES < <(sources)
awk -v json="$RESULTS/coverage.json" -f scripts/coverage.awk of=sources "${SOURCES[@]}" \
    of=lines "$RESULTS/coverage.lcov" of=branches "$OUTSIDE/all.branches" >"$RESULTS/coverage.txt"
sed '/^$/q' "$RESULTS/coverage.txt"
say "each file: $RESULTS/coverage.txt"
