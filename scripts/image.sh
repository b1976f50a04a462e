#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Makes what QEMU boots, shared read-only by all runs: root.img (the rootfs tree with the stock
# kernel's modules), initrd.img (just enough to mount it) and the stock vmlinuz. Prints the folder's
# path.
. "$(dirname "$0")/lib.sh"

# The modules that the initramfs loads: the root disk, its file system, and the overlay that makes
# it writable.
BOOT_MODULES=(virtio_blk ext4 overlay)
# Folders of modules that a block device can meet; the rest is half of the size and never loaded in
# a VM.
MODULES=(arch block crypto fs lib mm net drivers/block drivers/char drivers/dax drivers/md
    drivers/nvme drivers/scsi drivers/target drivers/virtio)
# Of the network's drivers QEMU's alone.
DRIVERS=(drivers/net/virtio_net.ko.xz drivers/net/net_failover.ko.xz)

copy_modules() {
    local from=$SDK/kernel-packages/usr/lib/modules/$RELEASE to=$1/usr/lib/modules/$RELEASE folder
    mkdir -p "$to/kernel/drivers"
    cp "$from"/modules.{builtin,builtin.modinfo,order} "$to"
    for folder in "${MODULES[@]}"; do
        [ ! -d "$from/kernel/$folder" ] || cp -r "$from/kernel/$folder" "$to/kernel/$folder"
    done
    mkdir -p "$to/kernel/drivers/net"
    (cd "$from/kernel" && cp "${DRIVERS[@]}" "$to/kernel/drivers/net/")
    inside "$SDK" "$1/usr/lib/modules:/kernel" -- sh -c \
        "mkdir -p /tmp/usr/lib && cp -r /kernel /tmp/usr/lib/modules && ln -s usr/lib /tmp/lib &&
        depmod -b /tmp $RELEASE && cp /tmp/usr/lib/modules/$RELEASE/modules.* /kernel/$RELEASE/"
}

make_initrd() {
    local tree=$1 out=$2 name
    mkdir -p "$tree"/{bin,modules,proc,sys,dev,lower,overlay,root}
    cp "$3/usr/bin/busybox" "$tree/bin/busybox"
    cp "$ROOT/tests/guest/initramfs" "$tree/init"
    chmod 755 "$tree/init"
    # In the order that they must be loaded in, and unpacked: busybox's insmod knows no xz.
    inside "$3" -- modprobe --show-depends -S "$RELEASE" -a "${BOOT_MODULES[@]}" |
        sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' | while read -r path; do
        name=$(basename "$path" .xz)
        case $path in
            *.xz) xz -dc "$3$path" >"$tree/modules/$name" ;;
            *) cp "$3$path" "$tree/modules/$name" ;;
        esac
        echo "$name" >>"$tree/modules/order"
    done
    inside "$3" "$tree:/mnt" -- sh -c "cd /mnt && find . | busybox cpio -o -H newc" >"$out"
}

fill_image() {
    local out=$1 tree=$1/tree
    cp -a "$CACHE/$(rootfs_name)" "$tree"
    copy_modules "$tree"
    make_initrd "$out/initrd" "$out/initrd.img" "$tree"
    cp "$SDK/kernel-packages/usr/lib/modules/$RELEASE/vmlinuz" "$out/vmlinuz"
    # Read-only for ever: neither a journal nor room to grow.
    mke2fs -q -t ext4 -O ^has_journal,^metadata_csum -m 0 -d "$tree" "$out/root.img" \
        "$(($(du -sm "$tree" | cut -f1) * 12 / 10 + 64))M"
    rm -rf "$tree" "$out/initrd"
    echo "$RELEASE" >"$out/release"
}

make_image() { step "image: the VM's disk and initramfs" fill_image "$1"; }

need_root "making the VM's image"
host_tools mke2fs=e2fsprogs xz=xz-utils
"$ROOT/scripts/sdk.sh" &
"$ROOT/scripts/rootfs.sh"
wait $!
SDK=$CACHE/$(sdk_name)
RELEASE=$(cat "$SDK/kernel-packages/release")
cached "$(image_name)" make_image
echo "$CACHE/$(image_name)"
