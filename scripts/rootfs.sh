#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Makes the Debian tree that the VM boots: the tools that users put on a block device, and udev, so
# that device nodes, events and partitions come as users know them. No init system: tests/guest/init
# is the VM's first process. With "systemd" as its argument it makes the other tree: a machine that
# starts by itself, with Debian's default kernel, as few tools as Debian has by default, and what
# srb's packages depend on; with the packages of a later kernel in /later-kernel, not installed.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/debian.sh"

PACKAGES=udev,kmod,procps,util-linux,fdisk,parted,lvm2,dmsetup,xfsprogs,e2fsprogs,btrfs-progs,fio
PACKAGES+=,iproute2,strace,curl,busybox-static,xz-utils,psmisc,less
# What `make bench` compares srb with, and profiles it with.
PACKAGES+=,nbdkit,nbd-client,wrk,linux-perf

VARIANT=${1:-}
TITLE="disk tools"
OPTIONS=()
if [ "$VARIANT" = systemd ]; then
    PACKAGES=systemd,systemd-sysv,dbus,udev,kmod,procps,util-linux,mount,fdisk,e2fsprogs,xfsprogs
    PACKAGES+=,lvm2,iproute2,curl,less,busybox-static
    PACKAGES+=,linux-image-amd64,linux-headers-amd64,dkms,bindgen,rustc,rust-src
    TITLE=systemd
    # As a user installs it, with all that it takes with it.
    LATER="apt-get clean && apt-get install -y --download-only -t $SUITE-backports \
        linux-image-amd64 linux-headers-amd64"
    OPTIONS+=(--setup-hook="'$ROOT/scripts/backports.sh' $SUITE \"\$1\""
        --customize-hook="chroot \"\$1\" sh -c '$LATER'"
        --customize-hook="mkdir \"\$1/later-kernel\""
        --customize-hook="mv \"\$1\"/var/cache/apt/archives/*.deb \"\$1/later-kernel/\"")
fi

make_rootfs() {
    step "rootfs: Debian $SUITE with $TITLE" debian_tree "$SUITE" "$1" "$PACKAGES" "${OPTIONS[@]}"
    # Nothing here may ask the archive, and a known host name spares every tool its look-up.
    rm -rf "$1/var/lib/apt/lists" "$1/var/cache/apt"
    echo srb-vm >"$1/etc/hostname"
    echo "127.0.0.1 localhost srb-vm" >"$1/etc/hosts"
}

need_root "making the VM's tree"
host_tools mmdebstrap=mmdebstrap unshare=util-linux flock=util-linux
cached "$(rootfs_name "$@")" make_rootfs
