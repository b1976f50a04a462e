# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# Shared by the scripts beside it: where the cache is, how a step is shown and logged, how a result
# gets into the cache in one piece, and how a command is run inside one of the cached trees. Source
# it; it runs nothing.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# HOME may be unset under CI; the fallback is then a folder that only root can have made.
CACHE=${SRB_CACHE:-${XDG_CACHE_HOME:-${HOME:-/var/cache}/.cache}/srb}
# The kernel that the module is built for and that the VM boots: a stock one, by the archive that it
# is from, or one that is built for testing (scripts/kernels). Trixie's has no CONFIG_RUST, and the
# module is built against its headers, with a `kernel` crate brought along; `-headers` builds it so
# for a kernel that has one of its own, too.
KERNELS=(trixie-backports trixie-backports-headers trixie forky forky-headers debug kcsan)
export KERNEL=${KERNEL:-trixie-backports}
# One clock for a whole `make`, so that the times of nested scripts add up.
export SRB_STARTED=${SRB_STARTED:-$(date +%s)}
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
mkdir -p "$CACHE/locks" "$CACHE/tmp" "$CACHE/logs"

# say TEXT...: one line of progress, on stderr so that a script's stdout stays its answer.
say() {
    local t=$(($(date +%s) - SRB_STARTED))
    printf '[%02d:%02d] %s\n' $((t / 60)) $((t % 60)) "$*" >&2
}

# die TEXT...: one sentence, and out.
die() {
    printf 'srb: %s\n' "$*" >&2
    exit 1
}

case " ${KERNELS[*]} " in
    *" $KERNEL "*) ;;
    *) die "KERNEL=$KERNEL is none of: ${KERNELS[*]}" ;;
esac

need_root() {
    [ "$(id -u)" = 0 ] ||
        die "$1 needs root (it makes Debian trees and enters them by chroot): run it with sudo."
}

need_cargo() {
    command -v cargo >/dev/null ||
        die "'cargo' is missing: install a Rust toolchain (https://rustup.rs)."
}

# host_tools COMMAND=PACKAGE...: installs what is missing when that is possible, else says what to
# install.
host_tools() {
    local missing=() pair
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null 2>&1 || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        step "host packages: ${missing[*]}" install_packages "${missing[@]}"
    fi
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null 2>&1 ||
            die "'${pair%%=*}' is missing: install the package ${pair#*=}."
    done
}

install_packages() {
    exec 8>"$CACHE/locks/apt"
    flock 8
    apt-get -qq update && apt-get -qq -y --no-install-recommends install "$@" </dev/null
    local status=$?
    exec 8>&-
    return $status
}

# key TEXT_OR_FILE...: a short hash of what goes into a result; files count with their contents, but
# for comments.
key() {
    local x
    for x in "$@"; do
        if [ -f "$x" ]; then grep -v '^ *#' "$x"; else printf '%s\n' "$x"; fi
    done | sha256sum | cut -c1-12
}

# step TITLE COMMAND...: runs the command with all its output in a log; shows the end of it only if
# it fails.
step() {
    local title=$1 log began status=0 pid
    shift
    log=$CACHE/logs/$(printf '%s' "$title" | tr -cs 'A-Za-z0-9' '-' | cut -c1-40).$$.log
    began=$(date +%s)
    # In the background, so that errexit works in the command and a failure is still ours to report;
    # in a process group of its own, as a shell's background commands ignore Ctrl-C and have to be
    # ended as one.
    set -m
    "$@" >"$log" 2>&1 </dev/null &
    pid=$!
    set +m
    # shellcheck disable=SC2064
    trap "kill -TERM -- -$pid 2>/dev/null; wait $pid 2>/dev/null; exit 130" INT TERM HUP
    if [ -t 2 ] && [ -z "${CI:-}" ]; then
        spin "$pid" "$title" "$log" "$began"
        printf '\r\033[K' >&2
    else
        say "$title ..."
    fi
    wait "$pid" || status=$?
    trap - INT TERM HUP
    if [ "$status" != 0 ]; then
        printf '%s\n' "--- the last lines of $log:" >&2
        tail -n "${SRB_LOG_LINES:-30}" "$log" >&2
        die "failed: $title (status $status; full output in $log)"
    fi
    # For those who look for more in it.
    # shellcheck disable=SC2034
    STEP_LOG=$log
    say "$title: $(($(date +%s) - began)) s"
}

# spin PID TITLE LOG BEGAN: a spinner with the log's last line, until the process ends.
spin() {
    local turn=0 marks='|/-+' last columns
    columns=$(tput cols 2>/dev/null || echo 80)
    while kill -0 "$1" 2>/dev/null; do
        last=$(tail -c 400 "$3" | tr -d '\r' | grep -a '[^[:space:]]' | tail -n 1) || true
        printf '\r\033[K%s' "$(printf '%s %s (%d s) %s' "${marks:turn++%4:1}" "$2" \
            $(($(date +%s) - $4)) "$last" | tr -cd '[:print:]' | cut -c1-$((columns - 1)))" >&2
        sleep 0.3
    done
}

