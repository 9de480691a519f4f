// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * cgroup/recvmsg4 and recvmsg6: an app asks who sent the datagram that it reads. The proxy's answers come from the server that was asked, in the
 * form that the socket has. Answers to datagrams with an id come here as the server's already. A socket that asked nobody was never redirected.
 */
#include "common.bpf.h"

struct sender {
	__be32 addr[4];
	__be16 port;
	enum family family;
};

static __always_inline void read_sender(struct bpf_sock_addr *ctx, int six, struct sender *sender)
{
	sender->port = (__be16)ctx->user_port;
	sender->family = FAMILY_IPV4;
	if (!six) {
		set_ipv4(sender->addr, ONE_WORD(ctx->user_ip4));
		return;
	}
	read_words(sender->addr, ctx->user_ip6);
	if (is_mapped(sender->addr[0], sender->addr[1], sender->addr[2]))
		set_ipv4(sender->addr, sender->addr[3]);
	else
		sender->family = FAMILY_IPV6;
}

static __always_inline void show(struct bpf_sock_addr *ctx, int six, enum family family, const __be32 *addr, __be16 port)
{
	if (!six)
		ONE_WORD(ctx->user_ip4) = addr[0];
	else if (family == FAMILY_IPV4)
		write_words(ctx->user_ip6, 0, 0, MAPPED_WORD, addr[0]);
	else
		write_words(ctx->user_ip6, addr[0], addr[1], addr[2], addr[3]);
	ctx->user_port = port;
}

/* Is it what the kernel is connected to? For an IPv4 peer it keeps its address as IPv4 also in an AF_INET6 socket. */
static __always_inline int is_from_peer(struct bpf_sock *sk, const struct sender *sender)
{
	__be32 peer[4];

	if (sk->dst_port != sender->port)
		return 0;
	if (sender->family == FAMILY_IPV6)
		read_words(peer, sk->dst_ip6);
	else
		set_ipv4(peer, ONE_WORD(sk->dst_ip4));
	return is_same(peer, sender->addr);
}

static __always_inline int receives(struct bpf_sock_addr *ctx, int six)
{
	struct bpf_sock *sk = ctx->sk;
	struct sender sender;
	struct origin *origin;
	struct asked *first;

	if (!sk || ctx->protocol != IPPROTO_UDP)
		return PROCEED;
	first = bpf_sk_storage_get(&asked, sk, 0, 0);
	if (!first)
		return PROCEED;
	read_sender(ctx, six, &sender);
	origin = bpf_sk_storage_get(&origins, sk, 0, 0);
	if (origin && origin->role == ROLE_CLIENT && is_from_peer(sk, &sender))
		show(ctx, six, origin->family, origin->addr, origin->port);
	else if (first->family == sender.family && first->tport == sender.port && is_same(first->target, sender.addr))
		show(ctx, six, first->family, first->server, first->port);
	return PROCEED;
}

SEC("cgroup/recvmsg4")
int mb_recvmsg4(struct bpf_sock_addr *ctx)
{
	return receives(ctx, 0);
}

SEC("cgroup/recvmsg6")
int mb_recvmsg6(struct bpf_sock_addr *ctx)
{
	return receives(ctx, 1);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
