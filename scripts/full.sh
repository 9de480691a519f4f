#!/bin/sh
# What does not fit into npm test: every minor version of the kernel and every shape of node; 200 random pods of each mesh beside its iptables rules; the mutants of the
# plugins' rules; large amounts of data through programs of the real world; a soak of 20 minutes; and the rings of this kernel without each feature that has a
# fallback. (One of sockops_netns_cookie and kernel_reads must be there, hence two sets.)
set -eu
MERBRIDGE_PROGRAMS=long node scripts/rings.ts check unit contract mutants kernel mesh parity kernels-all
node test/soak/main.ts --minutes 20
both=socket_netns_cookie,set_retval,getpeername,listener_iterator
node scripts/rings.ts kernel mesh --without "$both,sockops_netns_cookie"
node scripts/rings.ts kernel mesh --without "$both,kernel_reads"
