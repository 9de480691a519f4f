// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* cgroup/getpeername4: a redirected client sees the destination that it asked for, not the proxy. */
#include "common.bpf.h"

SEC("cgroup/getpeername4")
int mb_getpeername4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct origin *origin = sk ? bpf_sk_storage_get(&origins, sk, 0, 0) : 0;

	if (origin && origin->role == ROLE_CLIENT && origin->family == FAMILY_IPV4) {
		ctx->user_ip4 = origin->addr[0];
		ctx->user_port = origin->port;
	}
	return PROCEED;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
