/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* One connect() of an enrolled pod: what is known of it, its fact word, and what routing would say to it. */
#ifndef MERBRIDGE_ATTEMPT_H
#define MERBRIDGE_ATTEMPT_H

#include "decide.bpf.h"
#include "events.bpf.h"

struct attempt {
	__u64 netns;
	__u64 policy_id;
	__be32 dest; /* what the kernel would connect to: 0.0.0.0 is resolved, see own_address */
	__be16 port;
	__be32 source; /* bound by the app; 0: not bound */
	const struct route *route;
	int local;		 /* the destination is the pod's own, what iptables calls `-o lo` */
	struct origin *previous; /* of an earlier connect of this socket */
	struct note *note;
};

/*
 * Our bind() of an earlier connect sticks to the socket for good (SOCK_BINDADDR_LOCK): even when it was undone, disconnect leaves the source of
 * the last connection behind. An address without a port is therefore not the app's: its bind() would have taken a port too.
 */
static __always_inline int bound_by_us(const struct origin *previous, struct bpf_sock *sk)
{
	return previous && previous->bound[0] && sk->src_port == 0;
}

/*
 * What ip_route_output makes of 0.0.0.0: the bound address, else an address of the device that the socket is bound to, else 127.0.0.1. That of a
 * device is not known here and stays 0: local, not loopback, and refused if it had to be redirected. The loopback device is number 1 everywhere.
 */
static __always_inline __be32 own_address(struct bpf_sock *sk, __be32 source)
{
	if (source)
		return source;
	return sk->bound_dev_if > 1 ? 0 : bpf_htonl(0x7f000001);
}

static __always_inline __u64 facts_of(struct bpf_sock_addr *ctx, const struct attempt *attempt, const struct policy *policy)
{
	__u64 facts = FACT(FACT_TCP);
	struct bpf_sock *sk = ctx->sk;

	if (attempt->local)
		facts |= FACT(FACT_TO_POD);
	if (attempt->dest == bpf_htonl(0x7f000001))
		facts |= FACT(FACT_TO_LOOPBACK);
	if (attempt->source == bpf_htonl(0x7f000006))
		facts |= FACT(FACT_FROM_PASSTHROUGH);
	else if (is_loopback4(attempt->source))
		facts |= FACT(FACT_FROM_LOOPBACK);

	if (policy->lookups & LOOKUP_PORTS)
		facts |= port_members(attempt->policy_id, attempt->port);
	if (policy->lookups & LOOKUP_DEST)
		facts |= cidr4_members(attempt->policy_id, CIDR_DEST4, attempt->dest);
	if (policy->lookups & LOOKUP_SOURCE) {
		__be32 source = attempt->source;

		if (!source && attempt->route)
			source = attempt->route->source[0];
		facts |= cidr4_members(attempt->policy_id, CIDR_SOURCE4, source);
	}
	if (policy->lookups & (LOOKUP_UIDS | LOOKUP_GIDS)) {
		struct owner owner = socket_owner(sk);

		attempt->note->owner = owner;
		if (owner.known) {
			facts |= owner_members(attempt->policy_id, OWNER_UID, owner.uid);
			facts |= owner_members(attempt->policy_id, OWNER_GID, owner.gid);
		}
	}
	if (policy->lookups & LOOKUP_LEAVES)
		facts |= owner_members(attempt->policy_id, OWNER_LEAVES, leaves_by(sk->bound_dev_if, attempt->route, attempt->local));
	if (policy->lookups & LOOKUP_CGROUPS)
		facts |= cgroup_members(attempt->policy_id, bpf_get_current_cgroup_id());
	if (policy->marks_used)
		facts |= mark_members(policy, sk->mark);
	return facts;
}

/* What routing would have said to the destination that was asked for: a rewrite comes before routing and would hide it. 0: fine. */
static __always_inline int routing_error(const struct attempt *attempt)
{
	if (attempt->route && attempt->route->kind == ROUTE_UNREACHABLE)
		return attempt->route->error; /* also 127.255.255.255, a broadcast address */
	if (attempt->local)
		return 0;
	if (!attempt->route)
		return ENETUNREACH;
	if (is_loopback4(attempt->source))
		return EINVAL; /* a loopback source cannot leave the pod */
	return 0;
}

/* The proxy must see the source that routing would have chosen, not 127.0.0.1. */
static __always_inline __be32 preferred_source(const struct attempt *attempt)
{
	if (attempt->route && attempt->route->source[0])
		return attempt->route->source[0];
	return attempt->local ? attempt->dest : 0;
}

#endif
