#!/bin/sh
# bpf/*.bpf.c -> build/bpf/merbridge.bpf.o: each file compiled by clang, stripped of DWARF (BTF stays), linked into one object. The object is the
# same for every little-endian machine and every kernel with BTF. bpf/contract.bpf.c holds no programs; the generator of core/contract.ts reads it.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

object=build/bpf/merbridge.bpf.o
key=$(content_hash bpf scripts/build-bpf.sh)
! fresh bpf "$key" "$object" || exit 0
say 'compiling the BPF programs'

rm -rf build/bpf.new && mkdir -p build/bpf.new
# linux/types.h includes asm/types.h, which Debian keeps in the directory of the machine's architecture.
machine=/usr/include/$(uname -m)-linux-gnu
parts=
for source in bpf/*.bpf.c; do
	[ -e "$source" ] || die 'no programs: bpf/*.bpf.c'
	name=$(basename "$source" .bpf.c)
	[ "$name" != contract ] || continue
	clang-19 -target bpf -g -O2 -Wall -Werror -mcpu=v3 -I bpf -idirafter "$machine" -c "$source" -o "build/bpf.new/$name.o"
	llvm-strip-19 -g "build/bpf.new/$name.o"
	parts="$parts build/bpf.new/$name.o"
done
[ -n "$parts" ] || die 'no programs: bpf/*.bpf.c'
mkdir -p build/bpf
# shellcheck disable=SC2086
bpftool gen object build/bpf.new/merbridge.bpf.o $parts
mv build/bpf.new/merbridge.bpf.o "$object"
rm -rf build/bpf.new
done_with bpf "$key"