# cached NAME FUNCTION: makes $CACHE/NAME by `FUNCTION TEMPDIR` unless it is there: built aside,
# renamed when whole, one builder at a time. A builder that dies leaves a temporary folder only,
# which the next one removes.
cached() {
    local name=$1 make=$2 final=$CACHE/$1 temp=$CACHE/tmp/$1
    if [ -e "$final" ]; then
        # Its age is that of its last use.
        touch "$final"
        return 0
    fi
    # Those of its kind that nobody has used for two weeks.
    find "$CACHE" -maxdepth 1 -name "${name%-*}-*" -mtime +14 -exec rm -rf --one-file-system {} +
    exec 9>"$CACHE/locks/$name"
    if ! flock -n 9; then
        say "waiting for another build of $name"
        flock 9
    fi
    if [ ! -e "$final" ]; then
        rm -rf --one-file-system "$temp"
        mkdir -p "$temp"
        "$make" "$temp"
        mv -T "$temp" "$final"
    fi
    exec 9>&-
}

# inside [-w] TREE [SRC:DST[:ro]]... -- COMMAND...: runs COMMAND by chroot in TREE, which it cannot
# change but with -w. Its mounts and processes live in namespaces of their own and go with them,
# however the command ends.
inside() {
    unshare --mount --propagation private --pid --fork --kill-child -- \
        bash "$ROOT/scripts/enter.sh" "$@"
}

# The archive that $KERNEL, or its source, is from.
kernel_archive() {
    case $KERNEL in
        trixie | forky*) echo "${KERNEL%-headers}" ;;
        *) echo trixie-backports ;;
    esac
}

# Whether the module is built against the headers that the kernel's packages have.
from_headers() { [ "$KERNEL" = trixie ] || [[ $KERNEL == *-headers ]]; }

# The names of the cached trees; each hashes what goes into it, so a changed script makes a new one.
sdk_name() {
    echo "sdk-$(cd "$ROOT/scripts" && key sdk.sh sdk-inside.sh debian.sh backports.sh \
        "$(kernel_archive)")"
}
kernel_name() {
    local config=$ROOT/scripts/kernels/$KERNEL.config
    if from_headers; then
        sdk_name
    elif [ -f "$config" ]; then
        echo "kernel-$KERNEL-$(cd "$ROOT/scripts" &&
            key kernel-debug-inside.sh kernels/machine.config "$config" "$(sdk_name)")"
    else
        echo "kernel-$(key "$ROOT/scripts/kernel-inside.sh" "$(sdk_name)")"
    fi
}
# The VM's tree; with "systemd" as argument that of a whole machine.
rootfs_name() {
    echo "rootfs${1:+-$1}-$(cd "$ROOT/scripts" && key rootfs.sh debian.sh ${1:+backports.sh})"
}
# machine_image_name DEB: the image of a whole machine in which this package is installed.
machine_image_name() {
    echo "image-systemd-$(cd "$ROOT" && key scripts/image.sh tests/guest/initramfs \
        tests/guest/srb-vm.service "$(rootfs_name systemd)" "$(sha256sum <"$1")")"
}
image_name() {
    local kernel
    # What a stock kernel's module is built in is not what boots.
    kernel=$(sdk_name)
    [ ! -f "$ROOT/scripts/kernels/$KERNEL.config" ] || kernel=$(kernel_name)
    echo "image-$(cd "$ROOT" && key scripts/image.sh tests/guest/initramfs "$(rootfs_name)" \
        "$kernel")"
}
# The crates that Cargo.lock names, for builds without a network.
vendor_name() {
    echo "vendor-$(key "$ROOT/Cargo.lock")"
}
make_vendor() {
    step "crates: fetching what Cargo.lock names" cargo vendor --quiet --locked --versioned-dirs \
        --manifest-path "$ROOT/Cargo.toml" "$1"
}
# The version of all that is in the workspace.
version() { sed -n 's/^version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml" | head -n 1; }

# copy_sources FOLDER: what git has or would take. A file that is the same stays as it is, so that
# cargo builds only what has changed.
copy_sources() {
    local file
    mkdir -p "$1"/{vendor,slice}
    (cd "$ROOT" && git ls-files --cached --others --exclude-standard) | while read -r file; do
        [ ! -f "$ROOT/$file" ] || echo "$file"
    done | LC_ALL=C sort >"$1.files"
    while read -r file; do
        if ! cmp -s "$ROOT/$file" "$1/$file"; then
            mkdir -p "$(dirname "$1/$file")"
            cp --preserve=mode "$ROOT/$file" "$1/$file"
        fi
    done <"$1.files"
    (cd "$1" && find . \( -path ./vendor -o -path ./slice \) -prune -o -type f -printf '%P\n') |
        LC_ALL=C sort | LC_ALL=C comm -13 "$1.files" - | while read -r file; do rm "$1/$file"; done
}

# Where the sdk's cargo builds the programs of this checkout.
userspace_name() {
    echo "userspace-$(key "$ROOT" "$(sdk_name)")"
}
# Where the module of the checkout $1 lies once it is built.
module_path() {
    if [ "$KERNEL" = trixie-backports ]; then
        echo "$1/target/kmod/srb.ko"
    else
        echo "$1/target/kmod/$KERNEL/srb.ko"
    fi
}
