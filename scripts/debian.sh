# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# Sourced: how a Debian tree is made. The suite stands here, of the VM's tree and of most sdks.

export SUITE=trixie

# debian_tree SUITE TREE PACKAGES MMDEBSTRAP_OPTION...: a minimal tree of it, without documentation.
debian_tree() {
    local suite=$1 tree=$2 packages=$3 options folder
    shift 3
    options=(--variant=minbase --include="$packages")
    # Those who build inside the tree read no manuals, and unpacking them takes a fifth of the time.
    for folder in man doc locale info; do
        options+=(--dpkgopt="path-exclude=/usr/share/$folder/*")
    done
    options+=(--dpkgopt=force-unsafe-io --aptopt='Acquire::Languages "none"')
    options+=(--aptopt='APT::Install-Recommends "false"')
    # A namespace of its own: mmdebstrap's mounts are gone even if it is killed.
    unshare --mount --propagation private -- mmdebstrap "${options[@]}" "$@" "$suite" "$tree"
}
