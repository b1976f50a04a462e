#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Runs inside the new sdk, on stdin, while its package lists are there: unpacks the stock kernel's
# packages below /kernel-packages. They are not installed: their scripts would make an initramfs
# that nobody boots.
# usage: sdk-inside.sh ARCHIVE
set -eu

# The mount points of the builds; the tree is read-only to them.
mkdir -p /kernel-packages /src /kernel /out /vendor /target
cd /tmp

# What the meta package $1 stands for today.
stands_for() {
    apt-cache show "$1-amd64/$archive" | sed -n 's/^Depends: *//p' | head -n 1 |
        grep -o "$1-[^ ,]*" | head -n 1
}

archive=$1
image=$(stands_for linux-image)
headers=$(stands_for linux-headers)
release=${image#linux-image-}
if [ "$release" != "${headers#linux-headers-}" ]; then
    echo "$archive is being updated ($image, but $headers): try again in some hours"
    exit 1
fi

# The image is split over several packages (vmlinuz, modules, configuration), all with the release
# in their name.
wanted="$image $headers"
while :; do
    # shellcheck disable=SC2086
    more=$({
        printf '%s\n' $wanted
        apt-cache depends --important $wanted | sed -n 's/^ *|*Depends: *//p' |
            grep -F -e "$release"
    } | sort -u | tr '\n' ' ')
    [ "$more" != "$wanted" ] || break
    wanted=$more
done
source=linux-source-$(echo "$release" | cut -d. -f1-2)
echo "unpacking $wanted $source"
# shellcheck disable=SC2086
apt-get -qq download $wanted "$source/$archive"
for deb in *.deb; do
    dpkg-deb -x "$deb" /kernel-packages
done
rm -f ./*.deb
echo "$release" >/kernel-packages/release
