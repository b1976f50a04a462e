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
SOURCE=$(cd "${SRB_SOURCE:-$ROOT}" && pwd)
# One output folder per checkout, so that two of them do not build into each other.
OUT=$CACHE/module-$(key "$SOURCE" "$(kernel_name)")
LINT=()
# By the kernel's own compiler.
COMPILER=()
! grep -qx CONFIG_CC_IS_CLANG=y "$TREE/include/config/auto.conf" || COMPILER=(LLVM=1)
if [ "${1:-}" = clippy ]; then
    OUT+=-clippy
    LINT=(CLIPPY=1 CLIPPY_DRIVER=clippy-driver KRUSTFLAGS=-Dwarnings)
fi
mkdir -p "$OUT"

build() {
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
if [ ${#LINT[@]} = 0 ]; then
    mkdir -p "$(dirname "$(module_path "$SOURCE")")"
    ln -sf "$OUT/srb.ko" "$(module_path "$SOURCE")"
fi
