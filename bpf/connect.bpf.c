// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * cgroup/connect4 and connect6: an app or a proxy of an enrolled pod connects. Its pod's rules decide; a redirected socket remembers where it wanted
 * to go. An IPv4-mapped destination comes to connect6 alone, and is decided as IPv4. Whatever goes wrong in here refuses the connection and is
 * counted; a connection passes only because a rule (or no rule) says so.
 */
#include "attempt.bpf.h"
#include "askers.bpf.h"
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

static __always_inline void rewrite(struct bpf_sock_addr *ctx, int six, enum family family, const __be32 *to)
{
	if (!six)
		ONE_WORD(ctx->user_ip4) = to[0];
	else if (family == FAMILY_IPV6)
		write_words(ctx->user_ip6, to[0], to[1], to[2], to[3]);
	else
		write_words(ctx->user_ip6, 0, 0, MAPPED_WORD, to[0]);
}

/*
 * The peer of a UDP socket. The first server that it asks is the proxy itself; for each other one it is an id, or a late answer of the one before
 * would pass for one of this. 0: there is none, and *reason says why.
 */
static __always_inline int choose_peer(struct bpf_sock_addr *ctx, const struct attempt *attempt, const __be32 *source, __be32 *to, __be16 port,
				       enum reason *reason)
{
	int id;

	*reason = REASON_NO_STORAGE;
	if (!begin_asking(ctx->sk, attempt, ASKER_CONNECTS, is_zero(attempt->source) ? source : attempt->source, to, port))
		return 0;
	*reason = REASON_ASKERS;
	id = ask_as(ctx, 0);
	if (id < 0)
		return 0;
	if (id)
		id_address(attempt->family, id, to);
	return 1;
}

static __always_inline int redirect(struct bpf_sock_addr *ctx, int six, const struct attempt *attempt, const struct target *target)
{
	struct bpf_sock *sk = ctx->sk;
	enum family family = family_of(six, attempt);
	__be32 to[4], source[4] = {}, shown[4] = {}, now[4];
	__be16 port = target->port ? target->port : attempt->port;
	struct origin *origin;
	int error = routing_error(attempt), udp = attempt->protocol == IPPROTO_UDP;
	enum reason reason;

	if (six && family == FAMILY_IPV4 && can(ABILITY_KERNEL_READS) && is_ipv6_only(sk))
		error = ENETUNREACH;
	if (error)
		return refuse(ctx, six, attempt, REASON_NO_ROUTE, error);
	if (!udp && too_many_pending(attempt->netns))
		return refuse(ctx, six, attempt, REASON_PENDING, ECONNREFUSED);
	if (!target_address(target, family, to))
		return refuse(ctx, six, attempt, REASON_NO_FAMILY, ECONNREFUSED);
	if (is_zero(attempt->source) && is_loopback(family, to)) {
		copy_address(source, preferred_source(attempt));
		if (is_zero(source))
			return refuse(ctx, six, attempt, REASON_NO_SOURCE, ECONNREFUSED);
	}
	origin = bpf_sk_storage_get(&origins, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!origin)
		return refuse(ctx, six, attempt, REASON_NO_STORAGE, ECONNREFUSED);
	read_source(sk, family, now);
	if (is_localhost(family, source) || is_link_local(family, source)) {
		/* What an unbound socket gets anyway: leave no binding behind. A link-local address would bind the device as well. */
		copy_address(shown, source);
		set_ipv4(source, 0);
	} else if (!is_zero(source) && sk->src_port) {
		/* Bound to 0.0.0.0:PORT: bind() is refused now. To the pod's own address instead; sk_lookup gives it the proxy's listener. */
		if (!udp)
			copy_address(to, source);
		copy_address(shown, source);
		set_ipv4(source, 0);
	}
	copy_address(attempt->note->target, to);
	if (udp && !choose_peer(ctx, attempt, source, to, port, &reason))
		return refuse(ctx, six, attempt, reason, reason == REASON_ASKERS ? EPERM : ECONNREFUSED);
	origin->role = ROLE_NONE;
	if (is_zero(attempt->source) && !is_same(source, now) && (!is_zero(source) || !is_zero(origin->bound))) {
		if (bind_source(ctx, six, family, source))
			return refuse(ctx, six, attempt, REASON_BIND, ECONNREFUSED);
	}
	if (!is_zero(source))
		copy_address(origin->bound, source);
	remember(origin, attempt, ROLE_CLIENT);
	if (udp)
		show_source(sk, shown);
	rewrite(ctx, six, family, to);
	ctx->user_port = port;
	attempt->note->tport = port;
	return PROCEED;
}

