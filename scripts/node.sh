# The Node that everything runs with; sourced after lib.sh. The npm package with the binary in it needs no install script.

node_version=24.21.0
node_sha512_x64=de750bb336795f47dc898a46d2de93add029273027f3e16520d3fa3a2317ed5f07aefa404cf37ddfa5352e545e389ae22d16b87bcc84a900580a72f23cd02ced
node_sha512_arm64=1692513c4cf63afbd32df8c83a5346158f492cf30a825e66f9de2819804b836e242759a6bcdd5997f1cf2601781c3689e752127afd65d5c459fc333e91e5d6e6

# fetch_node ARCH DIRECTORY: DIRECTORY/bin/node, from the npm registry that this machine is configured for.
fetch_node() {
	case $1 in
	x64) node_sha512=$node_sha512_x64 ;;
	arm64) node_sha512=$node_sha512_arm64 ;;
	esac
	key="$node_version $node_sha512"
	name=$(basename "$2")
	! fresh "$name" "$key" "$2/bin/node" || return 0
	command -v npm >/dev/null || die 'npm is missing: install Node 20 or newer with npm'
	say "fetching Node $node_version"
	rm -rf "$2.new" && mkdir -p "$2.new"
	retry npm pack --silent --pack-destination "$2.new" "node-linux-$1@$node_version" >/dev/null ||
		die "npm could not fetch node-linux-$1@$node_version: is the npm registry reachable?"
	archive=$2.new/node-linux-$1-$node_version.tgz
	echo "$node_sha512  $archive" | sha512sum -c --status || die "the archive of Node $node_version is not the expected one (SHA-512 differs)"
	tar -xzf "$archive" -C "$2.new" --strip-components=1 package/bin/node package/LICENSE
	rm -rf "$archive" "$2" && mv "$2.new" "$2"
	done_with "$name" "$key"
}
