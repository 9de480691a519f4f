#!/bin/sh
# Formats C and C++; with --check it changes nothing and fails on a difference.
set -eu
cd "$(dirname "$0")/.."
mode=-i
[ "${1:-}" != --check ] || mode='--dry-run --Werror'
# shellcheck disable=SC2086
find bpf core/native core/selftest bench test/soak test/demo \( -name '*.[ch]' -o -name '*.cc' -o -name '*.cpp' -o -name '*.hpp' \) -exec clang-format-19 $mode {} +
