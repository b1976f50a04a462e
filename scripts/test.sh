#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Runs all tests and adds them up: the last line is "N passed, N failed". Suites that cannot run
# here print SKIP and why. SEED=N repeats a run: all random numbers come from it, and a run without
# it draws one, and says so at its beginning and its end.
. "$(dirname "$0")/lib.sh"

PASSED=0
FAILED=0
OUTPUT=$(mktemp)
BACKGROUND=()
# What prepares the VM beside the host's tests is of no use without us.
finish() {
    rm -f "$OUTPUT"
    [ ${#BACKGROUND[@]} = 0 ] || kill "${BACKGROUND[@]}" 2>/dev/null || true
}
trap finish EXIT

# suite TITLE COMMAND...: runs it, shows its output, and adds up what libtest's and nextest's
# summaries in it say.
suite() {
    local title=$1 status=0 passed failed
    shift
    say "--- $title"
    "$@" 2>&1 </dev/null | tee "$OUTPUT" || status=$?
    passed=$(count '([0-9]+) passed')
    failed=$(count '([0-9]+) (failed|timed out)')
    # A suite that does not build, or dies, has failed even if no test of it did.
    [ "$status" = 0 ] || [ "$failed" != 0 ] || failed=1
    PASSED=$((PASSED + passed))
    FAILED=$((FAILED + failed))
    say "--- $title: $passed passed, $failed failed"
}

# count PATTERN: the sum of the first group over the summary lines, colours removed. What nextest
# shows of a failed test's own output is set in.
count() {
    sed -E 's/\x1b\[[0-9;]*m//g' "$OUTPUT" | { grep -E '^( *Summary|test result:)' || true; } |
        { grep -oE "$1" || true; } | awk '{ sum += $1 } END { print sum + 0 }'
}

host_tests() {
    if command -v cargo-nextest >/dev/null; then
        cargo nextest run --workspace --locked --no-fail-fast --show-progress=none \
            --status-level=fail --final-status-level=fail
    else
        cargo test --workspace --locked --no-fail-fast --lib --bins --tests
    fi
}

# Everything else under `cfg(loom)` would be compiled anew, so it has a folder of its own.
loom_tests() {
    RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR="$ROOT/target/loom" \
        cargo test --release --locked -p srb-proto --lib --tests
}

cd "$ROOT"
need_cargo
SEED=${SEED:-$(($(date +%s%N) / 1000 % 4294967296))}
[[ $SEED =~ ^[0-9]+$ ]] || die "SEED=$SEED is no number"
# The project's own tests, proptest's, and the first seed of the simulation.
export SRB_SEED=$SEED PROPTEST_RNG_SEED=$SEED SRB_SIM_FIRST=$SEED
say "again: make test SEED=$SEED"
command -v cargo-nextest >/dev/null ||
    echo "SKIP: cargo-nextest (cargo install cargo-nextest): cargo test runs the host's tests"
VM=yes
if [ "$(id -u)" != 0 ]; then
    VM=no
elif [ ! -d "$CACHE/$(image_name)" ]; then
    # Downloads and unpacking fit beside the compiler.
    "$ROOT/scripts/image.sh" >/dev/null &
    BACKGROUND+=($!)
fi
suite "tests on the host" host_tests
suite "documentation tests" cargo test --workspace --locked --doc
suite "ring and doorbell under loom" loom_tests
if [ "$VM" = yes ]; then
    suite "tests in the VM" "$ROOT/scripts/vm-tests.sh"
else
    echo "SKIP: tests in the VM: making its trees needs root: run 'sudo make test'"
fi
BACKGROUND=()
[ "$FAILED" = 0 ] || say "again: make test SEED=$SEED"
echo "$PASSED passed, $FAILED failed"
[ "$FAILED" = 0 ]
