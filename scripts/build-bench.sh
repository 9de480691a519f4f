#!/bin/sh
# bench/*.bpf.c -> build/bench/*.o: programs that the benchmark compares with, and tests hold against the product's. They are no part of it.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

key=$(content_hash bench/*.bpf.c scripts/build-bench.sh)
! fresh bench "$key" build/bench || exit 0
say 'compiling the BPF programs of the benchmark'

rm -rf build/bench.new && mkdir -p build/bench.new
# linux/types.h includes asm/types.h, which Debian keeps in the directory of the machine's architecture.
machine=/usr/include/$(uname -m)-linux-gnu
for source in bench/*.bpf.c; do
	object=build/bench.new/$(basename "$source" .bpf.c).o
	clang-19 -target bpf -g -O2 -Wall -Werror -mcpu=v3 -idirafter "$machine" -c "$source" -o "$object"
	llvm-strip-19 -g "$object"
done
rm -rf build/bench && mv build/bench.new build/bench
done_with bench "$key"
