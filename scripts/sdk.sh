#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Makes the "sdk" of $KERNEL: a Debian tree with the compilers of the stock kernel, and that
# kernel's packages unpacked below /kernel-packages: its image, headers and source, all of the one
# version that the archive has today.
# usage: sdk.sh            make it (once)
#        sdk.sh COMMAND... run COMMAND in it, the checkout at /src; `sdk.sh bash` is a shell
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/debian.sh"

PACKAGES=rustc,cargo,rust-src,rust-clippy,rustfmt,bindgen,clang,lld,llvm,gcc,libc6-dev,make,bc
PACKAGES+=,flex,bison,libelf-dev,libssl-dev,python3,kmod,dwarves,xz-utils,zstd,ca-certificates

make_sdk() {
    local suite=$SUITE options=() archive
    archive=$(kernel_archive)
    if [ "${archive%-backports}" = "$SUITE" ]; then
        options=(--setup-hook="'$ROOT/scripts/backports.sh' $SUITE \"\$1\"")
    else
        # A suite to come: what mirrors have of its updates may be older than it says.
        suite=$archive
        options=(--aptopt='Acquire::Check-Valid-Until "false"')
    fi
    step "sdk: Debian $suite with compilers" debian_tree "$suite" "$1" "$PACKAGES" \
        "${options[@]}" \
        --customize-hook="chroot \"\$1\" sh -s $archive <'$ROOT/scripts/sdk-inside.sh'"
}

need_root "making the sdk"
host_tools mmdebstrap=mmdebstrap unshare=util-linux flock=util-linux
cached "$(sdk_name)" make_sdk
if [ $# -gt 0 ]; then
    inside "$CACHE/$(sdk_name)" "$ROOT:/src" -- "$@"
fi
