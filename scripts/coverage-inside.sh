#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Adds up what programs left that count what they run. Runs inside the sdk, for coverage.sh.
# usage: coverage-inside.sh FOLDER PROGRAM...    FOLDER/profiles/*.profraw become FOLDER/all.lcov,
#        and FOLDER/all.branches, where each branch has its column
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
# In lcov's form the branches of a function that is in several programs cannot be told apart.
llvm-cov show --use-color=0 --show-branches=count --instr-profile=all.profdata "$@" >all.branches
