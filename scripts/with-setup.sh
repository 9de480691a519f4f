#!/bin/sh
# with-setup.sh COMMAND...: sets the checkout up, then runs the command with its Node.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
sh "$root/scripts/setup.sh" </dev/null
PATH=$root/.cache/node/bin:$root/node_modules/.bin:$PATH
MERBRIDGE_RUN=${MERBRIDGE_RUN:-$$} # marks every process of this run: see scripts/leftovers.ts
export PATH MERBRIDGE_RUN
exec "$@"
