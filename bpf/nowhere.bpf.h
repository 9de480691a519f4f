/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Errors of connect() on kernels where a program cannot choose them. */
#ifndef MERBRIDGE_NOWHERE_H
#define MERBRIDGE_NOWHERE_H

#include "common.bpf.h"

/*
 * Without bpf_set_retval a program that refuses gives EPERM, whatever the reason. For the two errors that apps tell apart the connection goes on,
 * to where the kernel itself gives that error: TCP to the broadcast address or to multicast is ENETUNREACH in every namespace, before a packet is
 * made; a SYN to port 0 of loopback, where nobody can listen, gets a reset. Neither can leave the pod: sockets with a source route are refused
 * before. 0: there is no such place.
 */
static __always_inline int send_nowhere(struct bpf_sock_addr *ctx, int six, enum family family, int error)
{
	int mapped = six && family == FAMILY_IPV4;

	/* Bound to a device, a socket would take loopback for a neighbour there. */
	if (error != ENETUNREACH && (error != ECONNREFUSED || !ctx->sk || ctx->sk->bound_dev_if > 1))
		return 0;
	if (!six)
		ONE_WORD(ctx->user_ip4) = error == ENETUNREACH ? 0xffffffff : bpf_htonl(0x7f000001);
	else if (mapped)
		write_words(ctx->user_ip6, 0, 0, MAPPED_WORD, error == ENETUNREACH ? 0xffffffff : bpf_htonl(0x7f000001));
	else
		write_words(ctx->user_ip6, error == ENETUNREACH ? bpf_htonl(0xff020000) : 0, 0, 0, bpf_htonl(1));
	if (error == ECONNREFUSED)
		ctx->user_port = 0;
	return 1;
}

#endif
