#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Runs the tests that need the real module, in the VM; arguments go to them as to `cargo test`.
# Without arguments two machines share them: most tests wait more than they compute.
# usage: vm-tests.sh [FILTER] [--list]
. "$(dirname "$0")/lib.sh"

# SRB_SEED: what the tests draw their random numbers from, to repeat a run.
run() {
    "$ROOT/scripts/vm.sh" run --disk 8G --timeout "${SRB_VM_TIMEOUT:-1200}" -- \
        env ${SRB_SEED:+"SRB_SEED=$SRB_SEED"} "$@"
}

if [ $# -gt 0 ]; then
    run srb-guest-tests "$@"
    exit
fi
# Everything is built before the machines start, so that they do not wait for each other.
run true
OUTPUT=$(mktemp)
trap 'rm -f "$OUTPUT"' EXIT
run SRB_SHARE=2/2 srb-guest-tests >"$OUTPUT" 2>&1 &
SECOND=$!
STATUS=0
run SRB_SHARE=1/2 srb-guest-tests || STATUS=$?
wait $SECOND || STATUS=$?
cat "$OUTPUT"
# Those that need a machine of their own: one with little memory, and one that is cut off.
for CAMPAIGN in low_memory power_cuts; do
    if "$ROOT/scripts/vm.sh" faults --short ${SRB_SEED:+--seed "$SRB_SEED"} $CAMPAIGN; then
        echo "test result: ok. 1 passed; 0 failed"
    else
        echo "test result: FAILED. 0 passed; 1 failed"
        STATUS=1
    fi
done
exit $STATUS
