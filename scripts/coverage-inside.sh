#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Adds up what programs left that count what they run. Runs inside the sdk, for coverage.sh.
# usage: coverage-inside.sh FOLDER PROGRAM...    FOLDER/profiles/*.profraw become FOLDER/all.lcov
set -eu

cd "$1"
shift
find profiles -name '*.profraw' >profiles.list
# A process that was killed as it wrote leaves one that is cut off.
llvm-profdata merge --sparse --failure-mode=warn --input-files=profiles.list --output=all.profdata
for program; do
    set -- "$@" --object "$program"
    shift
done
llvm-cov export --format=lcov --instr-profile=all.profdata "$@" >all.lcov
