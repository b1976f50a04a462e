#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Builds srb.ko for $KERNEL, in the sdk, with all output outside the checkout; then links it to
# target/kmod/srb.ko (of other kernels than the default to target/kmod/KERNEL/srb.ko). With "clippy"
# as its argument it runs the kernel's clippy over the module instead, and treats each of its
# findings as an error. SRB_SOURCE names another checkout to build than the one that this script is
# in.
. "$(dirname "$0")/lib.sh"

need_root "building the module"
"$ROOT/scripts/kernel.sh"
SDK=$CACHE/$(sdk_name)
TREE=$CACHE/$(kernel_name)
HEADERS=linux-headers-$(cat "$SDK/kernel-packages/release")
SLICE=
! from_headers || SLICE=$("$ROOT/scripts/slice.sh")
SOURCE=$(cd "${SRB_SOURCE:-$ROOT}" && pwd)
# One output folder per checkout, so that two of them do not build into each other.
OUT=$CACHE/module-$(key "$SOURCE" "$(kernel_name)")
LINT=()
# By the kernel's own compiler.
COMPILER=()
! grep -qsx CONFIG_CC_IS_CLANG=y "$TREE/include/config/auto.conf" || COMPILER=(LLVM=1)
if [ "${1:-}" = clippy ]; then
    ! from_headers || die "KERNEL=$KERNEL has no tree that the kernel's clippy could run in"
    OUT+=-clippy
    LINT=(CLIPPY=1 CLIPPY_DRIVER=clippy-driver KRUSTFLAGS=-Dwarnings)
fi
mkdir -p "$OUT"

build() {
    if from_headers; then
        "$ROOT/scripts/module-sources.sh" "$SOURCE" "$SLICE" "$OUT"
        inside "$SDK" "$OUT:/out" -- \
            make -C "/usr/src/$HEADERS" M=/out -j"$(nproc)" modules
        return
    fi
    inside "$SDK" "$TREE:/kernel:ro" "$SOURCE:/src:ro" "$OUT:/out" -- \
        make -C /kernel LOCALVERSION="$(cat "$TREE/localversion.srb")" M=/src MO=/out \
        "${COMPILER[@]}" "${LINT[@]}" -j"$(nproc)" modules
}

exec 9>"$CACHE/locks/$(basename "$OUT")"
flock 9
if [ ${#LINT[@]} -gt 0 ]; then
    # Clippy's findings are warnings of a compiler that Kbuild then takes for done: start afresh,
    # and look at them all.
    rm -rf "${OUT:?}"/*
fi
SRB_LOG_LINES=${SRB_LOG_LINES:-100} step "module: ${1:-build}" build
grep -aE -A12 '^(warning|error)' "$STEP_LOG" >&2 || true
if from_headers; then
    # What the kernel's build would see to if it built the Rust itself.
    ! grep -a 'warning: objtool' "$STEP_LOG" >&2 || die "objtool has something to say of srb.ko"
    host_tools objdump=binutils
    "$ROOT/scripts/module-audit.sh" "$OUT/srb.ko" \
        "$SDK/kernel-packages/usr/src/$HEADERS/include/config/auto.conf" ||
        die "srb.ko is not as the kernel's configuration wants its modules"
fi
if [ ${#LINT[@]} = 0 ]; then
    mkdir -p "$(dirname "$(module_path "$SOURCE")")"
    ln -sf "$OUT/srb.ko" "$(module_path "$SOURCE")"
fi
