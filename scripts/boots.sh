#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Tests of the packages on a whole machine, Debian stable with its default kernel and systemd, in
# VMs: installing, starting, services, stopping.
# usage: boots.sh [FILTER] [--rounds N]
. "$(dirname "$0")/lib.sh"

need_root "making the VM"
host_tools qemu-system-x86_64=qemu-system-x86 e2fsck=e2fsprogs xfs_repair=xfsprogs
NEXT=$("$ROOT/scripts/deb.sh" next)
DEBS=$("$ROOT/scripts/deb.sh")
SRB_VM_IMAGE=$("$ROOT/scripts/image.sh" systemd "$DEBS"/srb-dkms_*.deb)
# The test's own program; srb's are those of the packages.
step "what runs in the VM" "$ROOT/scripts/userspace.sh" build --release --locked \
    --bin srb-guest-tests
PROGRAMS=$CACHE/$(KERNEL=trixie-backports userspace_name)/release
SRB_VM_PAYLOAD=$CACHE/payload-boots-$(key "$ROOT")
rm -rf "$SRB_VM_PAYLOAD"
mkdir -p "$SRB_VM_PAYLOAD"/{bin,deb,next}
cp "$PROGRAMS/srb-guest-tests" "$SRB_VM_PAYLOAD/bin/"
cp "$ROOT/tests/guest/session" "$SRB_VM_PAYLOAD/"
cp "$DEBS"/*.deb "$SRB_VM_PAYLOAD/deb/"
cp "$NEXT"/*.deb "$SRB_VM_PAYLOAD/next/"
SRB_VM_RUNS=$CACHE/runs
export SRB_VM_IMAGE SRB_VM_PAYLOAD SRB_VM_RUNS
cd "$ROOT"
step "srb-boots, for this host" cargo build --locked --quiet -p srb-tests --bin srb-boots \
    -p srb-playground --bin srb-playground
"${CARGO_TARGET_DIR:-target}/debug/srb-boots" "$@"
