/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* One connect() of an enrolled pod, or one datagram to an address: what is known of it, its fact word, and what routing would say to it. */
#ifndef MERBRIDGE_ATTEMPT_H
#define MERBRIDGE_ATTEMPT_H

#include "decide.bpf.h"
#include "events.bpf.h"

struct attempt {
	__u64 netns;
	__u64 policy_id;
	enum family family;
	__u32 protocol;	  /* IPPROTO_TCP or IPPROTO_UDP */
	__be32 dest[4];	  /* what the kernel would connect to: 0.0.0.0 and :: are resolved, see resolve_own_address */
	__be32 source[4]; /* chosen by the app; zero: not chosen */
	__be16 port;
	const struct route *route;
	int local;		 /* the destination is the pod's own, what iptables calls `-o lo` */
	struct origin *previous; /* of an earlier connect of this socket */
	struct note *note;
};

static __always_inline __u32 wire(const struct attempt *attempt)
{
	return WIRE(attempt->family, attempt->protocol);
}

/*
 * Our bind() of an earlier connect sticks to the socket for good (SOCK_BINDADDR_LOCK): even when it was undone, disconnect leaves the source of
 * the last connection behind. An address without a port is therefore not the app's: its bind() would have taken a port too.
 */
static __always_inline int bound_by_us(const struct origin *previous, struct bpf_sock *sk)
{
	return previous && !is_zero(previous->bound) && sk->src_port == 0;
}

/*
 * What routing makes of 0.0.0.0: the bound address, else an address of the device that the socket is bound to, else 127.0.0.1. That of a device is
 * not known here and stays 0: local, not loopback, and refused if it had to be redirected. The loopback device is number 1 everywhere. :: is ::1.
 */
static __always_inline void resolve_own_address(struct attempt *attempt, struct bpf_sock *sk)
{
	if (attempt->family == FAMILY_IPV6)
		set_ipv6_loopback(attempt->dest);
	else if (attempt->source[0])
		attempt->dest[0] = attempt->source[0];
	else if (sk->bound_dev_if <= 1)
		attempt->dest[0] = bpf_htonl(0x7f000001);
	for (int i = 0; i < 4; i++)
		attempt->dest[i] = unknown(attempt->dest[i]);
}

/* Reads the pod's routes: `dest` and `source` are known. */
static __always_inline void find_route(struct attempt *attempt, struct bpf_sock *sk)
{
	int own = is_zero(attempt->dest);

	if (own)
		resolve_own_address(attempt, sk);
	attempt->route = route_to(attempt->netns, attempt->family, attempt->dest);
	attempt->local = unknown(is_zero(attempt->dest) || is_local(attempt->family, attempt->dest, attempt->route));
}

static __always_inline __u64 address_facts(const struct attempt *attempt, const struct policy *policy)
{
	__u64 facts = attempt->protocol == IPPROTO_UDP ? FACT(FACT_UDP) : FACT(FACT_TCP);
	enum family family = attempt->family;

	if (family == FAMILY_IPV6)
		facts |= FACT(FACT_IPV6);
	if (attempt->local)
		facts |= FACT(FACT_TO_POD);
	if (is_localhost(family, attempt->dest))
		facts |= FACT(FACT_TO_LOOPBACK);
	if (is_passthrough(family, attempt->source))
		facts |= FACT(FACT_FROM_PASSTHROUGH);
	else if (is_loopback(family, attempt->source))
		facts |= FACT(FACT_FROM_LOOPBACK);

	if (policy->lookups & LOOKUP_PORTS)
		facts |= port_members(attempt->policy_id, attempt->port);
	if (policy->lookups & LOOKUP_DEST)
		facts |= dest_members(attempt->policy_id, family, attempt->dest);
	if (policy->lookups & LOOKUP_SOURCE) {
		const __be32 *source = attempt->source;

		if (is_zero(source) && attempt->route)
			source = attempt->route->source;
		facts |= source_members(attempt->policy_id, family, source);
	}
	return facts;
}

#define NOBODY (~0ULL) /* no id is that */

/* socket_owner for the verifier of Linux 5.10: the uid, and above it the gid. */
GLOBAL __u64 owner_ids(struct bpf_sock_addr *ctx)
{
	struct owner owner = socket_owner(ctx->sk);

	return owner.known ? (__u64)owner.gid << 32 | owner.uid : NOBODY;
}

GLOBAL int takes_no_ipv4(struct bpf_sock_addr *ctx)
{
	return can(ABILITY_KERNEL_READS) && is_ipv6_only(ctx->sk);
}

GLOBAL int goes_elsewhere(struct bpf_sock_addr *ctx, int six)
{
	return can(ABILITY_KERNEL_READS) && has_source_route(ctx->sk, six);
}

