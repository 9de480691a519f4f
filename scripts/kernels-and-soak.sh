#!/bin/sh
# Other kernels in QEMU, and beside them a soak of two minutes, which mostly waits. Both must succeed.
set -eu
log=$(mktemp "${TMPDIR:-/tmp}/merbridge-soak-XXXXXX")
trap 'rm -f "$log"' EXIT
node --test test/soak/short.ts >"$log" 2>&1 &
soak=$!
failed=0
node scripts/kernels/main.ts --ci || failed=1
wait "$soak" || failed=1
cat "$log"
exit "$failed"
