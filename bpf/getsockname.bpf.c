// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * cgroup/getsockname4 and 6: a connected UDP socket that cannot be given the pod's address (bound to a port without an address) has another as its
 * own: loopback, or what the route of ids gives (::6 where lo has it). The app sees the address that it would have.
 */
#include "common.bpf.h"

/* A socket that was connected to both families one after the other may have an own address of the other family. */
static __always_inline const __be32 *shown_to(struct bpf_sock *sk, enum family family)
{
	struct asked *first = sk && sk->dst_port ? bpf_sk_storage_get(&asked, sk, 0, 0) : 0;

	return first && !is_zero(first->shown) && first->shown_family == family ? first->shown : 0;
}

SEC("cgroup/getsockname4")
int mb_getsockname4(struct bpf_sock_addr *ctx)
{
	const __be32 *shown = shown_to(ctx->sk, FAMILY_IPV4);

	if (shown)
		ctx->user_ip4 = shown[0];
	return PROCEED;
}

SEC("cgroup/getsockname6")
int mb_getsockname6(struct bpf_sock_addr *ctx)
{
	enum family family = FAMILY_IPV6;
	const __be32 *shown;
	__be32 own[4];

	read_words(own, ctx->user_ip6);
	if (is_mapped(own[0], own[1], own[2]))
		family = FAMILY_IPV4;
	shown = shown_to(ctx->sk, family);
	if (shown && family == FAMILY_IPV6)
		write_words(ctx->user_ip6, shown[0], shown[1], shown[2], shown[3]);
	else if (shown)
		write_words(ctx->user_ip6, 0, 0, MAPPED_WORD, shown[0]);
	return PROCEED;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
