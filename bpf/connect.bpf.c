// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * cgroup/connect4 and connect6: an app or a proxy of an enrolled pod connects. Its pod's rules decide; a redirected socket remembers where it wanted
 * to go. An IPv4-mapped destination comes to connect6 alone, and is decided as IPv4. Whatever goes wrong in here refuses the connection and is
 * counted; a connection passes only because a rule (or no rule) says so.
 */
#include "connect-udp.bpf.h"

/*
 * A connection to the pod's own address that is not loopback is marked, so that sk_lookup knows that it comes from inside: by its addresses
 * alone it could be another pod's that got an address which this one had.
 */
static __always_inline int pass(struct bpf_sock_addr *ctx, int six, const struct attempt *attempt)
{
	enum family family = family_of(six, attempt);
	int inside =
	    attempt->protocol == IPPROTO_TCP && attempt->local && !is_loopback(family, attempt->dest) && !is_loopback(family, attempt->source);
	struct origin *origin = attempt->previous;
	__be32 any[4] = {};

	/* As the kernel says it of IPv4; IPv6 would leave the pod with ::1 as its source. */
	if (attempt->protocol == IPPROTO_UDP && !attempt->local && !routing_error(attempt) && is_stuck_to_loopback(ctx))
		return refuse(ctx, six, attempt, REASON_BIND, EINVAL);
	/* A later connect of the same socket must not keep the source that an earlier one was given. */
	if (origin && bound_by_us(origin, ctx->sk)) {
		__be32 now[4];

		read_source(ctx->sk, family, now);
		if (!is_zero(now) && bind_source(ctx, six, family, any))
			return refuse(ctx, six, attempt, REASON_BIND, ECONNREFUSED);
	}
	if (inside) {
		origin = bpf_sk_storage_get(&origins, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		if (!origin)
			return refuse(ctx, six, attempt, REASON_NO_STORAGE, ECONNREFUSED);
		remember(origin, attempt, ROLE_INSIDE);
	} else if (origin && !(attempt->protocol == IPPROTO_UDP && routing_error(attempt))) {
		origin->role = ROLE_NONE; /* a UDP socket keeps its peer when routing fails */
		show_source(ctx->sk, any);
	}
	return PROCEED;
}

/* Only a proxy that does not answer lets these pile up: its pod must not take the room of the others. */
static __always_inline int too_many_pending(__u64 netns)
{
	__s64 *count = bpf_map_lookup_elem(&pending, &netns);

	return count && *count >= MAX_PENDING;
}

static __always_inline int redirect(struct bpf_sock_addr *ctx, int six, const struct attempt *attempt, const struct target *target)
{
	struct bpf_sock *sk = ctx->sk;
	enum family family = family_of(six, attempt);
	__be32 to[4], source[4] = {}, now[4];
	struct origin *origin;
	int error = unknown(routing_error(attempt));

	if (six && family == FAMILY_IPV4 && takes_no_ipv4(ctx))
		error = ENETUNREACH;
	if (error)
		return refuse(ctx, six, attempt, REASON_NO_ROUTE, error);
	if (too_many_pending(attempt->netns))
		return refuse(ctx, six, attempt, REASON_PENDING, ECONNREFUSED);
	if (!target_address(target, family, to))
		return refuse(ctx, six, attempt, REASON_NO_FAMILY, ECONNREFUSED);
	/* Its device, which a hook does not see, says whom it means: the proxy would not know. */
	if (is_link_local(family, attempt->dest) && !attempt->local)
		return refuse(ctx, six, attempt, REASON_NO_SOURCE, ECONNREFUSED);
	/* Also towards a target elsewhere, to which the kernel would go from an address that fits it. */
	if (is_zero(attempt->source) && (is_loopback(family, to) || is_loopback(family, attempt->dest))) {
		copy_address(source, preferred_source(attempt));
		if (is_zero(source))
			return refuse(ctx, six, attempt, REASON_NO_SOURCE, ECONNREFUSED);
	}
	origin = bpf_sk_storage_get(&origins, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!origin)
		return refuse(ctx, six, attempt, REASON_NO_STORAGE, ECONNREFUSED);
	origin->role = ROLE_NONE;
	origin->moved = 0;
	read_source(sk, family, now);
	if ((is_localhost(family, source) && is_loopback(family, to)) || is_link_local(family, source)) {
		/* What an unbound socket gets anyway: leave no binding behind. A link-local address would bind the device as well. */
		set_ipv4(source, 0);
	} else if (!is_zero(source) && sk->src_port) {
		/* Bound to 0.0.0.0:PORT: bind() is refused now. To the pod's own address instead; sk_lookup gives it the proxy's listener. */
		if (is_loopback(family, to)) {
			copy_address(to, source);
			origin->moved = target->port != 0; /* who keeps the port that was asked for is no proxy whose listener is known */
		}
		set_ipv4(source, 0);
	}
	if (is_zero(attempt->source) && !is_same(source, now) && (!is_zero(source) || !is_zero(origin->bound))) {
		if (bind_source(ctx, six, family, source))
			return refuse(ctx, six, attempt, REASON_BIND, ECONNREFUSED);
	}
	if (!is_zero(source))
		copy_address(origin->bound, source);
	remember(origin, attempt, ROLE_CLIENT);
	rewrite(ctx, six, family, to);
	if (target->port)
		ctx->user_port = target->port;
	copy_address(attempt->note->target, to);
	attempt->note->tport = target->port ? target->port : attempt->port;
	return PROCEED;
}

static __always_inline int decide(struct bpf_sock_addr *ctx, int six, const struct attempt *attempt)
{
	const struct target *target = 0;
	enum reason reason;

	switch (ask_rules(ctx, attempt, &reason, &target)) {
	case ANSWER_PASS:
		return pass(ctx, six, attempt);
	case ANSWER_TARGET:
		if (target)
			return attempt->protocol == IPPROTO_TCP ? redirect(ctx, six, attempt, target) : redirect_udp(ctx, six, attempt, target);
	case ANSWER_REFUSE:
		break;
	}
	return refuse(ctx, six, attempt, reason, ECONNREFUSED);
}

/* Into the terms of the contract. */
static __always_inline void read_destination(struct bpf_sock_addr *ctx, int six, struct attempt *attempt)
{
	attempt->family = FAMILY_IPV4;
	if (!six) {
		set_ipv4(attempt->dest, ctx->user_ip4);
		return;
	}
	read_words(attempt->dest, ctx->user_ip6);
	if (is_mapped(attempt->dest[0], attempt->dest[1], attempt->dest[2]))
		set_ipv4(attempt->dest, attempt->dest[3]);
	/* Of a socket that is bound to a mapped address, :: means 127.0.0.1; the kernel does not look at which address it is. */
	else if (is_zero(attempt->dest) && is_mapped(ctx->sk->src_ip6[0], ctx->sk->src_ip6[1], ctx->sk->src_ip6[2]))
		set_ipv4(attempt->dest, bpf_htonl(0x7f000001));
	else
		attempt->family = FAMILY_IPV6;
}

/*
 * 0: the source that the socket has is not the app's: we bound it, or it is a UDP socket that is connected to the proxy and had to take loopback.
 * Else all ones. Global: the verifier sees one way and not several.
 */
GLOBAL __u32 source_mask(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct asked *first = sk && sk->dst_port ? bpf_sk_storage_get(&asked, sk, 0, 0) : 0;

	if (!sk || bound_by_us(bpf_sk_storage_get(&origins, sk, 0, 0), sk))
		return 0;
	return first && !is_zero(first->shown) ? 0 : ~0U;
}

static __always_inline int connects(struct bpf_sock_addr *ctx, int six, __u32 protocol)
{
	struct note note = {.rule = RULES_NOT_ASKED};
	struct attempt attempt = {.note = &note, .protocol = protocol};
	struct bpf_sock *sk = ctx->sk;
	enum enrolment enrolment;
	int verdict;
	__u32 mask;

	/* A sockaddr of another family is refused by the kernel after this hook (EAFNOSUPPORT). */
	if (ctx->user_family != (six ? AF_INET6 : AF_INET) || !sk)
		return PROCEED;
	attempt.netns = bpf_get_netns_cookie(ctx);
	enrolment = pod_policy(attempt.netns, &attempt.policy_id);
	if (enrolment == NOT_ENROLLED || (can(ABILITY_KERNEL_READS) && protocol == IPPROTO_TCP && is_under_repair(sk)))
		return PROCEED;
	attempt.previous = bpf_sk_storage_get(&origins, sk, 0, 0);
	if (protocol == IPPROTO_UDP && !attempt.previous && enrolment == ENROLLED && !asks_for_udp(attempt.policy_id))
		return PROCEED;
	attempt.port = (__be16)ctx->user_port;
	read_destination(ctx, six, &attempt);
	read_source(sk, attempt.family, attempt.source);
	/* A connected UDP socket that is IPv4 now: the kernel says EAFNOSUPPORT, and the socket keeps the peer that it has. */
	if (protocol == IPPROTO_UDP && attempt.family == FAMILY_IPV6 && sk->dst_port &&
	    is_mapped(attempt.source[0], attempt.source[1], attempt.source[2]))
		return PROCEED;
	mask = source_mask(ctx);
	for (int i = 0; i < 4; i++)
		attempt.source[i] &= mask;
	find_route(&attempt, sk);
	if (enrolment == CHANGING)
		verdict = refuse(ctx, six, &attempt, REASON_POD_CHANGED, ECONNREFUSED);
	else if (goes_elsewhere(ctx, six && attempt.family == FAMILY_IPV6))
		verdict = refuse(ctx, six, &attempt, REASON_SOURCE_ROUTE, EPERM);
	else
		verdict = decide(ctx, six, &attempt);
	if (note.rule != RULES_NOT_ASKED || note.reason)
		tell(&attempt, sk);
	return verdict;
}

/* The protocol as a constant: the verifier sees the ways of each alone, not their product. */
static __always_inline int connects_by(struct bpf_sock_addr *ctx, int six)
{
	if (ctx->type == SOCK_STREAM && ctx->protocol == IPPROTO_TCP)
		return connects(ctx, six, IPPROTO_TCP);
	if (ctx->type == SOCK_DGRAM && ctx->protocol == IPPROTO_UDP)
		return connects(ctx, six, IPPROTO_UDP);
	return PROCEED;
}

SEC("cgroup/connect4")
int mb_connect4(struct bpf_sock_addr *ctx)
{
	return connects_by(ctx, 0);
}

SEC("cgroup/connect6")
int mb_connect6(struct bpf_sock_addr *ctx)
{
	return connects_by(ctx, 1);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
