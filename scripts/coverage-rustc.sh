#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# The compiler for crates of the workspace when coverage is measured (scripts/coverage.sh): what
# others wrote is not counted. Branches are a switch that a stable compiler has if it is asked so.
# Not for sh, which may drop what cargo says in variables that have a dash in their names.
# usage: coverage-rustc.sh RUSTC ARGUMENT...    as cargo's build.rustc-workspace-wrapper

export RUSTC_BOOTSTRAP=1
exec "$@" -Cinstrument-coverage -Zcoverage-options=branch
