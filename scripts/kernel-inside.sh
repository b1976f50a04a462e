#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Runs inside the sdk, for kernel.sh: unpacks the source at /kernel and makes what a Rust module
# needs of it.
set -euo pipefail

packages=/kernel-packages
release=$(cat $packages/release)
headers=$packages/usr/src/linux-headers-$release
config=$headers/.config

# Rust symbols carry the compiler's own hash, so another compiler makes a module that cannot be
# loaded.
wants=$(sed -n 's/^CONFIG_RUSTC_VERSION_TEXT="\(.*\)"$/\1/p' "$config")
has=$(rustc --version)
if ! grep -q '^CONFIG_RUST=y' "$config"; then
    echo "the kernel $release is built without CONFIG_RUST: it cannot load a Rust module"
    exit 1
elif [ "$wants" != "$has" ]; then
    echo "the kernel $release was built by '$wants', but the sdk has '$has': they must be the same"
    exit 1
fi

cd /kernel
# Left out is only what no module build reads, for the time that unpacking it takes.
echo "unpacking the source"
tar -xf $packages/usr/src/linux-source-*.tar.xz --strip-components=1
version=$(make -s kernelversion)
cp "$config" .config
make olddefconfig
# What the kernel's release has beyond the source's version ("+deb13-amd64") makes the vermagic
# match.
make -j"$(nproc)" LOCALVERSION="${release#"$version"}" modules_prepare
test "$(cat include/config/kernel.release)" = "$release"
cp "$headers/Module.symvers" Module.symvers
# For the layout asserts only; by any other name, as `vmlinux` would have every module build make
# BTF with it.
cp "$headers/vmlinux" btf-vmlinux
echo "${release#"$version"}" >localversion.srb
