#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Runs the fuzz targets one after another, each for a time. What they learn stays in the cache, what
# they find in fuzz/artifacts.
# usage: fuzz.sh [SECONDS [TARGET...]]    without targets: all of them; 600 seconds each
. "$(dirname "$0")/lib.sh"

need_cargo
cd "$ROOT/fuzz"
SECS=${1:-600}
shift || true
TARGETS=("$@")
# The first name is that of the package.
[ ${#TARGETS[@]} -gt 0 ] ||
    mapfile -t TARGETS < <(sed -n 's/^name = "\(.*\)"/\1/p' Cargo.toml | tail -n +2)
host_tools g++=g++
TOOLS=$CACHE/tools
export PATH=$TOOLS/bin:$PATH
# Sanitizers are switches that a compiler of the stable channel has, too, if it is asked so.
export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$CACHE/fuzz/target
command -v cargo-fuzz >/dev/null ||
    step "cargo-fuzz" cargo install --locked --quiet --root "$TOOLS" cargo-fuzz
step "fuzz targets" cargo fuzz build

STATUS=0
for target in "${TARGETS[@]}"; do
    corpus=$CACHE/fuzz/corpus/$target
    mkdir -p "$corpus"
    log=$CACHE/logs/fuzz-$target.log
    if cargo fuzz run "$target" "$corpus" "seeds/$target" -- -max_total_time="$SECS" \
        -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 >"$log" 2>&1; then
        say "$target: no finding in $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") runs"
    else
        STATUS=1
        tail -n 40 "$log" >&2
        say "$target: A FINDING, see fuzz/artifacts/$target and $log"
    fi
done
exit $STATUS