static __always_inline __u64 facts_of(struct bpf_sock_addr *ctx, const struct attempt *attempt, const struct policy *policy)
{
	__u64 facts = address_facts(attempt, policy);

	if (policy->lookups & (LOOKUP_UIDS | LOOKUP_GIDS)) {
		__u64 ids = owner_ids(ctx);

		attempt->note->owner.uid = ids;
		attempt->note->owner.gid = ids >> 32;
		attempt->note->owner.known = ids != NOBODY;
		if (ids != NOBODY) {
			facts |= owner_members(attempt->policy_id, OWNER_UID, (__u32)ids);
			facts |= owner_members(attempt->policy_id, OWNER_GID, ids >> 32);
		}
	}
	if (policy->lookups & LOOKUP_LEAVES)
		facts |= owner_members(attempt->policy_id, OWNER_LEAVES, leaves_by(ctx->sk->bound_dev_if, attempt->route, attempt->local));
	if (policy->lookups & LOOKUP_CGROUPS)
		facts |= cgroup_members(attempt->policy_id, bpf_get_current_cgroup_id());
	if (policy->marks_used)
		facts |= mark_members(attempt->policy_id, ctx->sk->mark);
	return facts;
}

/* What routing would have said to the destination that was asked for: a rewrite comes before routing and would hide it. 0: fine. */
static __always_inline int routing_error(const struct attempt *attempt)
{
	if (attempt->route && attempt->route->kind == ROUTE_UNREACHABLE)
		return attempt->route->error;
	if (attempt->local)
		return 0;
	if (!attempt->route)
		return ENETUNREACH;
	if (attempt->family == FAMILY_IPV4 && is_loopback(FAMILY_IPV4, attempt->source))
		return EINVAL; /* a loopback source cannot leave the pod */
	return 0;
}

/* The proxy must see the source that routing would have chosen, not loopback. Zero: not known. */
static __always_inline const __be32 *preferred_source(const struct attempt *attempt)
{
	if (attempt->route && !is_zero(attempt->route->source))
		return attempt->route->source;
	return attempt->local ? attempt->dest : attempt->source;
}

/* -1: no policy. */
GLOBAL int outbound_rule(__u64 id, __u64 facts)
{
	const struct policy *policy = bpf_map_lookup_elem(&policies, &id);

	return policy ? (int)first_match(policy->outbound, policy->outbound_rules, facts) : -1;
}

/* Most meshes leave UDP alone, and it should not pay for them: nothing is asked and nothing is counted. */
static __always_inline int asks_for_udp(__u64 id)
{
	const struct policy *policy = bpf_map_lookup_elem(&policies, &id);

	return !policy || policy->lookups & LOOKUP_UDP;
}

enum answer {
	ANSWER_PASS,
	ANSWER_REFUSE, /* *reason says why */
	ANSWER_TARGET, /* *target says where to */
};

/* What the pod's outbound rules say; the rule is counted. */
static __always_inline enum answer ask_rules(struct bpf_sock_addr *ctx, const struct attempt *attempt, enum reason *reason,
					     const struct target **target)
{
	__u64 id = attempt->policy_id;
	const struct policy *policy = bpf_map_lookup_elem(&policies, &id);
	__u32 index, row;

	*reason = REASON_NO_POLICY;
	if (!policy)
		return ANSWER_REFUSE;
	if (attempt->protocol == IPPROTO_UDP && !(policy->lookups & LOOKUP_UDP))
		return ANSWER_PASS;
	attempt->note->facts = facts_of(ctx, attempt, policy);
	index = outbound_rule(id, attempt->note->facts);
	if (index > MAX_RULES)
		return ANSWER_REFUSE;
	attempt->note->rule = index;
	count(attempt->netns, id, STAGE_OUTBOUND, index, wire(attempt));
	opaque(index);
	if (index >= MAX_RULES)
		return ANSWER_PASS;
	attempt->note->verdict = policy->outbound[index].verdict;
	switch (policy->outbound[index].verdict) {
	case VERDICT_PASS:
		return ANSWER_PASS;
	case VERDICT_DROP:
		*reason = REASON_RULE;
		return ANSWER_REFUSE;
	case VERDICT_TARGET:
		row = policy->outbound[index].target;
		opaque(row);
		if (row < MAX_TARGETS) {
			*target = &policy->targets[row];
			return ANSWER_TARGET;
		}
	}
	*reason = REASON_BAD_RULE;
	return ANSWER_REFUSE;
}

static __always_inline int target_address(const struct target *target, enum family family, __be32 *addr)
{
	if (!(target->families & (family == FAMILY_IPV6 ? TARGET_IPV6 : TARGET_IPV4)))
		return 0;
	if (family == FAMILY_IPV6)
		copy_address(addr, target->addr6);
	else
		set_ipv4(addr, target->addr4);
	return 1;
}

/* The source is the bound one, or that of the route; its port is known only if the app has bound it. */
static __always_inline void tell(const struct attempt *attempt, struct bpf_sock *sk)
{
	struct event *event;

	attempt->note->family = attempt->family;
	event = begin_event(attempt->netns, attempt->policy_id, attempt->note);
	if (!event)
		return;
	event->stage = STAGE_OUTBOUND;
	copy_address(event->dest, attempt->dest);
	event->dport = attempt->port;
	copy_address(event->source, is_zero(attempt->source) ? preferred_source(attempt) : attempt->source);
	event->sport = bpf_htons(sk->src_port);
	add_caller(event, attempt->note);
	bpf_ringbuf_submit(event, 0);
}

#endif
