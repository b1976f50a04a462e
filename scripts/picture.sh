#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Draws docs/architecture.svg from docs/architecture.dot, and notes in it from which source it is;
# `make check` compares that.
# usage: picture.sh [check]
. "$(dirname "$0")/lib.sh"

cd "$ROOT/docs"
source=$(sha256sum <architecture.dot)
note="<!-- of architecture.dot, sha256 ${source%% *} -->"
if [ "${1:-}" = check ]; then
    grep -qxF -- "$note" architecture.svg ||
        die "docs/architecture.svg is not of docs/architecture.dot: run scripts/picture.sh"
    exit
fi
host_tools dot=graphviz
{ dot -Tsvg architecture.dot; echo "$note"; } >architecture.svg
