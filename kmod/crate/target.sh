#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Writes to stdout the target file that rustc compiles the module's Rust for, as the kernel's
# configuration wants it: what rustc has no flag for stands in a target's features.
# usage: target.sh AUTO_CONF MINOR    MINOR: of the compiler's version, 1.MINOR
set -eu

conf=$1 minor=$2
has() { grep -qx "CONFIG_$1=y" "$conf"; }

has X86_64 || {
    echo "srb: it is built for x86-64 alone so far" >&2
    exit 1
}
features=-mmx,+soft-float
if has MITIGATION_RETPOLINE || has RETPOLINE; then
    features=$features,+retpoline-external-thunk,+retpoline-indirect-branches
    features=$features,+retpoline-indirect-calls
fi
if has MITIGATION_SLS || has SLS; then
    features=$features,+harden-sls-ijmp,+harden-sls-ret
fi
width='"64"'
[ "$minor" -lt 91 ] || width=64
abi=
if [ "$minor" -ge 98 ]; then
    abi='"rustc-abi": "softfloat",'
elif [ "$minor" -ge 86 ]; then
    abi='"rustc-abi": "x86-softfloat",'
fi
layout=e-m:e-p270:32:32-p271:32:32-p272:64:64-i64:64-i128:128-f80:128-n8:16:32:64-S128
cat <<EOF
{
    "arch": "x86_64", $abi
    "llvm-target": "x86_64-linux-gnu",
    "data-layout": "$layout",
    "features": "$features",
    "target-pointer-width": $width,
    "supported-sanitizers": ["kcfi", "kernel-address"],
    "emit-debug-gdb-scripts": false,
    "frame-pointer": "may-omit",
    "stack-probes": {"kind": "none"}
}
EOF
