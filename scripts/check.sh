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
        files '*.rs' '*.c' '*.h' '*.sh' '*.toml' '*.service' Makefile Kbuild
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

kmod_format() { rustfmt --check --edition 2021 kmod/main.rs; }

shell_scripts() {
    { files '*.sh'; scripts 'sh$'; } | sort -u | xargs -d '\n' shellcheck --
}

spelling() {
    files '*.rs' '*.c' '*.sh' '*.md' '*.toml' Makefile Kbuild | grep -v '^Cargo.lock$' |
        xargs -d '\n' codespell \
            --ignore-words-list=crate,fo,inflight,inout,ot,parm,ro,ser,statics --
}

# Sources of crates, licences and bans.
deny() { cargo deny --locked check --hide-inclusion-graph; }

docs() {
    # Docs are for those who work on srb, and link to private items.
    RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' \
        cargo doc --workspace --no-deps --locked --document-private-items
}

clippy() {
    cargo clippy --workspace --all-targets --locked -- -D warnings -W clippy::too_many_lines
}

cd "$ROOT"
host_tools shellcheck=shellcheck codespell=codespell git=git
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
check "spelling" spelling
check "licence headers" spdx
check "lines of at most 100 characters" long_lines
if command -v cargo-deny >/dev/null && [ -f deny.toml ]; then
    check "cargo-deny" deny
else
    skip "cargo-deny: not installed (cargo install cargo-deny), or no deny.toml"
fi
[ ${#FAILED[@]} = 0 ] || die "${#FAILED[@]} checks failed: $(printf '%s; ' "${FAILED[@]}")"
say "all checks passed"
