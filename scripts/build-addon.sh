#!/bin/sh
# build-addon.sh [x64|arm64]: the native addon, build/native/<platform>-<arch>/merbridge.node, for this machine or for another architecture. One
# binary serves every Node with Node-API 8 (22 and 24). For another one, CXX is the cross compiler and CROSS_SYSROOT the directory into which
# libbpf-dev and what it needs were unpacked (scripts/kernels/cross.ts does that).
# What did not change is not built again: objects and binary are named after, or stamped with, a hash of everything that goes into them.
set -eu
cd "$(dirname "$0")/.."

case $(uname -m) in
x86_64) machine=x64 ;;
aarch64) machine=arm64 ;;
*) machine=$(uname -m) ;;
esac
arch=${1:-$machine}
case $arch in
x64) protection=-fcf-protection=full triplet=x86_64-linux-gnu ;;
arm64) protection=-mbranch-protection=standard triplet=aarch64-linux-gnu ;;
*)
	echo "build-addon: no addon for $arch" >&2
	exit 1
	;;
esac
cross='' cross_link=''
if [ "$arch" = "$machine" ]; then
	CXX=${CXX:-g++}
else
	CXX=${CXX:-$triplet-g++}
	: "${CROSS_SYSROOT:?build-addon: another architecture needs CROSS_SYSROOT}"
	cross="-isystem $CROSS_SYSROOT/usr/include -isystem $CROSS_SYSROOT/usr/include/$triplet"
	# What libbpf itself needs is found when the addon is loaded.
	cross_link="-L$CROSS_SYSROOT/usr/lib/$triplet -L$CROSS_SYSROOT/lib/$triplet -Wl,--allow-shlib-undefined"
fi
out=build/native/linux-$arch
objects=build/native/objects-$arch
mkdir -p "$out" "$objects"

# Two builds at once (an editor's and a test's) take turns.
exec 9>"$objects/lock"
flock 9

flags="-std=c++17 -O2 -fPIC -fvisibility=hidden -Wall -Wextra -Werror -D_GNU_SOURCE -DNAPI_VERSION=8 -DNAPI_CPP_EXCEPTIONS -DNODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS
-DNODE_ADDON_API_DISABLE_DEPRECATED -D_FORTIFY_SOURCE=2 -D_GLIBCXX_ASSERTIONS -fstack-protector-strong -fstack-clash-protection $protection
-isystem node_modules/node-api-headers/include -isystem node_modules/node-addon-api $cross"
# nodelete: libbpf keeps a pointer to our print callback, so a worker that ends must not unload it.
link="-shared -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,-z,nodelete -Wl,--as-needed -Wl,--exclude-libs,ALL -s $cross_link"

common=$({
	echo "$flags $link"
	$CXX --version
	cat core/native/*.h node_modules/node-api-headers/package.json node_modules/node-addon-api/package.json
} | sha256sum | cut -c1-16)

todo='' all=''
for source in core/native/*.cc; do
	hash=$( (echo "$common" && cat "$source") | sha256sum | cut -c1-16)
	object=$objects/$(basename "$source" .cc)-$hash.o
	all="$all $object"
	[ -e "$object" ] || todo="$todo $source $object"
done

stamp=$(echo "$common $all" | sha256sum | cut -c1-64)
if [ -e "$out/merbridge.node" ] && [ "$(cat "$objects/stamp" 2>/dev/null)" = "$stamp" ]; then
	exit 0
fi

# shellcheck disable=SC2086,SC2016 # the lists are meant to be split; $1 and $2 are those of the inner shell
[ -z "$todo" ] || printf '%s %s\n' $todo | xargs -P 2 -L 1 sh -c "$CXX $(echo $flags) -c \"\$1\" -o \"\$2.tmp\" && mv \"\$2.tmp\" \"\$2\"" compile
# shellcheck disable=SC2086
$CXX $link $all -lbpf -o "$out/merbridge.node.tmp"
mv "$out/merbridge.node.tmp" "$out/merbridge.node"
for object in "$objects"/*.o; do
	case " $all " in
	*" $object "*) ;;
	*) rm -f "$object" ;;
	esac
done
echo "$stamp" >"$objects/stamp"
