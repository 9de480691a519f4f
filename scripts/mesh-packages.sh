#!/bin/sh
# Debian packages that only tests of the ring mesh need: resolvers, compilers for their clients, Java, HAProxy. One that cannot be had is named, and the
# tests that need it are skipped with the reason; it is never an error.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

packages='bind9-dnsutils default-jre-headless ecj golang-go haproxy musl-tools'

missing=$(missing_packages "$packages")
[ -n "$missing" ] && [ -z "${MERBRIDGE_SKIP_PACKAGES:-}" ] || exit 0
if (debian_packages "$missing"); then exit 0; fi

# Not all together, so those that can be had; without long waits, because it was tried with them.
for package in $missing; do
	apt-get -q -y -o Acquire::Retries=0 -o Acquire::http::Timeout=10 -o DPkg::Lock::Timeout=60 install --no-install-recommends "$package" ||
		say "$package could not be installed (the reason stands above): tests that need it are skipped"
done
