#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Builds rublk, the ublk server that `make bench` measures srb against, in the sdk, so that it fits
# the VM's libc. Its version and all of its crates are pinned (by its own Cargo.lock); the host's
# cargo fetches them. Prints the folder of the program.

KERNEL=trixie-backports
. "$(dirname "$0")/lib.sh"

VERSION=0.2.15

# cargo fetches a program's source only as somebody's dependency.
fetch() {
    mkdir -p "$1/asks/src"
    printf '[package]\nname = "asks"\nversion = "0.0.0"\nedition = "2021"\n\n%s\nrublk = "=%s"\n' \
        '[dependencies]' "$VERSION" >"$1/asks/Cargo.toml"
    echo 'fn main() {}' >"$1/asks/src/main.rs"
    cargo vendor --quiet --versioned-dirs --manifest-path "$1/asks/Cargo.toml" "$1/asks/vendor"
    mv "$1/asks/vendor/rublk-$VERSION" "$1/source"
    rm -r "$1/asks" "$1/source/.cargo-checksum.json"
    cargo vendor --quiet --locked --versioned-dirs --manifest-path "$1/source/Cargo.toml" \
        "$1/vendor"
}

# Without its default feature: volumes in a graphics card's memory need OpenCL.
build() {
    mkdir "$1/target"
    inside "$CACHE/$(sdk_name)" "$1/source:/src:ro" "$1/vendor:/vendor:ro" "$1/target:/target" -- \
        sh -c 'cd /src && CARGO_TARGET_DIR=/target CARGO_HOME=/target/home CARGO_NET_OFFLINE=true \
            exec cargo --config "source.crates-io.replace-with=\"vendored\"" \
            --config "source.vendored.directory=\"/vendor\"" \
            build --release --locked --no-default-features'
    strip --strip-debug -o "$1/rublk" "$1/target/release/rublk"
    rm -r "$1/source" "$1/vendor" "$1/target"
}

make_rublk() {
    step "rublk $VERSION: fetching" fetch "$1"
    step "rublk $VERSION: building" build "$1"
    echo "$VERSION" >"$1/version"
}

need_root "building rublk"
need_cargo
"$ROOT/scripts/sdk.sh"
NAME=rublk-$(key "$ROOT/scripts/rublk.sh" "$(sdk_name)")
cached "$NAME" make_rublk
echo "$CACHE/$NAME"
