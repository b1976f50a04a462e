#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Makes what QEMU boots, shared read-only by all runs: root.img (the rootfs tree with the kernel's
# modules), initrd.img (just enough to mount it), vmlinuz, words for its command line, and what its
# processors must look like. Prints the folder's path.
# usage: image.sh              the VM's
#        image.sh systemd DEB  a whole machine's, which starts with systemd and Debian's default
#                              kernel, has this package installed and room for more; later/ has what
#                              boots its disk once the kernel in /later-kernel is installed there
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
    local from=$MODULES_OF_KERNEL to=$1/usr/lib/modules/$RELEASE folder driver
    mkdir -p "$to/kernel/drivers"
    cp "$from"/modules.{builtin,builtin.modinfo,order} "$to"
    for folder in "${MODULES[@]}"; do
        [ ! -d "$from/kernel/$folder" ] || cp -r "$from/kernel/$folder" "$to/kernel/$folder"
    done
    mkdir -p "$to/kernel/drivers/net"
    for driver in "${DRIVERS[@]}"; do
        [ ! -e "$from/kernel/$driver" ] || cp "$from/kernel/$driver" "$to/kernel/drivers/net/"
    done
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
    touch "$tree/modules/order"
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

# What makes a whole machine of the tree: a network, and the service that does what the launcher
# wants.
add_services() {
    local etc=$1/etc wants=$1/etc/systemd/system/multi-user.target.wants
    mkdir -p "$wants" "$etc/systemd/network"
    cp "$ROOT/tests/guest/srb-vm.service" "$etc/systemd/system/"
    ln -s ../srb-vm.service "$wants/srb-vm.service"
    mkdir -p "$etc/systemd/system/network-online.target.wants"
    ln -s /usr/lib/systemd/system/systemd-networkd.service "$wants/"
    ln -s /usr/lib/systemd/system/systemd-networkd-wait-online.service \
        "$etc/systemd/system/network-online.target.wants/"
    printf '%s\n' '[Match]' 'Name=en*' '[Network]' 'Address=10.0.2.15/24' 'Gateway=10.0.2.2' \
        >"$etc/systemd/network/80-vm.network"
    : >"$etc/machine-id"
}

# As a user does it; all that it depends on is there.
install_package() {
    inside -w "$1" "$(dirname "$2"):/mnt:ro" -- \
        apt-get install -y --no-install-recommends "/mnt/$(basename "$2")"
}

# What boots the kernel whose packages the tree $1 holds, in the folder $2.
add_later_kernel() {
    local unpacked=$2/unpacked deb RELEASE
    mkdir -p "$unpacked/usr"
    for deb in "$1"/later-kernel/linux-{image,modules,binary,base}-[0-9]*.deb; do
        [ ! -e "$deb" ] || dpkg-deb -x "$deb" "$unpacked"
    done
    RELEASE=$(ls "$unpacked/usr/lib/modules")
    cp -r "$unpacked/usr/lib/modules/$RELEASE" "$1/usr/lib/modules/"
    inside -w "$1" -- depmod "$RELEASE"
    make_initrd "$2/initrd" "$2/initrd.img" "$1"
    rm -rf "$1/usr/lib/modules/$RELEASE"
    cp "$(find "$unpacked" -name "vmlinuz*" -type f -print -quit)" "$2/vmlinuz"
    echo "$RELEASE" >"$2/release"
    echo "${COMMAND_LINE[*]}" >"$2/cmdline"
    rm -rf "$unpacked" "$2/initrd"
}

fill_image() {
    local out=$1 tree=$1/tree room=64
    if [ "$VARIANT" = systemd ]; then
        cp -a "$CACHE/$(rootfs_name systemd)" "$tree"
        RELEASE=$(ls "$tree/usr/lib/modules")
        VMLINUZ=$tree/boot/vmlinuz-$RELEASE
        add_services "$tree"
        install_package "$tree" "$DEB"
        add_later_kernel "$tree" "$out/later"
        room=1200
    else
        cp -a "$CACHE/$(rootfs_name)" "$tree"
        copy_modules "$tree"
    fi
    make_initrd "$out/initrd" "$out/initrd.img" "$tree"
    cp "$VMLINUZ" "$out/vmlinuz"
    echo "${COMMAND_LINE[*]}" >"$out/cmdline"
    [ -z "$TOPOLOGY" ] || echo "$TOPOLOGY" >"$out/topology"
    # Read-only for ever: neither a journal nor room to grow.
    mke2fs -q -t ext4 -O ^has_journal,^metadata_csum -m 0 -d "$tree" "$out/root.img" \
        "$(($(du -sm "$tree" | cut -f1) * 12 / 10 + room))M"
    rm -rf "$tree" "$out/initrd"
    echo "$RELEASE" >"$out/release"
}

# forget_images: of the images of whole machines, which are large, those go that no checkout used
# last.
forget_images() {
    local note checkout image needed=()
    for note in "$CACHE"/machine-of-*; do
        { read -r checkout && read -r image; } <"$note"
        if [ -d "$checkout" ]; then needed+=("$image"); else rm -f "$note"; fi
    done
    for image in "$CACHE"/image-systemd-*; do
        [[ " ${needed[*]} " == *" $(basename "$image") "* ]] || rm -rf "$image"
    done
}

make_image() { step "image: the VM's disk and initramfs${VARIANT:+, $VARIANT}" fill_image "$1"; }

VARIANT=${1:-} DEB=${2:-}
COMMAND_LINE=()
TOPOLOGY=

need_root "making the VM's image"
host_tools mke2fs=e2fsprogs xz=xz-utils
if [ "$VARIANT" = systemd ]; then
    "$ROOT/scripts/rootfs.sh" systemd
    IMAGE=$(machine_image_name "$DEB")
    # Before it is there, so that nobody removes it.
    printf '%s\n' "$ROOT" "$IMAGE" >"$CACHE/machine-of-$(key "$ROOT")"
    cached "$IMAGE" make_image
    forget_images
    echo "$CACHE/$IMAGE"
    exit
fi
"$ROOT/scripts/sdk.sh" &
"$ROOT/scripts/rootfs.sh"
wait $!
SDK=$CACHE/$(sdk_name)
TREE=$CACHE/$(kernel_name)
if [ -f "$ROOT/scripts/kernels/$KERNEL.config" ]; then
    "$ROOT/scripts/kernel.sh"
    RELEASE=$(cat "$TREE/image/release")
    MODULES_OF_KERNEL=$TREE/image/lib/modules/$RELEASE
    # It is slow, so that what takes long is not yet hung.
    COMMAND_LINE=(srb.hung=300)
    # It has no ACPI, and the firmware's other table lists one processor for each package.
    TOPOLOGY=cores=1,threads=1
    # KASAN says the first time only what it finds, unless it is asked not to.
    ! grep -qx CONFIG_KASAN=y "$TREE/include/config/auto.conf" || COMMAND_LINE+=(kasan_multi_shot)
else
    RELEASE=$(cat "$SDK/kernel-packages/release")
    MODULES_OF_KERNEL=$SDK/kernel-packages/usr/lib/modules/$RELEASE
fi
VMLINUZ=$MODULES_OF_KERNEL/vmlinuz
[ -e "$VMLINUZ" ] || VMLINUZ=$SDK/kernel-packages/boot/vmlinuz-$RELEASE
cached "$(image_name)" make_image
echo "$CACHE/$(image_name)"
