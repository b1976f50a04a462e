#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Gathers what the guest sees below /srb: its init, the module, the programs, the demo. Builds what
# is not up to date, the kernel's half beside the programs. Prints the folder's path.
. "$(dirname "$0")/lib.sh"

need_root "making what the VM runs"
"$ROOT/scripts/sdk.sh"
"$ROOT/scripts/module.sh" &
MODULE=$!
# The error that is found first is the one to show, and ends the other build.
ANSWER=$CACHE/tmp/programs.$$
"$ROOT/scripts/userspace.sh" >"$ANSWER" &
USERSPACE=$!
trap 'rm -f "$ANSWER"; kill $MODULE $USERSPACE 2>/dev/null || true' EXIT
wait -n
wait -n
PROGRAMS=$(cat "$ANSWER")

PAYLOAD=$CACHE/payload-$(key "$ROOT" "$KERNEL")
exec 9>"$CACHE/locks/$(basename "$PAYLOAD")"
flock 9
rm -rf "$PAYLOAD.new"
mkdir -p "$PAYLOAD.new/bin"
for program in srb-agent srbctl srb-playground srb-guest-tests srb-bench; do
    [ ! -x "$PROGRAMS/$program" ] || cp "$PROGRAMS/$program" "$PAYLOAD.new/bin/"
done
# Programs of others that are to be there as well.
[ -z "${SRB_VM_EXTRA:-}" ] || find "$SRB_VM_EXTRA" -maxdepth 1 -type f -executable \
    -exec cp {} "$PAYLOAD.new/bin/" \;
strip --strip-debug "$PAYLOAD.new/bin/"* 2>/dev/null || true
cp -L "$(module_path "$ROOT")" "$ROOT/tests/guest/init" "$PAYLOAD.new/"
[ ! -e "$ROOT/scripts/demo.sh" ] || cp "$ROOT/scripts/demo.sh" "$PAYLOAD.new/"
rm -rf "$PAYLOAD"
mv "$PAYLOAD.new" "$PAYLOAD"
echo "$PAYLOAD"
