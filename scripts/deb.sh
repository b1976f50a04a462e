#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Builds the Debian packages of this checkout, in a tree of Debian stable with debhelper, from the
# sources and the crates that Cargo.lock names, without a network; then has lintian look at them.
# They end up in target/deb.
# usage: deb.sh            build; prints the folder
#        deb.sh twice      build once more, from nothing, elsewhere and at another time: the
#                          packages must have the same bytes
#        deb.sh next       build the same with a later version, for tests of an upgrade; prints the
#                          folder, which the others leave alone
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/debian.sh"

PACKAGES=build-essential,debhelper,dh-dkms,lintian,cargo,rustc
OUT=$ROOT/target/deb

make_tree() { step "deb: Debian $SUITE with debhelper" debian_tree "$SUITE" "$1" "$PACKAGES"; }

# build WORK NAME [SUFFIX]: builds in WORK/NAME, with cargo's own files in WORK/target; the version
# with a suffix.
build() {
    local work=$1 name=$2
    mkdir -p "$work/target"
    copy_sources "$work/$name"
    sed -i "1s/)/${3:-})/" "$work/$name/debian/changelog"
    rm -f "$work"/*.{deb,buildinfo,changes}
    inside "$TREE" "$work:/mnt" "$CACHE/$VENDOR:/mnt/$name/vendor:ro" \
        "$SLICE:/mnt/$name/slice:ro" -- sh -c "
        cd /mnt/$name && umask \"\$2\" && export TZ=\"\$1\" CARGO_TARGET_DIR=/mnt/target &&
        dpkg-buildpackage --build=binary --no-sign" sh "${ZONE:-UTC}" "${MASK:-022}"
}

# The project has no address for mail.
lint() {
    inside "$TREE" "$WORK:/mnt:ro" -- sh -c '
        lintian --allow-root --fail-on error,warning,info --display-info --tag-display-limit 0 \
            --suppress-tags bogus-mail-host,bogus-mail-host-in-debian-changelog /mnt/*.changes'
}

need_root "building packages"
need_cargo
host_tools mmdebstrap=mmdebstrap unshare=util-linux flock=util-linux git=git
TREE=deb-$(cd "$ROOT/scripts" && key "$PACKAGES" debian.sh)
cached "$TREE" make_tree
TREE=$CACHE/$TREE
VENDOR=$(vendor_name)
cached "$VENDOR" make_vendor
SLICE=$("$ROOT/scripts/slice.sh")
WORK=$CACHE/debs-$(key "$ROOT")
mkdir -p "$WORK"
exec 9>"$CACHE/locks/$(basename "$WORK")"
flock 9
if [ "${1:-}" = next ]; then
    OUT=$ROOT/target/deb-next
    SRB_LOG_LINES=60 step "packages of a next version" build "$WORK" srb +next
else
    SRB_LOG_LINES=60 step "packages" build "$WORK" srb
    SRB_LOG_LINES=60 step "packages: lintian" lint
fi
if [ "${1:-}" = twice ]; then
    AGAIN=$CACHE/tmp/debs-again.$$
    trap 'rm -rf "$AGAIN"' EXIT
    mkdir -p "$AGAIN"
    ZONE=Pacific/Auckland MASK=002 step "packages, once more" build "$AGAIN" elsewhere
    for package in "$WORK"/*.deb; do
        cmp "$package" "$AGAIN/$(basename "$package")" ||
            die "$(basename "$package") is another one when it is built again."
    done
fi
rm -rf "$OUT"
mkdir -p "$OUT"
cp "$WORK"/*.deb "$OUT/"
echo "$OUT"
