# Shared by the scripts of this directory, which source it from the root of the checkout. POSIX sh.

# bpftool is in sbin, which an ordinary user does not have in PATH.
PATH=$PATH:/usr/sbin:/sbin
stamps=.cache/stamps

say() { printf 'setup: %s\n' "$*" >&2; }

die() {
	printf 'setup: %s\n' "$*" >&2
	exit 1
}

# Hash of the names and contents of files and directories.
content_hash() { find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d ' ' -f 1; }

# fresh NAME KEY OUTPUT: the step NAME was done for KEY, and its output is still there.
fresh() { [ -e "$3" ] && [ "$(cat "$stamps/$1" 2>/dev/null)" = "$2" ]; }

# done_with NAME KEY: remembers it.
done_with() {
	mkdir -p "$stamps"
	printf '%s\n' "$2" >"$stamps/$1"
}

# retry COMMAND...: for what goes over a network; three attempts.
retry() {
	for pause in 2 8 0; do
		if "$@" </dev/null; then return 0; fi
		[ "$pause" = 0 ] || { say "failed: $1 $2; trying again in $pause s"; sleep "$pause"; }
	done
	return 1
}

# Those of the Debian packages in $1 that are not installed.
missing_packages() {
	for package in $1; do
		dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || printf '%s ' "$package"
	done
}

# debian_packages NAMES: installs what is missing of them.
debian_packages() {
	[ -z "${MERBRIDGE_SKIP_PACKAGES:-}" ] || return 0
	if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
		die "this is not Debian or a system derived from it: install what these packages hold ($1), then set MERBRIDGE_SKIP_PACKAGES=1"
	fi
	missing=$(missing_packages "$1")
	[ -n "$missing" ] || return 0
	[ "$(id -u)" = 0 ] || die "these packages are missing, and only root can install them: apt-get install -y $missing"
	say "installing Debian packages: $missing"
	export DEBIAN_FRONTEND=noninteractive
	retry apt-get -q -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 update || die 'apt-get update failed: is a package mirror reachable?'
	# shellcheck disable=SC2086
	retry apt-get -q -y -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 install --no-install-recommends $missing ||
		die "apt-get could not install: $missing"
}
