#!/bin/sh
# Programs of the real world for test/programs/: Debian packages, unpacked below .cache/programs/root and not installed, because some of them start a service
# where they are installed; and programs in Go and Java, compiled there. What cannot be had is named, and its tests are skipped; it is never an error.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

home=$PWD/.cache/programs
mkdir -p "$home"
exec 9>"$home/lock"
flock -w 600 9 || exit 0

# Debian names PostgreSQL by its version.
postgresql() { apt-cache depends postgresql 2>/dev/null | sed -n 's/^ *Depends: \(postgresql-[0-9]*\)$/\1/p' | head -n 1; }

# download NAMES: with what they depend on, as far as it is not installed.
download() {
	apt-get -q -y -o Dir::Cache::archives="$home/archives" -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o DPkg::Lock::Timeout=60 \
		install --no-install-recommends --download-only --reinstall "$@" </dev/null >"$home/apt.log" 2>&1
}

unpack() {
	packages="nginx redis-server $(postgresql) iperf3 nghttp2-client python3-grpcio python3-websockets"
	key="1 $packages"
	! fresh programs "$key" "$home/root" || return 0
	run=${MERBRIDGE_RUN:-$$}
	[ "$(cat "$home/tried" 2>/dev/null)" != "$run" ] || return 0 # in vain, by this very run
	echo "$run" >"$home/tried"
	say "fetching programs for test/programs: $packages"
	rm -rf "$home/root" "$home/archives"
	mkdir -p "$home/archives/partial"
	# shellcheck disable=SC2086
	if ! download $packages; then
		apt-get -q -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o DPkg::Lock::Timeout=60 update </dev/null >/dev/null 2>&1 || true
		packages="nginx redis-server $(postgresql) iperf3 nghttp2-client python3-grpcio python3-websockets"
		key="1 $packages"
		for package in $packages; do
			download "$package" && continue
			say "$package could not be fetched ($(grep '^E:' "$home/apt.log" | head -n 1)): its tests are skipped"
			key='' # another run tries again
		done
	fi
	rm -rf "$home/new" && mkdir "$home/new"
	for archive in "$home"/archives/*.deb; do [ ! -e "$archive" ] || dpkg-deb -x "$archive" "$home/new"; done
	rm -rf "$home/new/usr/share/doc" "$home/new/usr/share/locale" "$home/new/usr/share/man" "$home/archives"
	mv "$home/new" "$home/root"
	[ -z "$key" ] || done_with programs "$key"
}

compile_go() {
	go=go
	[ ! -x /usr/bin/go ] || go=/usr/bin/go
	command -v "$go" >/dev/null || return 0
	key="$(content_hash test/programs/go) $($go version)"
	! fresh programs-go "$key" "$home/go" || return 0
	say 'compiling test/programs/go'
	if (cd test/programs/go && GO111MODULE=off CGO_ENABLED=0 GOFLAGS= GOCACHE="$home/go-cache" "$go" build -o "$home/go.new" .); then
		mv "$home/go.new" "$home/go"
		done_with programs-go "$key"
	else
		say 'the Go program could not be compiled (the reason stands above): its tests are skipped'
	fi
}

compile_java() {
	command -v ecj >/dev/null || return 0
	key=$(content_hash test/programs/java)
	! fresh programs-java "$key" "$home/java" || return 0
	say 'compiling test/programs/java'
	rm -rf "$home/java"
	if ecj -11 -warn:none -proc:none -d "$home/java" test/programs/java/Exchange.java; then
		done_with programs-java "$key"
	else
		rm -rf "$home/java"
		say 'the Java program could not be compiled (the reason stands above): its tests are skipped'
	fi
}

if command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null && [ -z "${MERBRIDGE_SKIP_PACKAGES:-}" ]; then unpack; fi
compile_go
compile_java
