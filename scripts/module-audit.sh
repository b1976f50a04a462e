#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Disassembles a module whose Rust was compiled beside the kernel's own build (kmod/crate), and
# fails if it is not hardened as the kernel's configuration wants every module to be, or imports
# what only a kernel with Rust has.
# usage: module-audit.sh MODULE AUTO_CONF
set -eu

module=$1 conf=$2
code=$(mktemp)
trap 'rm -f "$code"' EXIT
# One instruction on a line, without its bytes, relocations below it.
objdump -dr --no-show-raw-insn "$module" >"$code"
bad=0

has() { grep -qx "CONFIG_$1=y" "$conf"; }

# finding TITLE LINES: reports the lines, if there are any.
finding() {
    [ -n "$2" ] || return 0
    echo "$module: $1:"
    echo "$2" | head -n 5
    bad=1
}

# none TITLE PATTERN: no line of the code matches.
none() { finding "$1" "$(grep -E -m 5 "$2" "$code" || true)"; }

finding "imports what only a kernel with Rust has" \
    "$(nm -u "$module" | grep -E ' (_R|rust_|__rust)' || true)"
# Debian exports these for its own modules (binder), the kernel as it is released does not: a module
# that imports one is refused by every other distribution's.
only_debian='__wake_up_pollfree|task_work_add|can_nice|mmput_async|lock_vma_under_rcu|file_close_fd'
only_debian="$only_debian|(init|put)_ipc_ns|zap_(vma|page)_range[a-z_]*|security_binder_[a-z_]*"
finding "imports what Debian's kernels alone export" \
    "$(nm -u "$module" | grep -xE " +U ($only_debian)" || true)"
finding "calls what nobody defines for floating point" \
    "$(nm -u "$module" | grep -E ' __[a-z]+[sdt]f[23s]?[a-z0-9]*$' || true)"
none "has an instruction of SSE, AVX or MMX" '%[xyz]mm[0-9]|%mm[0-9]|%st\('
if has MITIGATION_RETPOLINE || has RETPOLINE; then
    none "has an indirect call or jump without a retpoline" '[[:space:]](call|jmp)q?[[:space:]]+\*'
fi
if has MITIGATION_RETHUNK || has RETHUNK; then
    none "returns without a return thunk" '[[:space:]]retq?([[:space:]]|$)'
fi
# What a table of callbacks points to is entered by an indirect call. Relocations name it by section
# and offset, or by symbol.
without_endbr() {
    {
        objdump -t "$module" | sed 's/^/symbol /'
        sed 's/^/code /' "$code"
        objdump -r -j .rodata -j .data -j .data.rel.ro "$module" 2>/dev/null | sed 's/^/entry /'
    } | awk '
        $1 == "symbol" && NF > 5 { place[$NF] = $(NF - 2) " " hex($2) }
        $1 == "code" && /Disassembly of section/ { section = $NF; sub(/:$/, "", section) }
        $1 == "code" && $2 ~ /^[0-9a-f]+:$/ { first[section " " hex($2)] = $3 }
        $1 == "entry" && $3 == "R_X86_64_64" {
            split($4, part, "[+]0x")
            at = part[1] ~ /^\./ ? part[1] " " hex(part[2]) : place[part[1]]
            if (at in first && first[at] != "endbr64" && !(at in told)) print at ": " first[at]
            told[at]
        }
        function hex(digits) { sub(/:$/, "", digits); sub(/^0+/, "", digits); return digits }'
}
if has X86_KERNEL_IBT; then
    finding "a callback does not begin with ENDBR" "$(without_endbr)"
fi
# A panic says why, and ends the thread as BUG() does.
panics=$(awk '/<.*rust_begin_unwind>:$/ { found = 1; next } /^$/ { found = 0 } found' "$code")
if ! echo "$panics" | grep -q printk || ! echo "$panics" | grep -qE 'rust_helper_BUG|ud2'; then
    finding "a panic does not print and end in BUG()" "${panics:-(no rust_begin_unwind)}"
fi
if has DYNAMIC_FTRACE; then
    objdump -h "$module" | grep -qE '__patchable_function_entries|__mcount_loc' ||
        finding "has no entries for ftrace" "(no section of them)"
fi
exit $bad
