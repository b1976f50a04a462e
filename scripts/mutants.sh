#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Changes one thing after another in the code below, and sees whether a test fails: first those
# beside the code, then, for what these let pass, all tests of the crate. What no test notices is
# printed, unless docs/mutants.md says why it makes no difference.
# usage: mutants.sh [FILE...]    without files: all; lists and logs go to target/mutants/mutants.out
. "$(dirname "$0")/lib.sh"

# What is tried out by hand badly, as it decides only when something goes wrong.
EXAMINED=(
    'proto/src/**/*.rs'
    agent/src/{base/errors,kernel/polling}.rs
    agent/src/http/{body,head}.rs
    agent/src/paths/{backoff,fitness,health,limits,list,state}.rs
    agent/src/volume/{heritage,landing,limit,settling,unsettled}.rs
)

need_cargo
host_tools git=git
cd "$ROOT"
TOOLS=$CACHE/tools
OUT=$ROOT/target/mutants/mutants.out
export PATH=$TOOLS/bin:$PATH
# Nobody debugs a mutant.
export CARGO_PROFILE_DEV_DEBUG=0
command -v cargo-mutants >/dev/null ||
    step "cargo-mutants" cargo install --locked --quiet --root "$TOOLS" cargo-mutants
[ $# != 0 ] || set -- "${EXAMINED[@]}"
FILES=("${@/#/--file=}")

# mutants OPTION...: 2 and 3 say that some are left.
mutants() {
    local status=0
    cargo mutants --no-shuffle --jobs=1 --colors=never --output="${OUT%/*}" \
        --package=srb-proto --package=srb-agent "${FILES[@]}" "$@" || status=$?
    [ $status != 2 ] && [ $status != 3 ] || status=0
    return $status
}

# What is left of the place: lines move.
unexplained() {
    sed -E 's/:[0-9]+:[0-9]+:/:/' "$OUT/missed.txt" | while read -r mutant; do
        grep -qF -- "\`$mutant\`" docs/mutants.md || printf '%s\n' "$mutant"
    done
}

count() { wc -l <"$OUT/$1.txt"; }

mkdir -p "${OUT%/*}"
step "mutants, tests beside the code" mutants --cargo-arg=--lib
[ ! -s "$OUT/missed.txt" ] ||
    step "mutants, all tests" mutants --iterate --cargo-arg=--lib --cargo-arg=--tests
LEFT=$(unexplained)
say "$(count caught) caught, $(count timeout) that never end, $(count unviable) not built," \
    "$(count missed) that no test notices"
[ -z "$LEFT" ] || die "not explained in docs/mutants.md:"$'\n'"$LEFT"
