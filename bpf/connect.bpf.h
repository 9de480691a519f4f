/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What connect() does to sockets of TCP and UDP alike: refusing, binding a source, remembering, rewriting. */
#ifndef MERBRIDGE_CONNECT_H
#define MERBRIDGE_CONNECT_H

#include "attempt.bpf.h"
#include "nowhere.bpf.h"

/* In connect4 a constant, which halves what the verifier has to look at. */
static __always_inline enum family family_of(int six, const struct attempt *attempt)
{
	return six ? attempt->family : FAMILY_IPV4;
}

static __always_inline int refuse(struct bpf_sock_addr *ctx, int six, const struct attempt *attempt, enum reason reason, int error)
{
	count_reason(attempt->netns, reason, wire(attempt));
	attempt->note->reason = reason;
	attempt->note->error = error;
	/* Or sock_ops would hand over what is refused here. A UDP socket keeps the peer that it has. */
	if (attempt->previous && attempt->protocol == IPPROTO_TCP)
		attempt->previous->role = ROLE_NONE;
	if (can(ABILITY_SET_RETVAL)) {
		fail_with(error);
		return REFUSE;
	}
	return attempt->protocol == IPPROTO_TCP && send_nowhere(ctx, six, attempt->family, error) ? PROCEED : REFUSE;
}

/* As the family of the socket's hook wants it: zero is "any". */
static __always_inline int bind_source(struct bpf_sock_addr *ctx, int six, enum family family, const __be32 *source)
{
	if (six) {
		struct {
			__u16 family;
			__be16 port;
			__be32 flowinfo;
			__be32 addr[4];
			__u32 scope;
		} address = {};

		address.family = AF_INET6; /* as an initializer it would become a section .rodata, without BTF */
		if (family == FAMILY_IPV6)
			copy_address(address.addr, source);
		else if (source[0]) {
			address.addr[2] = MAPPED_WORD;
			address.addr[3] = source[0];
		}
		return bpf_bind(ctx, (struct sockaddr *)&address, sizeof(address));
	} else {
		struct {
			__u16 family;
			__be16 port;
			__be32 addr;
			__u8 zero[8];
		} address = {.family = AF_INET, .addr = source[0]};

		return bpf_bind(ctx, (struct sockaddr *)&address, sizeof(address));
	}
}

/* The source that the socket has, whoever gave it. */
static __always_inline void read_source(struct bpf_sock *sk, enum family family, __be32 *source)
{
	if (family == FAMILY_IPV6) {
		read_words(source, sk->src_ip6);
	} else {
		set_ipv4(source, ONE_WORD(sk->src_ip4)); /* also of an IPv6 socket: the kernel keeps what it would have as IPv4 beside it */
	}
}

static __always_inline void remember(struct origin *origin, const struct attempt *attempt, enum role role)
{
	copy_address(origin->addr, attempt->dest);
	origin->port = attempt->port;
	origin->family = attempt->family;
	origin->role = role;
}

/* What getsockname says of a UDP socket instead of loopback; zero: nothing. */
static __always_inline void show_source(struct bpf_sock *sk, const __be32 *source)
{
	struct asked *first = bpf_sk_storage_get(&asked, sk, 0, 0);

	if (first)
		copy_address(first->shown, source);
}

static __always_inline void rewrite(struct bpf_sock_addr *ctx, int six, enum family family, const __be32 *to)
{
	if (!six)
		ONE_WORD(ctx->user_ip4) = to[0];
	else if (family == FAMILY_IPV6)
		write_words(ctx->user_ip6, to[0], to[1], to[2], to[3]);
	else
		write_words(ctx->user_ip6, 0, 0, MAPPED_WORD, to[0]);
}

#endif
