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
	if (is_zero(attempt->source) && is_loopback(family, to)) {
		copy_address(source, preferred_source(attempt));
		if (is_zero(source))
			return refuse(ctx, six, attempt, REASON_NO_SOURCE, ECONNREFUSED);
	}
	origin = bpf_sk_storage_get(&origins, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!origin)
		return refuse(ctx, six, attempt, REASON_NO_STORAGE, ECONNREFUSED);
	origin->role = ROLE_NONE;
	read_source(sk, family, now);
	if (is_localhost(family, source) || is_link_local(family, source)) {
		/* What an unbound socket gets anyway: leave no binding behind. A link-local address would bind the device as well. */
		set_ipv4(source, 0);
	} else if (!is_zero(source) && sk->src_port) {
		/* Bound to 0.0.0.0:PORT: bind() is refused now. To the pod's own address instead; sk_lookup gives it the proxy's listener. */
		copy_address(to, source);
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
	if (is_zero(source))
		return refuse(ctx, six, attempt, REASON_NO_SOURCE, ECONNREFUSED);
	origin = bpf_sk_storage_get(&origins, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!origin || !begin_asking(ctx->sk, attempt, ASKER_CONNECTS, source, to, port))
		return refuse(ctx, six, attempt, REASON_NO_STORAGE, ECONNREFUSED);
	copy_address(attempt->note->target, to);
	attempt->note->tport = port;
	if (!chosen && bind_udp(ctx, six))
		return refuse(ctx, six, attempt, REASON_BIND, ECONNREFUSED);
	id = ask_as(ctx, 0);
	if (id < 0)
		return refuse(ctx, six, attempt, REASON_ASKERS, EPERM);
	if (id)
		id_address(family, id, to);
	remember(origin, attempt, ROLE_CLIENT);
	rewrite(ctx, six, family, to);
	ctx->user_port = port;
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
