#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Makes all that a VM needs, as far as it is not there yet, and calls srb-vm with the arguments
# given.
# usage: vm.sh run [--memory M] [--icount] [--disk SIZE] [--timeout S] -- COMMAND...
#        vm.sh shell
#        vm.sh faults [OPTION]... [CAMPAIGN]    fault campaigns (srb-faults --help)
. "$(dirname "$0")/lib.sh"

need_root "making the VM"
host_tools qemu-system-x86_64=qemu-system-x86
# The tree of the VM beside the builds, which need both cores for a part of their time only.
IMAGE_ANSWER=$CACHE/tmp/image.$$
trap 'rm -f "$IMAGE_ANSWER"' EXIT
"$ROOT/scripts/image.sh" >"$IMAGE_ANSWER" &
IMAGE=$!
SRB_VM_PAYLOAD=$("$ROOT/scripts/payload.sh")
wait $IMAGE || exit
SRB_VM_IMAGE=$(cat "$IMAGE_ANSWER")
rm -f "$IMAGE_ANSWER"
SRB_VM_RUNS=$CACHE/runs
export SRB_VM_IMAGE SRB_VM_PAYLOAD SRB_VM_RUNS
cd "$ROOT"
PROGRAM=srb-vm
BINARIES=(-p srb-tests --bin srb-vm)
if [ "${1:-}" = faults ]; then
    shift
    PROGRAM=srb-faults
    # A server outside the VM, for what befalls the VM itself.
    BINARIES=(-p srb-tests --bin srb-faults -p srb-playground --bin srb-playground)
fi
step "$PROGRAM, for this host" cargo build --locked --quiet "${BINARIES[@]}"
exec "${CARGO_TARGET_DIR:-target}/debug/$PROGRAM" "$@"
