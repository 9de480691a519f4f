/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The name of a connection that is being made, as sock_ops sees it from either end: how a hand-over is found again. */
#ifndef MERBRIDGE_TUPLE_H
#define MERBRIDGE_TUPLE_H

#include "common.bpf.h"

static __always_inline __be16 remote_port(struct bpf_sock_ops *ctx)
{
	return bpf_htons(bpf_ntohl(ctx->remote_port));
}

static __always_inline __be16 local_port(struct bpf_sock_ops *ctx)
{
	return bpf_htons(ctx->local_port);
}

/* 0: neither IPv4 nor IPv6. A socket of IPv6 may have a connection of IPv4. */
static __always_inline enum family read_ends(struct bpf_sock_ops *ctx, __be32 *local, __be32 *remote)
{
	if (ctx->family != AF_INET && ctx->family != AF_INET6)
		return 0;
	if (ctx->family == AF_INET || is_mapped(ctx->remote_ip6[0], ctx->remote_ip6[1], ctx->remote_ip6[2])) {
		set_ipv4(local, ONE_WORD(ctx->local_ip4));
		set_ipv4(remote, ONE_WORD(ctx->remote_ip4));
		return FAMILY_IPV4;
	}
	read_words(local, ctx->local_ip6);
	read_words(remote, ctx->remote_ip6);
	return FAMILY_IPV6;
}

/* As the packets of this side's client have it. */
static __always_inline int client_tuple(struct bpf_sock_ops *ctx, __u64 netns, struct tuple *tuple)
{
	tuple->netns = netns;
	tuple->sport = local_port(ctx);
	tuple->dport = remote_port(ctx);
	tuple->family = read_ends(ctx, tuple->source, tuple->dest);
	return tuple->family != 0;
}

/* As the packets have it that come to the accepted socket. */
static __always_inline int server_tuple(struct bpf_sock_ops *ctx, __u64 netns, struct tuple *tuple)
{
	tuple->netns = netns;
	tuple->sport = remote_port(ctx);
	tuple->dport = local_port(ctx);
	tuple->family = read_ends(ctx, tuple->dest, tuple->source);
	return tuple->family != 0;
}

/*
 * Where the pod has or had NAT rules of its own, conntrack may know connections that these sent to the same proxy, and give a new one another source
 * port on the wire. The sequence number of the SYN stays: the second name of such a hand-over.
 */
static __always_inline void use_second_name(struct tuple *tuple, __u32 sequence)
{
	tuple->source[0] = tuple->source[1] = tuple->source[2] = 0;
	tuple->source[3] = bpf_htonl(sequence);
	tuple->sport = 0;
}

#endif
