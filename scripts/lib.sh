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
