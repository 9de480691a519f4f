#!/bin/sh
# setup.sh ARCHITECTURE...: what the ring `kernels` needs beside scripts/setup.sh. These packages are big (QEMU, a cross compiler), so they are
# installed when the ring runs for the first time, not before.
set -eu
cd "$(dirname "$0")/../.."
. scripts/lib.sh
. scripts/node.sh

packages='qemu-system-x86 cpio xz-utils debian-archive-keyring'
case " $* " in *' arm64 '*) packages="$packages qemu-system-arm g++-aarch64-linux-gnu" ;; esac
debian_packages "$packages"

mkdir -p .cache/kernels
exec 9>.cache/kernels/setup.lock
flock -w 600 9 || die 'another setup has held .cache/kernels/setup.lock for ten minutes'
# npm as the machine has it: under the checkout's Node it would look for its global configuration in the wrong place.
PATH=$(printf '%s' "$PATH" | sed 's|[^:]*/\.cache/node/bin:||g')
for architecture; do
	case $architecture-$(uname -m) in
	amd64-x86_64 | arm64-aarch64) ;; # the checkout's own
	amd64-*) fetch_node x64 .cache/kernels/node-x64 ;;
	arm64-*) fetch_node arm64 .cache/kernels/node-arm64 ;;
	esac
done
