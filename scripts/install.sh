#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Installs what `make` built: the programs below PREFIX, the module into /lib/modules/RELEASE/extra.
# DESTDIR goes before all of it. The packages of packaging/ are filled by it, too.
# usage: install.sh module       the module, built for one kernel
#        install.sh dkms         the module's sources into /usr/src, for DKMS
#        install.sh programs     agent and playground
#        install.sh agent        srb-agent and srbctl, with units, rules, settings and manuals
#        install.sh playground   srb-playground, with its manual
#        install.sh uninstall    removes all of that but the settings
# PREFIX, SBINDIR, DESTDIR and KDIR come from the environment. KDIR is the tree of the kernel to
# build the module for: its headers, or a prepared source. Without it, it is that of the running
# kernel, or the one that scripts/kernel.sh prepared, if that is the kernel which runs. SRB_SLICE is
# the part of the `kernel` crate that a build against headers takes along, if it is there already
# (scripts/slice.sh).
. "$(dirname "$0")/lib.sh"

PREFIX=${PREFIX:-/usr/local}
SBINDIR=${SBINDIR:-$PREFIX/sbin}
DESTDIR=${DESTDIR:-}
BINARIES=${CARGO_TARGET_DIR:-$ROOT/target}/release
UNITS=(agent/srb-agent.service agent/srb-agent-standby.service system/srb-module.service
    system/srb-shutdown.service)
UNIT_DIR=lib/systemd/system
GENERATOR=lib/systemd/system-generators/srb-generator
RULES=lib/udev/rules.d/60-srb.rules

# program NAME FOLDER: what `make userspace` built.
program() {
    [ -x "$BINARIES/$1" ] || die "$BINARIES/$1 is missing: run 'make userspace' first."
    install -D -m 755 "$BINARIES/$1" "$DESTDIR$2/$1"
}

# manual PROGRAM...: their pages and completions, which a program makes of their command lines.
manual() {
    local made name page share=$DESTDIR$PREFIX/share
    made=$(mktemp -d)
    "$BINARIES/srb-manual" "$made"
    for name in "$@"; do
        for page in "$made/man/$name".[0-9] "$made/man/$name"-*.[0-9]; do
            [ ! -e "$page" ] || install -D -m 644 -t "$share/man/man${page##*.}" "$page"
        done
        install -D -m 644 -t "$share/bash-completion/completions" "$made/bash/$name"
        install -D -m 644 -t "$share/zsh/site-functions" "$made/zsh/_$name"
        install -D -m 644 -t "$share/fish/vendor_completions.d" "$made/fish/$name.fish"
    done
    rm -rf "$made"
}

install_agent() {
    local unit file
    program srb-agent "$SBINDIR"
    program srbctl "$PREFIX/bin"
    manual srb-agent srbctl
    install -D -m 644 -t "$DESTDIR$PREFIX/share/man/man5" "$ROOT"/docs/man/*.5
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
    say "installed srb-agent, srbctl, units and udev rules below $DESTDIR$PREFIX"
}

install_playground() {
    program srb-playground "$PREFIX/bin"
    manual srb-playground
    say "installed srb-playground below $DESTDIR$PREFIX"
}

install_dkms() {
    local slice version to
    version=$(version)
    to=/usr/src/srb-$version
    slice=${SRB_SLICE:-$("$ROOT/scripts/slice.sh")}
    "$ROOT/scripts/module-sources.sh" "$ROOT" "$slice" "$DESTDIR$to"
    sed "s/#MODULE_VERSION#/$version/" "$ROOT/debian/srb-dkms.dkms" >"$DESTDIR$to/dkms.conf"
    say "installed $DESTDIR$to: 'dkms install srb/$version' builds it for the kernel that runs"
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
    local module unit program
    rm -f "$DESTDIR$SBINDIR/srb-agent" "$DESTDIR$PREFIX"/bin/{srbctl,srb-playground}
    rm -f "$DESTDIR$PREFIX"/{"$GENERATOR","$RULES"}
    rm -f "$DESTDIR$PREFIX"/share/man/man*/{srb-agent,srbctl,srb-playground}{,-*}.[0-9]
    rm -f "$DESTDIR$PREFIX"/share/man/man5/{srb.conf,srbtab}.5
    for program in srb-agent srbctl srb-playground; do
        rm -f "$DESTDIR$PREFIX/share/bash-completion/completions/$program" \
            "$DESTDIR$PREFIX/share/zsh/site-functions/_$program" \
            "$DESTDIR$PREFIX/share/fish/vendor_completions.d/$program.fish"
    done
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
    programs) install_agent && install_playground ;;
    agent | playground | module | dkms) "install_$1" ;;
    uninstall) uninstall ;;
    *) die "usage: install.sh module|dkms|programs|agent|playground|uninstall" ;;
esac
