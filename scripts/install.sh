#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Installs what `make` built: the programs below PREFIX, the module into /lib/modules/RELEASE/extra.
# DESTDIR goes before all of it.
# usage: install.sh module|programs|uninstall      with PREFIX, DESTDIR, KDIR from the environment
# KDIR is the tree of the kernel to build the module for: its headers, or a prepared source. Without
# it, it is the running kernel's, or the one that scripts/kernel.sh prepared if that is the kernel
# which runs. SRB_SLICE is the part of the `kernel` crate that a build against headers takes along,
# if it is there already (scripts/slice.sh).
. "$(dirname "$0")/lib.sh"

PREFIX=${PREFIX:-/usr/local}
DESTDIR=${DESTDIR:-}
BINARIES=${CARGO_TARGET_DIR:-$ROOT/target}/release
UNITS=(agent/srb-agent.service agent/srb-agent-standby.service system/srb-module.service
    system/srb-shutdown.service)
UNIT_DIR=lib/systemd/system
GENERATOR=lib/systemd/system-generators/srb-generator
RULES=lib/udev/rules.d/60-srb.rules

install_programs() {
    local program unit file
    for program in srb-agent srbctl srb-playground; do
        [ -x "$BINARIES/$program" ] ||
            die "$BINARIES/$program is missing: run 'make userspace' first."
    done
    install -D -m 755 "$BINARIES/srb-agent" "$DESTDIR$PREFIX/sbin/srb-agent"
    install -D -m 755 "$BINARIES/srbctl" "$DESTDIR$PREFIX/bin/srbctl"
    install -D -m 755 "$BINARIES/srb-playground" "$DESTDIR$PREFIX/bin/srb-playground"
    for unit in "${UNITS[@]}"; do
        install -D -m 644 "$ROOT/$unit" "$DESTDIR$PREFIX/$UNIT_DIR/$(basename "$unit")"
    done
    install -d "$DESTDIR$PREFIX/$(dirname "$GENERATOR")"
    ln -sf ../../../bin/srbctl "$DESTDIR$PREFIX/$GENERATOR"
    install -D -m 644 "$ROOT/system/60-srb.rules" "$DESTDIR$PREFIX/$RULES"
    # Those that somebody has written stay.
    for file in srb.conf srbtab agent.toml; do
        [ -e "$DESTDIR/etc/srb/$file" ] ||
            install -D -m 644 "$ROOT/system/$file" "$DESTDIR/etc/srb/$file"
    done
    say "installed srb-agent, srbctl, srb-playground, units and udev rules below $DESTDIR$PREFIX"
}

# The kernel's configuration of the tree $1 has the option $2.
has() { grep -qx "$2" "$1/include/config/auto.conf" 2>/dev/null; }

# Whether the tree $1 has all that the kernel's own `kernel` crate takes, the compiler included.
has_crate() {
    has "$1" CONFIG_RUST=y && compgen -G "$1/rust/libkernel.rmeta" >/dev/null &&
        [ "$(sed -n 's/^CONFIG_RUSTC_VERSION_TEXT="\(.*\)"$/\1/p' "$1/.config")" = \
            "$(rustc --version 2>/dev/null)" ]
}

# Builds the module for the tree $1 in the folder $2.
build_module() {
    local tree=$1 out=$2 slice
    if has_crate "$tree"; then
        step "module for $(cat "$tree/include/config/kernel.release")" \
            make -C "$tree" M="$ROOT" MO="$out" \
            LOCALVERSION="$(cat "$tree/localversion.srb" 2>/dev/null || true)" modules
        return
    fi
    # Headers, as distributions have them, and any compiler: the crate is brought along.
    "$ROOT/kmod/crate/requirements.sh" "$tree" || exit
    slice=${SRB_SLICE:-$("$ROOT/scripts/slice.sh")}
    "$ROOT/scripts/module-sources.sh" "$ROOT" "$slice" "$out"
    step "module for $(cat "$tree/include/config/kernel.release")" \
        make -C "$tree" M="$out" -j"$(nproc)" modules
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
        [ -f "$tree/include/config/auto.conf" ] ||
            die "$tree is no kernel tree: install the kernel's headers, or give one with KDIR=."
        release=$(cat "$tree/include/config/kernel.release")
        out=$CACHE/module-$(key "$ROOT" "$(realpath "$tree")")
        mkdir -p "$out"
        build_module "$tree" "$out"
        module=$out/srb.ko
    fi
    install -D -m 644 "$module" "$DESTDIR/lib/modules/$release/extra/srb.ko"
    # A package's own scripts run depmod where DESTDIR ends up.
    [ -n "$DESTDIR" ] || depmod "$release"
    say "installed $DESTDIR/lib/modules/$release/extra/srb.ko"
}

uninstall() {
    local module unit
    rm -f "$DESTDIR$PREFIX"/{sbin/srb-agent,bin/srbctl,bin/srb-playground}
    rm -f "$DESTDIR$PREFIX"/{"$GENERATOR","$RULES"}
    for unit in "${UNITS[@]}"; do
        rm -f "$DESTDIR$PREFIX/$UNIT_DIR/$(basename "$unit")"
    done
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
