#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Runs a command by chroot in a tree that it cannot change, unless -w comes first. Only for lib.sh's
# `inside`, which gives it a mount namespace of its own: nothing is unmounted here.
# usage: enter.sh [-w] TREE [SRC:DST[:ro]]... -- COMMAND...
set -euo pipefail

writable=
if [ "$1" = -w ]; then
    writable=yes
    shift
fi
tree=$1
shift
mount --bind "$tree" "$tree"
[ -n "$writable" ] || mount -o remount,bind,ro "$tree"
mount -t proc proc "$tree/proc"
mount --rbind /dev "$tree/dev"
mount -t tmpfs tmpfs "$tree/tmp"
while [ "$1" != -- ]; do
    IFS=: read -r src dst mode <<<"$1"
    mount --bind "$src" "$tree$dst"
    [ "$mode" != ro ] || mount -o remount,bind,ro "$tree$dst"
    shift
done
shift
# A path into the old mount would still be writable.
cd "$tree"
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C.UTF-8 TERM="${TERM:-dumb}" \
    chroot . "$@"
