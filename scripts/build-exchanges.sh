#!/bin/sh
# build-exchanges.sh [x64|arm64]: the program of the exchanges (core/selftest/exchanges/), build/native/<platform>-<arch>/exchanges, for this machine
# or for another architecture, whose cross compiler is CC. It is static, so that it runs on every node; it is not built again while nothing changed.
set -eu
cd "$(dirname "$0")/.."

case $(uname -m) in
x86_64) machine=x64 ;;
aarch64) machine=arm64 ;;
*) machine=$(uname -m) ;;
esac
arch=${1:-$machine}
case $arch in
x64) triplet=x86_64-linux-gnu ;;
arm64) triplet=aarch64-linux-gnu ;;
*)
	echo "build-exchanges: no program for $arch" >&2
	exit 1
	;;
esac
if [ "$arch" = "$machine" ]; then CC=${CC:-gcc}; else CC=${CC:-$triplet-gcc}; fi
out=build/native/linux-$arch
objects=build/native/objects-$arch
mkdir -p "$out" "$objects"

# Two builds at once (an editor's and a test's) take turns.
exec 9>"$objects/lock-exchanges"
flock 9

flags="-std=c11 -O2 -Wall -Wextra -Werror -D_GNU_SOURCE -D_FORTIFY_SOURCE=2 -fstack-protector-strong -pthread -static -s"
stamp=$({
	echo "$flags"
	$CC --version
	cat "$0" core/selftest/exchanges/*.[ch]
} | sha256sum | cut -c1-64)
if [ -e "$out/exchanges" ] && [ "$(cat "$objects/stamp-exchanges" 2>/dev/null)" = "$stamp" ]; then
	exit 0
fi
# shellcheck disable=SC2086
$CC $flags core/selftest/exchanges/*.c -o "$out/exchanges.tmp"
mv "$out/exchanges.tmp" "$out/exchanges"
echo "$stamp" >"$objects/stamp-exchanges"
