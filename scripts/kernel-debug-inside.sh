#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Runs inside the sdk, for kernel.sh: builds a kernel for testing at /kernel, of Debian's source and
# the configuration /src/kernels/NAME.config. What of it is to be booted is gathered in
# /kernel/image, as the packages of the stock kernel have it.
# usage: kernel-debug-inside.sh NAME
set -euo pipefail

config=/src/kernels/$1.config
machine=/src/kernels/machine.config
# Rust with KASAN needs clang, and the two halves of an object one linker.
build=(make LLVM=1 "-j$(nproc)")

cd /kernel
echo "unpacking the source"
tar -xf /kernel-packages/usr/src/linux-source-*.tar.xz --strip-components=1
"${build[@]}" tinyconfig
cat "$machine" "$config" >>.config
"${build[@]}" olddefconfig
# What depends on something else that is missing is dropped without a word.
missing=0
while read -r line; do
    case $line in
        "# CONFIG_"*" is not set")
            option=${line#\# }
            ! grep -q "^${option%% *}=" .config || { echo "not unset: $line" && missing=1; }
            ;;
        CONFIG_*) grep -qxF "$line" .config || { echo "not set: $line" && missing=1; } ;;
    esac
done < <(cat "$machine" "$config")
test $missing = 0
[ "${2:-}" != configure ] || exit 0

"${build[@]}" bzImage modules
release=$(cat include/config/kernel.release)
"${build[@]}" INSTALL_MOD_PATH=/kernel/image modules_install
cp arch/x86/boot/bzImage "image/lib/modules/$release/vmlinuz"
echo "$release" >image/release
echo >localversion.srb
# What only the kernel's own linking reads is half of the tree.
find . -name '*.a' -delete
find arch block crypto drivers fs init io_uring ipc kernel lib mm net security sound virt \
    -name '*.o' -delete
rm -f vmlinux.unstripped vmlinux.o .tmp_vmlinux*
