#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Builds the programs for the VM, in the sdk: so they fit the VM's libc whatever the host's is, and
# the oldest compiler that must build them builds them. The host's cargo fetches the crates
# beforehand; the sdk needs no network.
# usage: userspace.sh            build; prints the folder of the programs
#        userspace.sh ARGUMENT...  run the sdk's cargo with these arguments instead

# They are for the VM's tree, whatever kernel boots there.
KERNEL=trixie-backports
. "$(dirname "$0")/lib.sh"

# Link-time optimisation would cost most of the time of each build here, and tests gain nothing by
# it; SRB_VM_LTO='"thin"' is for those who measure what is shipped. Nobody debugs in the VM.
PROGRAMS=(--bin srb-agent --bin srbctl --bin srb-playground --bin srb-guest-tests --bin srb-bench)

sdk_cargo() {
    inside "$SDK" "$ROOT:/src:ro" "$CACHE/$VENDOR:/vendor:ro" "$TARGET:/target" -- sh -c '
        cd /src && export CARGO_TARGET_DIR=/target CARGO_HOME=/target/home CARGO_NET_OFFLINE=true &&
        exec cargo --config "source.crates-io.replace-with=\"vendored\"" \
            --config "source.vendored.directory=\"/vendor\"" "$@"' cargo \
        --config profile.release.lto="${SRB_VM_LTO:-false}" \
        --config profile.release.debug=false "$@"
}

need_root "building for the VM"
need_cargo
"$ROOT/scripts/sdk.sh"
SDK=$CACHE/$(sdk_name)
VENDOR=$(vendor_name)
cached "$VENDOR" make_vendor
TARGET=$CACHE/$(userspace_name)
mkdir -p "$TARGET"

exec 9>"$CACHE/locks/$(basename "$TARGET")"
flock 9
if [ $# -gt 0 ]; then
    sdk_cargo "$@"
else
    SRB_LOG_LINES=${SRB_LOG_LINES:-60} step "programs for the VM" \
        sdk_cargo build --release --locked "${PROGRAMS[@]}"
    echo "$TARGET/release"
fi
