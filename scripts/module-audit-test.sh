#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Sees scripts/module-audit.sh find each thing that it looks for, in small modules that have one
# fault each, and nothing in one that has none.
set -euo pipefail

cd "$(dirname "$0")"
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
printf 'CONFIG_%s=y\n' MITIGATION_RETPOLINE MITIGATION_RETHUNK X86_KERNEL_IBT DYNAMIC_FTRACE \
    >"$WORK/auto.conf"

# The parts of a module without a fault; a test replaces one of them.
declare -A GOOD=(
    [callback]='callback: endbr64; jmp __x86_return_thunk'
    [table]='.section .rodata; .quad callback; .quad .text+0'
    [panic]='rust_begin_unwind: call _printk; ud2'
    [call]='call __x86_indirect_thunk_rax'
    [ftrace]='.section __patchable_function_entries,"a"; .quad callback'
    [more]=""
)
FAILED=0

# audit: what is said of the module that the parts in PARTS make.
audit() {
    {
        printf '.text\n%s\n%s\n%s\n%s\n' "${PARTS[callback]}" "" "${PARTS[panic]}" ""
        printf 'user: %s\n%s\n' "${PARTS[call]}" "${PARTS[more]}"
        printf '%s\n%s\n' "${PARTS[table]}" "${PARTS[ftrace]}"
    } >"$WORK/module.s"
    gcc -c -o "$WORK/module.o" "$WORK/module.s"
    ./module-audit.sh "$WORK/module.o" "$WORK/auto.conf" 2>&1
}

# expect WORDS PART TEXT: with this part the audit fails, and says so.
expect() {
    local said status=0 part
    declare -A PARTS
    for part in "${!GOOD[@]}"; do PARTS[$part]=${GOOD[$part]}; done
    PARTS[$2]=$3
    said=$(audit) || status=$?
    if [ -n "$1" ] && { [ $status = 0 ] || [[ $said != *"$1"* ]]; }; then
        echo "not found: $1, with: $3"
    elif [ -z "$1" ] && [ $status != 0 ]; then
        echo "found where nothing is: $said"
    else
        return 0
    fi
    FAILED=1
}

expect "" more ""
expect "only a kernel with Rust has" more "call _RNvC6kernel5print"
expect "Debian's kernels alone export" more "call task_work_add"
expect "floating point" more "call __muldf3"
expect "SSE, AVX or MMX" more "movaps %xmm0, %xmm1"
expect "without a retpoline" call "call *%rax"
expect "without a retpoline" call "jmp *(%rdi)"
expect "without a return thunk" callback "callback: endbr64; ret"
expect "begin with ENDBR" callback "callback: nop; jmp __x86_return_thunk"
# By name and by place; in another section than the first one, too.
expect "begin with ENDBR" table ".section .rodata; .quad user"
expect "begin with ENDBR" table \
    ".section .init.text,\"ax\"; other: nop; .section .data; .quad .init.text"
expect "begin with ENDBR" more \
    ".section .exit.text,\"ax\"; leave_it: nop; .section .data; .quad leave_it; .text"
expect "print and end in BUG" panic "rust_begin_unwind: call _printk; jmp ."
expect "print and end in BUG" panic "rust_begin_unwind: ud2"
expect "print and end in BUG" panic ""
expect "no entries for ftrace" ftrace ""
exit $FAILED
