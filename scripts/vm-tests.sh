#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Runs the tests that need the real module, in the VM; arguments go to them as to `cargo test`.
# usage: vm-tests.sh [FILTER] [--list]
exec "$(dirname "$0")/vm.sh" run --disk 8G --timeout "${SRB_VM_TIMEOUT:-1200}" -- \
    srb-guest-tests "$@"
