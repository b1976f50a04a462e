#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Runs the tests that need the real module in a VM whose kernel is built for testing: it reports
# what the module does wrong with memory and locks, and fails its allocations in turn. Each report
# fails the test during which it comes, and one that comes between tests the run. Skipped are tests
# that the kernel is no place for; each says why. Leaves test-KERNEL.json in target/results, with
# what the tests printed (.log) and the kernel's log (.console) beside it.
# usage: test-debug.sh [FILTER]     KERNEL=debug (KASAN, lockdep, kmemleak...) or kcsan
KERNEL=${KERNEL:-debug}
. "$(dirname "$0")/lib.sh"

[ -f "$ROOT/scripts/kernels/$KERNEL.config" ] ||
    die "KERNEL=$KERNEL is no kernel for testing: KERNEL=debug or KERNEL=kcsan"
RESULTS=$ROOT/target/results
CONSOLE=$RESULTS/test-$KERNEL.console
LOG=$RESULTS/test-$KERNEL.log
# What the kernel's checks call their findings, as in tests/src/guest/kmsg.rs.
REPORT='BUG:|WARNING:|KASAN|KCSAN|UBSAN|ODEBUG|unreferenced object|suspected memory leaks'
REPORT+='|leak detector disabled|lockdep is turned off|refcount_t|list_(add|del) corruption'

# The reports in the console's log; a race is one if srb.ko is on a stack, as in
# tests/src/guest/races.rs.
reports() {
    awk -v report="$REPORT" '
        /BUG: KCSAN:/ { title = $0 }
        title != "" && /\[srb\]/ { print title; title = "" }
        title != "" && /\] =+\r?$/ { title = "" }
        title == "" && !/KCSAN/ && $0 ~ report
    ' "$CONSOLE"
}

# number PATTERN: that of the summary's counts, 0 if there is no summary.
number() {
    sed -nE "s/^test result: .* ([0-9]+) $1;.*/\1/p" "$LOG" | tail -n 1 | grep . || echo 0
}

# The figures of a run that took $1 seconds and ended with status $2.
figures() {
    printf '{\n  "kernel": "%s",\n  "filter": "%s",\n' "$KERNEL" "$FILTER"
    printf '  "seconds": %d,\n  "status": %d,\n' "$1" "$2"
    printf '  "passed": %d,\n  "failed": %d,\n  "skipped": %d,\n' "$(number passed)" \
        "$(number failed)" "$(number ignored)"
    printf '  "reports": %d,\n  "races_elsewhere": %d,\n  "allocations_failed": {' \
        "$(reports | wc -l)" $(($(grep -ac 'BUG: KCSAN' "$CONSOLE") - $(reports | grep -ac KCSAN)))
    sed -nE 's/^(test .* \.\.\. )?(.*): ([0-9]+) allocations$/    "\2": \3/p' "$LOG" |
         sed -e '1s/^/\n/' -e '$!s/$/,/'
    printf '  }\n}\n'
}

mkdir -p "$RESULTS"
: >"$CONSOLE"
FILTER=$*
BEGAN=$(date +%s)
STATUS=0
# What a test waits for takes several times as long as on a stock kernel.
"$ROOT/scripts/vm.sh" run --disk 8G --memory 4G --timeout "${SRB_VM_TIMEOUT:-14400}" \
    --console "$CONSOLE" -- env SRB_PATIENCE="${SRB_PATIENCE:-5}" srb-guest-tests "$@" |
    tee "$LOG" || STATUS=$?
figures $(($(date +%s) - BEGAN)) "$STATUS" >"$RESULTS/test-$KERNEL.json"
if [ "$STATUS" = 0 ] && reports | grep -a . >&2; then
    die "the kernel has reported something between the tests: see $CONSOLE"
fi
exit "$STATUS"
