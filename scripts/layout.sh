#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Writes to stdout a line of Rust per C structure named in LIST that stops the build when the
# bindings' size is not the one in the kernel's BTF: a configuration that differs from the kernel's
# is then found here, not by a crash.
# usage: layout.sh BTF_FILE [LIST]
set -eu

btf=${1:-}
list=${2:-/dev/null}
echo "// SPDX-License-Identifier: GPL-2.0-only"
echo "// Made by scripts/layout.sh from the kernel's BTF."
if ! command -v pahole >/dev/null 2>&1 || [ ! -e "$btf" ]; then
    echo "srb: no layout asserts: they need pahole (package dwarves) and the kernel's BTF" >&2
    exit 0
fi
sizes=$(mktemp)
trap 'rm -f "$sizes"' EXIT
# It warns of hundreds of tags that it does not know; a real failure shows as an empty list.
pahole -F btf --sizes "$btf" >"$sizes" 2>/dev/null || true
test -s "$sizes" || {
    echo "srb: pahole finds no structure in $btf" >&2
    exit 1
}
sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' "$list" | while read -r name; do
    size=$(awk -v name="$name" '$1 == name { print $2; exit }' "$sizes")
    if [ -z "$size" ]; then
        echo "srb: kmod/layout.list names struct $name, which the kernel's BTF does not have" >&2
        exit 1
    fi
    echo "const _: () = assert!("
    echo "    core::mem::size_of::<kernel::bindings::$name>() == $size,"
    echo "    \"struct $name is not the kernel's: was the tree prepared with its configuration?\""
    echo ");"
done
