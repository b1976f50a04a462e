#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Installs what `make` built: the programs below PREFIX, the module into /lib/modules/RELEASE/extra.
# DESTDIR goes before all of it.
# usage: install.sh module|programs|uninstall      with PREFIX, DESTDIR, KDIR from the environment
# KDIR is the prepared tree of the kernel to build the module for. Without it, it is the running
# kernel's, or the one that scripts/kernel.sh prepared if that is the kernel which runs.
. "$(dirname "$0")/lib.sh"

PREFIX=${PREFIX:-/usr/local}
DESTDIR=${DESTDIR:-}
BINARIES=${CARGO_TARGET_DIR:-$ROOT/target}/release
UNIT=lib/systemd/system/srb-agent.service

install_programs() {
    local program
    for program in srb-agent srbctl srb-playground; do
        [ -x "$BINARIES/$program" ] ||
            die "$BINARIES/$program is missing: run 'make userspace' first."
    done
    install -D -m 755 "$BINARIES/srb-agent" "$DESTDIR$PREFIX/sbin/srb-agent"
    install -D -m 755 "$BINARIES/srbctl" "$DESTDIR$PREFIX/bin/srbctl"
    install -D -m 755 "$BINARIES/srb-playground" "$DESTDIR$PREFIX/bin/srb-playground"
    install -D -m 644 "$ROOT/agent/srb-agent.service" "$DESTDIR$PREFIX/$UNIT"
    say "installed srb-agent, its unit, srbctl and srb-playground below $DESTDIR$PREFIX"
}

# The kernel's configuration of the tree $1 has the option $2.
has() { grep -qx "$2" "$1/include/config/auto.conf" 2>/dev/null; }

# Whether the tree $1 can build a Rust module here; says what is wrong if not.
usable() {
    local wants has_now
    [ -f "$1/include/config/auto.conf" ] ||
        die "$1 is no prepared kernel tree: install the kernel's headers, or give one with KDIR=."
    has "$1" CONFIG_RUST=y ||
        die "the kernel of $1 is built without CONFIG_RUST and cannot load srb:" \
            "use one that has it, such as Debian's from 7.2 on."
    compgen -G "$1/rust/*.rmeta" >/dev/null ||
        die "$1 has no Rust metadata (rust/*.rmeta), which Debian's headers leave out:" \
            "give a tree prepared from the kernel's source with KDIR=, as scripts/kernel.sh does."
    wants=$(sed -n 's/^CONFIG_RUSTC_VERSION_TEXT="\(.*\)"$/\1/p' "$1/.config")
    has_now=$(rustc --version 2>/dev/null || echo "none")
    [ "$wants" = "$has_now" ] ||
        die "the kernel of $1 was built by '$wants', but rustc here is '$has_now':" \
            "put that very compiler first in PATH."
}

install_module() {
    local tree=${KDIR:-} module release out
    release=$(uname -r)
    if [ -z "$tree" ] && [ -f "$CACHE/$(kernel_name)/include/config/kernel.release" ] &&
        [ "$(cat "$CACHE/$(kernel_name)/include/config/kernel.release")" = "$release" ]; then
        "$ROOT/scripts/module.sh"
        module=$(module_path "$ROOT")
    else
        tree=${tree:-/lib/modules/$release/build}
        usable "$tree"
        release=$(cat "$tree/include/config/kernel.release")
        out=$CACHE/module-$(key "$ROOT" "$(realpath "$tree")")
        mkdir -p "$out"
        step "module for $release" make -C "$tree" M="$ROOT" MO="$out" \
            LOCALVERSION="$(cat "$tree/localversion.srb" 2>/dev/null || true)" modules
        module=$out/srb.ko
    fi
    install -D -m 644 "$module" "$DESTDIR/lib/modules/$release/extra/srb.ko"
    # A package's own scripts run depmod where DESTDIR ends up.
    [ -n "$DESTDIR" ] || depmod "$release"
    say "installed $DESTDIR/lib/modules/$release/extra/srb.ko"
}

uninstall() {
    local module
    rm -f "$DESTDIR$PREFIX"/{sbin/srb-agent,bin/srbctl,bin/srb-playground} "$DESTDIR$PREFIX/$UNIT"
    for module in "$DESTDIR"/lib/modules/*/extra/srb.ko; do
        [ -e "$module" ] || continue
        rm -f "$module"
        [ -n "$DESTDIR" ] || depmod "$(basename "$(dirname "$(dirname "$module")")")"
    done
    say "removed srb's programs and modules"
}

case ${1:-} in
    programs) install_programs ;;
    module) install_module ;;
    uninstall) uninstall ;;
    *) die "usage: install.sh module|programs|uninstall" ;;
esac
