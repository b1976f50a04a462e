#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Runs inside the new sdk, on stdin, while its package lists are there: unpacks the stock kernel's
# packages below /kernel-packages, and the newest source that the archive has. They are not
# installed: their scripts would make an initramfs that nobody boots.
# usage: sdk-inside.sh ARCHIVE
set -eu

# The mount points of the builds; the tree is read-only to them.
mkdir -p /kernel-packages /src /kernel /out /vendor /target
cd /tmp

# What the meta package $1 stands for today in the archive $2.
stands_for() {
    apt-cache show --no-all-versions "$1$2" | sed -n 's/^Depends: *//p' | head -n 1 |
        grep -o "${1%-amd64}-[^ ,]*" | head -n 1
}

archive=$1
from=/$archive
# Of a stable suite what is installed today, which its updates may have.
! grep -q "^deb .* $archive-backports " /etc/apt/sources.list.d/*.list 2>/dev/null || from=
image=$(stands_for linux-image-amd64 "$from")
headers=$(stands_for linux-headers-amd64 "$from")
release=${image#linux-image-}
if [ "$release" != "${headers#linux-headers-}" ]; then
    echo "$archive is being updated ($image, but $headers): try again in some hours"
    exit 1
fi

# Image and headers are split over several packages (vmlinuz, modules, what all flavours share),
# all with the release in their names.
wanted="$image $headers"
while :; do
    # shellcheck disable=SC2086
    more=$({
        printf '%s\n' $wanted
        apt-cache depends --important $wanted | sed -n 's/^ *|*Depends: *//p' |
            grep -F -e "${release%-amd64}"
    } | sort -u | tr '\n' ' ')
    [ "$more" != "$wanted" ] || break
    wanted=$more
done
source=linux-source-$(echo "$release" | cut -d. -f1-2)
# The source of a kernel without Rust is of no use here: its module takes the `kernel` crate of a
# later one.
[ -n "$from" ] || source=$(stands_for linux-source "/$archive-backports")
echo "unpacking $wanted $source"
# shellcheck disable=SC2086
apt-get -qq download $wanted "$source"
for deb in *.deb; do
    dpkg-deb -x "$deb" /kernel-packages
done
rm -f ./*.deb
echo "$release" >/kernel-packages/release
# Headers name what they stand on by where it would be installed.
for folder in usr/src usr/lib; do
    find "/kernel-packages/$folder" -mindepth 1 -maxdepth 1 -name 'linux-*' \
        -exec ln -s -t "/$folder" {} +
done
