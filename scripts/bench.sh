#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Measures srb and its peers in a VM whose clock counts instructions, so that figures repeat on any
# machine; with the programs as they are shipped.
# usage: bench.sh                     all; leaves target/results/bench.json and docs/benchmarks
#        bench.sh quick               srb's own rates, beside those in docs/benchmarks
#        bench.sh only PART...        parts of the full run (null_blk, ublk, nbd, ring_null, http,
#                                     agent_rss, scale, resume), beside those in docs/benchmarks
#        bench.sh native              what needs no kernel, on this machine at its own speed
#        bench.sh profile PATH JOB    where instructions go: PATH null or http, JOB randread_4k_qd32
. "$(dirname "$0")/lib.sh"

need_cargo
cd "$ROOT"
export SRB_VM_LTO='"thin"'
RESULTS=$ROOT/target/results
mkdir -p "$RESULTS"
MODE=${1:-full}
[ "$MODE" = native ] || need_root "measuring in the VM"

# in_vm OUTPUT MINUTES ARGUMENT...: srb-bench in the VM, what it prints also in a file.
in_vm() {
    local output=$1 minutes=$2
    shift 2
    "$ROOT/scripts/vm.sh" run --icount --memory 4G --timeout $((minutes * 60)) -- \
        srb-bench "$@" | tee "$output"
}

# report ARGUMENT...: srb-bench on this host.
report() {
    cargo build --locked --quiet -p srb-tests --bin srb-bench
    "${CARGO_TARGET_DIR:-target}/debug/srb-bench" "$@"
}

# Called by `step`, which shellcheck does not see.
# shellcheck disable=SC2317
build_native() {
    cargo build --locked --release -p srb-playground -p srb-tests --bin srb-playground \
        --bin srb-bench
    cargo bench --locked --no-run -p srb-proto -p srb-agent --bench ring --bench requests
}

STATUS=0
case $MODE in
    full)
        SRB_VM_EXTRA=$("$ROOT/scripts/rublk.sh")
        export SRB_VM_EXTRA
        in_vm "$RESULTS/bench.records" 60 guest || STATUS=$?
        report report "$RESULTS/bench.records" --date "$(date -u +%F)" \
            --commit "$(git describe --always --dirty --exclude='*' 2>/dev/null || echo unknown)"
        ;;
    quick)
        in_vm "$RESULTS/bench-quick.records" 15 guest --quick || STATUS=$?
        report compare "$RESULTS/bench-quick.records"
        ;;
    only)
        shift
        [[ " $* " != *" ublk "* ]] || SRB_VM_EXTRA=$("$ROOT/scripts/rublk.sh")
        export SRB_VM_EXTRA=${SRB_VM_EXTRA:-}
        in_vm "$RESULTS/bench-only.records" 60 guest "$@" || STATUS=$?
        report compare "$RESULTS/bench-only.records"
        ;;
    native)
        host_tools fio=fio nbdkit=nbdkit nbdcopy=libnbd-bin
        step "programs and benches" build_native
        TARGET=${CARGO_TARGET_DIR:-target}/release
        "$TARGET/srb-bench" native --programs "$TARGET" || STATUS=$?
        ;;
    profile)
        [ $# = 3 ] || die "usage: bench.sh profile null|http JOB"
        in_vm "$RESULTS/profile-$2-$3.txt" 20 profile "$2" "$3" || STATUS=$?
        ;;
    *) die "usage: bench.sh [quick | only PART... | native | profile null|http JOB]" ;;
esac
exit $STATUS
