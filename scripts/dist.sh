#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Packs the sources of this checkout with the crates that Cargo.lock names (vendor/) and with what
# the module takes along of the kernel's Rust (slice/): packages of any distribution are built from
# that, without a network. The same sources make the same bytes. Prints the file's path.
. "$(dirname "$0")/lib.sh"

pack() {
    local name=$1 folder=$2
    copy_sources "$folder/$name"
    cp -r "$CACHE/$VENDOR/." "$folder/$name/vendor/"
    cp -r "$SLICE/." "$folder/$name/slice/"
    mkdir -p "$(dirname "$FILE")"
    tar -C "$folder" --sort=name --owner=0 --group=0 --numeric-owner --mode=go=rX,u+rw \
        --mtime="@$(dpkg-parsechangelog -l "$ROOT/debian/changelog" -S Timestamp)" \
        -I 'gzip -n' -cf "$FILE" "$name"
}

need_root "reading the sdk's packages"
need_cargo
host_tools git=git dpkg-parsechangelog=dpkg-dev
VENDOR=$(vendor_name)
cached "$VENDOR" make_vendor
SLICE=$("$ROOT/scripts/slice.sh")
NAME=srb-$(version)
FILE=$ROOT/target/$NAME.tar.gz
WORK=$CACHE/tmp/dist.$$
trap 'rm -rf "$WORK"' EXIT
mkdir -p "$WORK"
step "sources with crates, packed" pack "$NAME" "$WORK"
echo "$FILE"
