/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Errors of connect() on kernels where a program cannot choose them. */
#ifndef MERBRIDGE_NOWHERE_H
#define MERBRIDGE_NOWHERE_H

#include "common.bpf.h"

/*
 * Without bpf_set_retval a program that refuses gives EPERM, whatever the reason. For the two errors that apps tell apart the connection goes on,
 * to where the kernel itself gives that error: TCP to the broadcast address is ENETUNREACH in every namespace, before a packet is made; a SYN to
 * port 0 of loopback, where nobody can listen, gets a reset. Neither can leave the pod: sockets with a source route are refused before. 0: there is
 * no such place.
 */
static __always_inline int send_nowhere(struct bpf_sock_addr *ctx, int error)
{
	opaque(ctx);
	if (error == ENETUNREACH) {
		ctx->user_ip4 = 0xffffffff;
		return 1;
	}
	/* Bound to a device, a socket would take loopback for a neighbour there. */
	if (error == ECONNREFUSED && ctx->sk && ctx->sk->bound_dev_if <= 1) {
		ctx->user_ip4 = bpf_htonl(0x7f000001);
		ctx->user_port = 0;
		return 1;
	}
	return 0;
}

#endif
