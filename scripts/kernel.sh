#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Prepares the stock kernel's source tree for Rust modules: Debian's headers package ships no Rust
# metadata, so it is made here from Debian's own source and configuration with the sdk's compiler.
# The names and the layouts that come out are those of the shipped kernel, whose Module.symvers
# joins the tree. A kernel for testing (scripts/kernels) is built from the same source instead.
# Where the module is built against headers, there is nothing to prepare.
. "$(dirname "$0")/lib.sh"

make_kernel() {
    if [ -f "$ROOT/scripts/kernels/$KERNEL.config" ]; then
        step "kernel: building one for testing, $KERNEL" \
            inside "$SDK" "$1:/kernel" "$ROOT/scripts:/src:ro" -- \
            bash /src/kernel-debug-inside.sh "$KERNEL"
        return
    fi
    step "kernel: unpacking and preparing $(cat "$SDK/kernel-packages/release")" \
        inside "$SDK" "$1:/kernel" "$ROOT/scripts:/src:ro" -- bash /src/kernel-inside.sh
}

need_root "preparing the kernel tree"
"$ROOT/scripts/sdk.sh"
SDK=$CACHE/$(sdk_name)
from_headers || cached "$(kernel_name)" make_kernel
