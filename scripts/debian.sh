# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# Sourced: how a Debian tree is made. The suite stands here.

export SUITE=trixie

# debian_tree TREE PACKAGES MMDEBSTRAP_OPTION...: a minimal tree of $SUITE, without documentation.
debian_tree() {
    local tree=$1 packages=$2 options folder
    shift 2
    options=(--variant=minbase --include="$packages")
    # Those who build inside the tree read no manuals, and unpacking them takes a fifth of the time.
    for folder in man doc locale info; do
        options+=(--dpkgopt="path-exclude=/usr/share/$folder/*")
    done
    options+=(--dpkgopt=force-unsafe-io --aptopt='Acquire::Languages "none"')
    options+=(--aptopt='APT::Install-Recommends "false"')
    # A namespace of its own: mmdebstrap's mounts are gone even if it is killed.
    unshare --mount --propagation private -- mmdebstrap "${options[@]}" "$@" "$SUITE" "$tree"
}
