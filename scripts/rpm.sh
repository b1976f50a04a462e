#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Builds the RPM packages of this checkout by packaging/srb.spec, in a tree of Debian with rpm's
# tools, without a network; then has rpmlint look at the spec. They end up in target/rpm. On a
# distribution that has RPM packages, `rpmbuild -ta` does it with what scripts/dist.sh makes.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/debian.sh"

PACKAGES=rpm,rpmlint,cargo,rustc,gcc,libc6-dev,make
OUT=$ROOT/target/rpm

make_tree() { step "rpm: Debian $SUITE with rpmbuild" debian_tree "$SUITE" "$1" "$PACKAGES"; }

# What the packages' build depends on has other names here.
build() {
    inside "$TREE" "$1:/mnt" -- rpmbuild -tb --nodeps --define "_topdir /mnt" \
        --define "_tmppath /mnt" "/mnt/$(basename "$SOURCES")"
}

lint() {
    inside "$TREE" "$1:/mnt:ro" -- \
        rpmlint --strict --rpmlintrc /mnt/srb.rpmlintrc /mnt/srb.spec
}

need_root "building packages"
host_tools mmdebstrap=mmdebstrap unshare=util-linux
SOURCES=$("$ROOT/scripts/dist.sh")
TREE=rpm-$(cd "$ROOT/scripts" && key "$PACKAGES" debian.sh)
cached "$TREE" make_tree
TREE=$CACHE/$TREE
WORK=$CACHE/tmp/rpm.$$
trap 'rm -rf "$WORK"' EXIT
mkdir -p "$WORK"
cp "$SOURCES" "$WORK/"
cp "$ROOT"/packaging/srb.{spec,rpmlintrc} "$WORK/"
SRB_LOG_LINES=60 step "rpm: rpmlint" lint "$WORK"
SRB_LOG_LINES=60 step "rpm: packages" build "$WORK"
rm -rf "$OUT"
mkdir -p "$OUT"
find "$WORK/RPMS" -name '*.rpm' -exec cp -t "$OUT" {} +
echo "$OUT"
