#!/bin/sh
# What does not fit into npm test: every minor version of the kernel and every shape of node; 200 random pods of each mesh beside its iptables rules; the mutants of the
# plugins' rules; and the rings of this kernel without each feature that has a fallback. (One of sockops_netns_cookie and kernel_reads must be there, hence two sets.)
set -eu
node scripts/rings.ts check unit contract mutants kernel mesh parity kernels-all
both=socket_netns_cookie,set_retval,getpeername,listener_iterator
node scripts/rings.ts kernel mesh --without "$both,sockops_netns_cookie"
node scripts/rings.ts kernel mesh --without "$both,kernel_reads"
