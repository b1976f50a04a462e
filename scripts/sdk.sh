#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Makes the "sdk": a Debian tree with the compilers of the stock kernel, and that kernel's packages unpacked below
# /kernel-packages: its image, headers and source, all of the one version that the archive has today.
# usage: sdk.sh            make it (once)
#        sdk.sh COMMAND... run COMMAND in it, the checkout at /src; `sdk.sh bash` is a shell
. "$(dirname "$0")/lib.sh"
. "$ROOT/scripts/debian.sh"

PACKAGES=rustc,cargo,rust-src,rust-clippy,rustfmt,bindgen,clang,gcc,libc6-dev,make,bc,flex,bison,libelf-dev
PACKAGES+=,libssl-dev,python3,kmod,dwarves,xz-utils,zstd,ca-certificates

# Runs in the new tree. The kernel's packages are unpacked, not installed: their scripts would make an initramfs that
# nobody boots, and pull in a second compiler.
# shellcheck disable=SC2016
UNPACK='set -eu
mkdir -p /kernel-packages /src /kernel /out /vendor /target /home/build
cd /tmp
from() { apt-cache show "$1/$2-backports" 2>/dev/null | sed -n "s/^Depends: *//p" | head -n 1; }
image=$(from linux-image-amd64 "$1" | grep -o "linux-image-[^ ,]*" | head -n 1)
headers=$(from linux-headers-amd64 "$1" | grep -o "linux-headers-[^ ,]*" | head -n 1)
release=${image#linux-image-}
test "$release" = "${headers#linux-headers-}" || {
    echo "backports is being updated: $image but $headers; try again in some hours"; exit 1; }
# The image is split over several packages (vmlinuz, modules, configuration), all with the release in their name.
wanted="$image $headers"
while :; do
    more=$({ printf "%s\n" $wanted; apt-cache depends --important $wanted |
        sed -n "s/^ *|*Depends: *//p" | grep -F -e "$release"; } | sort -u | tr "\n" " ")
    [ "$more" != "$wanted" ] || break
    wanted=$more
done
source=linux-source-$(echo "$release" | cut -d. -f1-2)
echo "$wanted $source"
apt-get -qq download $wanted "$source/$1-backports"
for deb in *.deb; do dpkg-deb -x "$deb" /kernel-packages; done
rm -f ./*.deb
echo "$release" >/kernel-packages/release'

make_sdk() {
    step "sdk: Debian $SUITE with compilers" debian_tree "$1/tree" "$PACKAGES" \
        --setup-hook="$BACKPORTS_HOOK" --customize-hook='printf "%s" "$SRB_UNPACK" >"$1/tmp/unpack"' \
        --customize-hook="chroot \"\$1\" sh /tmp/unpack $SUITE" --customize-hook='rm "$1/tmp/unpack"'
    mv "$1/tree" "$1.whole"
    rmdir "$1"
    mv -T "$1.whole" "$1"
}

need_root "making the sdk"
host_tools mmdebstrap=mmdebstrap unshare=util-linux flock=util-linux
export SRB_UNPACK=$UNPACK
cached "$(sdk_name)" make_sdk
if [ $# -gt 0 ]; then
    inside "$CACHE/$(sdk_name)" "$ROOT:/src" -- "$@"
fi
