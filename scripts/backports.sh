#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# A setup hook of mmdebstrap: adds the backports suite, from wherever mmdebstrap found the suite
# itself.
# usage: backports.sh SUITE TREE
set -eu
sed -n "s/^\(deb .*\) $1 \(.*\)/\1 $1-backports \2/p" "$2/etc/apt/sources.list" \
    >"$2/etc/apt/sources.list.d/backports.list"
test -s "$2/etc/apt/sources.list.d/backports.list"
