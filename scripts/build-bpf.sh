#!/bin/sh
# bpf/*.bpf.c -> build/bpf/merbridge.bpf.o: each file compiled by clang, stripped of DWARF (BTF stays), linked into one object. The object is the
# same for every little-endian machine and every kernel with BTF. bpf/contract.bpf.c holds no programs; the generator of core/contract.ts reads it.
# bpf/accelerate.bpf.c -> build/bpf/direct.bpf.o once more, with direct reads: an object of its own, because a kernel without its BTF or without the
# function that they need would refuse the whole one.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

object=build/bpf/merbridge.bpf.o
direct=build/bpf/direct.bpf.o
key=$(content_hash bpf scripts/build-bpf.sh)
{ [ ! -e "$direct" ] || ! fresh bpf "$key" "$object"; } || exit 0
say 'compiling the BPF programs'

rm -rf build/bpf.new && mkdir -p build/bpf.new
# linux/types.h includes asm/types.h, which Debian keeps in the directory of the machine's architecture.
machine=/usr/include/$(uname -m)-linux-gnu
compile() { # source, object, flags
	source=$1 to=$2
	shift 2
	clang-19 -target bpf -g -O2 -Wall -Werror -mcpu=v3 -I bpf -idirafter "$machine" "$@" -c "$source" -o "$to"
	llvm-strip-19 -g "$to"
}
parts=
for source in bpf/*.bpf.c; do
	[ -e "$source" ] || die 'no programs: bpf/*.bpf.c'
	name=$(basename "$source" .bpf.c)
	[ "$name" != contract ] || continue
	compile "$source" "build/bpf.new/$name.o"
	parts="$parts build/bpf.new/$name.o"
done
[ -n "$parts" ] || die 'no programs: bpf/*.bpf.c'
mkdir -p build/bpf
# shellcheck disable=SC2086
bpftool gen object build/bpf.new/merbridge.bpf.o $parts
compile bpf/accelerate.bpf.c build/bpf.new/accelerate-direct.o -D DIRECT_READS
bpftool gen object build/bpf.new/direct.bpf.o build/bpf.new/accelerate-direct.o build/bpf.new/abilities.o
mv build/bpf.new/direct.bpf.o "$direct"
mv build/bpf.new/merbridge.bpf.o "$object"
rm -rf build/bpf.new
done_with bpf "$key"
