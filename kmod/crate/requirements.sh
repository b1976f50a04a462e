#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Says in one sentence what is missing to build the module, its `kernel` crate brought along, for a
# kernel's tree; ends with 0 if nothing is.
# usage: requirements.sh KERNEL_TREE
set -eu

tree=$1
lacks() {
    echo "srb: cannot build the module: $*." >&2
    exit 1
}

[ -f "$tree/include/config/auto.conf" ] ||
    lacks "$tree is no kernel tree: install the kernel's headers (linux-headers-amd64 on Debian)"
command -v rustc >/dev/null || lacks "there is no rustc: install the package rustc"
minor=$(rustc --version | sed -nE 's/^rustc 1\.([0-9]+)\..*/\1/p')
[ "${minor:-0}" -ge 85 ] || lacks "$(rustc --version) is too old: 1.85 or later is needed"
[ -f "$(rustc --print sysroot)/lib/rustlib/src/rust/library/core/src/lib.rs" ] ||
    lacks "the sources of Rust's core library are missing: install the package rust-src, or" \
        "run 'rustup component add rust-src'"
for tool in bindgen gcc make; do
    command -v "$tool" >/dev/null || lacks "there is no $tool: install the package $tool"
done
