// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * cgroup/getsockname4 and 6: a connected UDP socket that cannot be given the pod's address (bound to a port without an address) has loopback as its
 * own; the app sees the address that it would have.
 */
#include "common.bpf.h"

static __always_inline const __be32 *shown_to(struct bpf_sock *sk)
{
	struct asked *first = sk && sk->dst_port ? bpf_sk_storage_get(&asked, sk, 0, 0) : 0;

	return first && !is_zero(first->shown) ? first->shown : 0;
}

SEC("cgroup/getsockname4")
int mb_getsockname4(struct bpf_sock_addr *ctx)
{
	const __be32 *shown = shown_to(ctx->sk);

	if (shown && ctx->user_ip4 == bpf_htonl(0x7f000001))
		ctx->user_ip4 = shown[0];
	return PROCEED;
}

SEC("cgroup/getsockname6")
int mb_getsockname6(struct bpf_sock_addr *ctx)
{
	const __be32 *shown = shown_to(ctx->sk);
	__be32 own[4];

	if (!shown)
		return PROCEED;
	read_words(own, ctx->user_ip6);
	if (is_localhost(FAMILY_IPV6, own))
		write_words(ctx->user_ip6, shown[0], shown[1], shown[2], shown[3]);
	else if (is_mapped(own[0], own[1], own[2]) && is_localhost(FAMILY_IPV4, own + 3))
		write_words(ctx->user_ip6, 0, 0, MAPPED_WORD, shown[0]);
	return PROCEED;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
