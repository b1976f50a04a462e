#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Removes what builds made of this checkout; with "all" the whole cache too, which other checkouts
# share.
. "$(dirname "$0")/lib.sh"

cd "$ROOT"
rm -rf "${CARGO_TARGET_DIR:-target}"
if [ "${1:-}" = all ]; then
    # Nothing is ever mounted there outside a build's own namespace.
    rm -rf --one-file-system "${CACHE:?}"
else
    rm -rf "${CACHE:?}/$(userspace_name)"
    for KERNEL in "${KERNELS[@]}"; do
        rm -rf "${CACHE:?}/module-$(key "$ROOT" "$(kernel_name)")"{,-clippy} \
            "$CACHE/payload-$(key "$ROOT" "$KERNEL")"
    done
fi
