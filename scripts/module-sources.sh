#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Gathers in FOLDER all that building the module takes beside a kernel's headers and a compiler,
# with the `kernel` crate's slice; `make -C HEADERS M=FOLDER modules` then builds it. Files that are
# there and as new stay.
# usage: module-sources.sh CHECKOUT SLICE FOLDER
set -euo pipefail

checkout=$1 slice=$2 folder=$3
mkdir -p "$folder"/{proto,scripts,rust}
cp -dru --preserve=mode,timestamps "$checkout/Kbuild" "$checkout/kmod" "$folder/"
cp -dru --preserve=mode,timestamps "$checkout/proto/src" "$folder/proto/"
cp -u --preserve=mode,timestamps "$checkout/scripts/layout.sh" "$folder/scripts/"
cp -dru --preserve=mode,timestamps "$slice/." "$folder/rust/"
