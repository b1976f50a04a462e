#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Makes the "sdk": a Debian tree with the compilers of the stock kernel, and that kernel's packages
# unpacked below /kernel-packages: its image, headers and source, all of the one version that the
# archive has today.
# usage: sdk.sh            make it (once)
#        sdk.sh COMMAND... run COMMAND in it, the checkout at /src; `sdk.sh bash` is a shell
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/debian.sh"

PACKAGES=rustc,cargo,rust-src,rust-clippy,rustfmt,bindgen,clang,gcc,libc6-dev,make,bc,flex,bison
PACKAGES+=,libelf-dev,libssl-dev,python3,kmod,dwarves,xz-utils,zstd,ca-certificates

make_sdk() {
    step "sdk: Debian $SUITE with compilers" debian_tree "$1" "$PACKAGES" \
        --setup-hook="'$ROOT/scripts/backports.sh' $SUITE \"\$1\"" \
        --customize-hook="chroot \"\$1\" sh -s $SUITE <'$ROOT/scripts/sdk-inside.sh'"
}

need_root "making the sdk"
host_tools mmdebstrap=mmdebstrap unshare=util-linux flock=util-linux
cached "$(sdk_name)" make_sdk
if [ $# -gt 0 ]; then
    inside "$CACHE/$(sdk_name)" "$ROOT:/src" -- "$@"
fi
