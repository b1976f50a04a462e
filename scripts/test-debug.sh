#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Runs the tests that need the real module in a VM whose kernel is built for testing: it reports
# what the module does wrong with memory and locks, and fails its allocations in turn. Each report
# fails the test during which it comes. Skipped are tests that the kernel is no place for; each
# says why.
# usage: test-debug.sh [FILTER]     KERNEL=debug (KASAN, lockdep, kmemleak...) or kcsan
KERNEL=${KERNEL:-debug}
. "$(dirname "$0")/lib.sh"

[ -f "$ROOT/scripts/kernels/$KERNEL.config" ] ||
    die "KERNEL=$KERNEL is no kernel for testing: KERNEL=debug or KERNEL=kcsan"
CONSOLE=$ROOT/target/results/test-$KERNEL.console
mkdir -p "$(dirname "$CONSOLE")"
# What a test waits for takes several times as long as on a stock kernel.
"$ROOT/scripts/vm.sh" run --disk 8G --memory 4G --timeout "${SRB_VM_TIMEOUT:-14400}" \
    --console "$CONSOLE" -- env SRB_PATIENCE="${SRB_PATIENCE:-5}" srb-guest-tests "$@"