static __always_inline int decide(struct bpf_sock_addr *ctx, int six, const struct attempt *attempt)
{
	const struct target *target = 0;
	enum reason reason;

	switch (ask_rules(ctx->sk, attempt, &reason, &target)) {
	case ANSWER_PASS:
		return pass(ctx, six, attempt);
	case ANSWER_TARGET:
		if (target)
			return redirect(ctx, six, attempt, target);
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
	/* Of a socket that is bound to a mapped address, :: means IPv4's loopback. */
	else if (!is_zero(attempt->dest) || !is_mapped(ctx->sk->src_ip6[0], ctx->sk->src_ip6[1], ctx->sk->src_ip6[2]))
		attempt->family = FAMILY_IPV6;
}

/* A UDP socket that is connected to the proxy with loopback as its source, which is not the app's choice. */
static __always_inline int has_other_source(struct bpf_sock *sk)
{
	struct asked *first = sk->dst_port ? bpf_sk_storage_get(&asked, sk, 0, 0) : 0;

	return first && !is_zero(first->shown);
}

static __always_inline int connects(struct bpf_sock_addr *ctx, int six)
{
	struct note note = {.rule = RULES_NOT_ASKED};
	struct attempt attempt = {.note = &note, .protocol = ctx->protocol};
	struct bpf_sock *sk = ctx->sk;
	enum enrolment enrolment;
	int verdict;

	/* A sockaddr of another family is refused by the kernel after this hook (EAFNOSUPPORT). */
	if (ctx->user_family != (six ? AF_INET6 : AF_INET) || !sk)
		return PROCEED;
	if (!(ctx->type == SOCK_STREAM && ctx->protocol == IPPROTO_TCP) && !(ctx->type == SOCK_DGRAM && ctx->protocol == IPPROTO_UDP))
		return PROCEED;
	attempt.netns = bpf_get_netns_cookie(ctx);
	enrolment = pod_policy(attempt.netns, &attempt.policy_id);
	if (enrolment == NOT_ENROLLED || (can(ABILITY_KERNEL_READS) && ctx->protocol == IPPROTO_TCP && is_under_repair(sk)))
		return PROCEED;
	attempt.previous = bpf_sk_storage_get(&origins, sk, 0, 0);
	if (ctx->protocol == IPPROTO_UDP && !attempt.previous && enrolment == ENROLLED && !asks_for_udp(attempt.policy_id))
		return PROCEED;
	attempt.port = (__be16)ctx->user_port;
	read_destination(ctx, six, &attempt);
	if (!bound_by_us(attempt.previous, sk) && !(ctx->protocol == IPPROTO_UDP && has_other_source(sk)))
		read_source(sk, attempt.family, attempt.source);
	find_route(&attempt, sk);
	if (enrolment == CHANGING)
		verdict = refuse(ctx, six, &attempt, REASON_POD_CHANGED, ECONNREFUSED);
	else if (can(ABILITY_KERNEL_READS) && has_source_route(sk, six && attempt.family == FAMILY_IPV6))
		verdict = refuse(ctx, six, &attempt, REASON_SOURCE_ROUTE, EPERM);
	else
		verdict = decide(ctx, six, &attempt);
	if (note.rule != RULES_NOT_ASKED || note.reason)
		tell(&attempt, sk);
	return verdict;
}

SEC("cgroup/connect4")
int mb_connect4(struct bpf_sock_addr *ctx)
{
	return connects(ctx, 0);
}

SEC("cgroup/connect6")
int mb_connect6(struct bpf_sock_addr *ctx)
{
	return connects(ctx, 1);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
