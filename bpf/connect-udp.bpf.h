/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A UDP socket is connected to a server that the rules send elsewhere. */
#ifndef MERBRIDGE_CONNECT_UDP_H
#define MERBRIDGE_CONNECT_UDP_H

#include "askers.bpf.h"
#include "connect.bpf.h"

/*
 * Gives a UDP socket its source, which `asking` names. Global: see decide.bpf.h. Nothing is bound where that is refused (the socket has a port), not
 * needed (localhost is what it gets anyway), or does too much (a link-local address would bind the device as well): the app is shown it all the same.
 */
GLOBAL int bind_udp(struct bpf_sock_addr *ctx, int six)
{
	struct bpf_sock *sk = ctx->sk;
	struct asked *first = sk ? bpf_sk_storage_get(&asked, sk, 0, 0) : 0;
	struct origin *origin = sk ? bpf_sk_storage_get(&origins, sk, 0, 0) : 0;
	enum family family;
	__be32 now[4];

	if (!first || !origin)
		return -1;
	family = first->asking.family;
	set_ipv4(first->shown, 0);
	if (sk->src_port || is_localhost(family, first->asking.source) || is_link_local(family, first->asking.source)) {
		copy_address(first->shown, first->asking.source);
		first->shown_family = family;
		set_ipv4(first->asking.source, 0);
	}
	read_source(sk, family, now);
	if (is_same(first->asking.source, now) || (is_zero(first->asking.source) && is_zero(origin->bound)))
		return 0;
	if (bind_source(ctx, six, family, first->asking.source))
		return -1;
	if (!is_zero(first->asking.source))
		copy_address(origin->bound, first->asking.source);
	return 0;
}

/* Its source is loopback since it is connected to the proxy, and no bind() can change that: it has a port of its own. */
GLOBAL int is_stuck_to_loopback(struct bpf_sock_addr *ctx)
{
	struct asked *first = ctx->sk && ctx->sk->dst_port && ctx->sk->src_port ? bpf_sk_storage_get(&asked, ctx->sk, 0, 0) : 0;

	return first && !is_zero(first->shown);
}

/* The first server that a socket asks is the proxy itself; were others that too, a late answer of the one before would pass for one of the next. */
static __always_inline int redirect_udp(struct bpf_sock_addr *ctx, int six, const struct attempt *attempt, const struct target *target)
{
	enum family family = family_of(six, attempt);
	__be16 port = target->port ? target->port : attempt->port;
	int error = unknown(routing_error(attempt)), chosen = !is_zero(attempt->source), id;
	const __be32 *source = chosen ? attempt->source : preferred_source(attempt);
	struct origin *origin;
	__be32 to[4];

	if (six && family == FAMILY_IPV4 && takes_no_ipv4(ctx))
		error = ENETUNREACH;
	if (error)
		return refuse(ctx, six, attempt, REASON_NO_ROUTE, error);
	if (!target_address(target, family, to))
		return refuse(ctx, six, attempt, REASON_NO_FAMILY, ECONNREFUSED);
	if (is_zero(source) || (is_link_local(family, attempt->dest) && !attempt->local))
		return refuse(ctx, six, attempt, REASON_NO_SOURCE, ECONNREFUSED);
	origin = bpf_sk_storage_get(&origins, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!origin || !begin_asking(ctx->sk, attempt, ASKER_CONNECTS, source, to, port))
		return refuse(ctx, six, attempt, REASON_NO_STORAGE, ECONNREFUSED);
	copy_address(attempt->note->target, to);
	attempt->note->tport = port;
	if (!chosen && bind_udp(ctx, six))
		return refuse(ctx, six, attempt, REASON_BIND, ECONNREFUSED);
	id = ask_as(ctx, needs_id(ctx));
	if (id < 0)
		return refuse(ctx, six, attempt, REASON_ASKERS, EPERM);
	if (id)
		id_address(family, id, to);
	remember(origin, attempt, ROLE_CLIENT);
	rewrite(ctx, six, family, to);
	ctx->user_port = port;
	return PROCEED;
}

#endif
