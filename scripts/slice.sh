#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Makes the part of the kernel's `kernel` crate that the module is built with where the kernel's
# headers lack it (kmod/crate), out of the source package in the sdk. Prints its folder's path.
. "$(dirname "$0")/lib.sh"

# The slice is of one kernel's source, which forky's sdk does not have.
[ "$(kernel_archive)" != forky ] || KERNEL=trixie-backports
need_root "reading the sdk's packages"
need_cargo
"$ROOT/scripts/sdk.sh"
SDK=$CACHE/$(sdk_name)

make_slice() {
    step "crate: a slice of the kernel's" cargo run --quiet --locked \
        --manifest-path "$ROOT/Cargo.toml" --package xtask -- \
        slice "$SDK"/kernel-packages/usr/src/linux-source-*.tar.xz "$1/rust"
}

# As text: of a file, the key leaves out lines that begin with #, and in Rust those are attributes.
NAME=slice-$(cd "$ROOT" && key "$(cat xtask/src/slice.rs kmod/crate/changes kmod/crate/*.rs)" \
    "$(sdk_name)")
cached "$NAME" make_slice
echo "$CACHE/$NAME/rust"
