// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* cgroup/getpeername4 and 6: a redirected client sees the destination that it asked for, not the proxy, in the form that its socket has. */
#include "common.bpf.h"

static __always_inline struct origin *client_origin(struct bpf_sock *sk)
{
	struct origin *origin = sk ? bpf_sk_storage_get(&origins, sk, 0, 0) : 0;

	return origin && origin->role == ROLE_CLIENT ? origin : 0;
}

SEC("cgroup/getpeername4")
int mb_getpeername4(struct bpf_sock_addr *ctx)
{
	struct origin *origin = client_origin(ctx->sk);

	if (origin && origin->family == FAMILY_IPV4) {
		ctx->user_ip4 = origin->addr[0];
		ctx->user_port = origin->port;
	}
	return PROCEED;
}

SEC("cgroup/getpeername6")
int mb_getpeername6(struct bpf_sock_addr *ctx)
{
	struct origin *origin = client_origin(ctx->sk);

	if (!origin)
		return PROCEED;
	if (origin->family == FAMILY_IPV4)
		write_words(ctx->user_ip6, 0, 0, MAPPED_WORD, origin->addr[0]);
	else
		write_words(ctx->user_ip6, origin->addr[0], origin->addr[1], origin->addr[2], origin->addr[3]);
	ctx->user_port = origin->port;
	return PROCEED;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
