// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * cgroup/sendmsg4 and sendmsg6: an app of an enrolled pod sends a datagram to an address that it names, from a socket that is connected or not. Its
 * pod's rules decide about each. IPv4 of an AF_INET6 socket comes to sendmsg4. The kernel holds the socket's lock meanwhile.
 */
#include "attempt.bpf.h"
#include "askers.bpf.h"

static __always_inline void read_source(struct bpf_sock_addr *ctx, int six, __be32 *source)
{
	if (six)
		read_words(source, ctx->msg_src_ip6);
	else
		set_ipv4(source, ONE_WORD(ctx->msg_src_ip4));
}

static __always_inline void write_source(struct bpf_sock_addr *ctx, int six, const __be32 *source)
{
	if (six)
		write_words(ctx->msg_src_ip6, source[0], source[1], source[2], source[3]);
	else
		ONE_WORD(ctx->msg_src_ip4) = source[0];
}

static __always_inline void write_destination(struct bpf_sock_addr *ctx, int six, const __be32 *to, __be16 port)
{
	if (six)
		write_words(ctx->user_ip6, to[0], to[1], to[2], to[3]);
	else
		ONE_WORD(ctx->user_ip4) = to[0];
	ctx->user_port = port;
}

static __always_inline int refuse(const struct attempt *attempt, enum reason reason, int error)
{
	count_reason(attempt->netns, reason, wire(attempt));
	attempt->note->reason = reason;
	attempt->note->error = error;
	if (can(ABILITY_SET_RETVAL))
		fail_with(error);
	return REFUSE;
}

/* A connected socket whose peer is the proxy: whom it asked to be connected to. */
static __always_inline const struct origin *peer_of(const struct attempt *attempt, struct bpf_sock *sk)
{
	return attempt->previous && attempt->previous->role == ROLE_CLIENT && sk->dst_port ? attempt->previous : 0;
}

static __always_inline int is_peer(const struct origin *peer, const struct attempt *attempt)
{
	return peer->family == attempt->family && peer->port == attempt->port && is_same(peer->addr, attempt->dest);
}

static __always_inline void read_kernel_peer(struct bpf_sock *sk, int six, __be32 *addr)
{
	if (six)
		read_words(addr, sk->dst_ip6);
	else
		set_ipv4(addr, ONE_WORD(sk->dst_ip4));
}

/*
 * To the server that a redirected socket is connected to: as if it had named none. Nobody is asked, as for datagrams without an address. Nor for
 * what goes to the peer that the kernel knows: with that address it sends all datagrams of a connected IPv6 socket to IPv4.
 */
static __always_inline int goes_to_peer(struct bpf_sock_addr *ctx, int six, const struct attempt *attempt)
{
	const struct origin *peer = peer_of(attempt, ctx->sk);
	__be32 to[4];

	if (!ctx->sk->dst_port)
		return 0;
	read_kernel_peer(ctx->sk, six, to);
	/* Port 0: there is no address, but a control message. The kernel refuses addresses with that port. One of AF_UNSPEC means IPv4. */
	if (attempt->port && !(attempt->port == ctx->sk->dst_port && is_same(to, attempt->dest))) {
		if (!peer || !is_peer(peer, attempt))
			return 0;
		write_destination(ctx, six, to, ctx->sk->dst_port);
	}
	if (peer && !six && !ctx->msg_src_ip4) /* IP_PKTINFO without an address */
		ONE_WORD(ctx->msg_src_ip4) = ONE_WORD(ctx->sk->src_ip4);
	return 1;
}

/* The source of a datagram to the target: what the app chose, else what routing would have chosen. 0: not known. */
static __always_inline int choose_source(const struct attempt *attempt, const __be32 *chosen, __be32 *source)
{
	copy_address(source, is_zero(chosen) ? preferred_source(attempt) : chosen);
	/* A link-local address would need its device, where the target is not. */
	if (is_zero(chosen) && is_link_local(attempt->family, source))
		set_ipv6_loopback(source);
	return !is_zero(source);
}

static __always_inline int redirect(struct bpf_sock_addr *ctx, int six, const struct attempt *attempt, const __be32 *chosen,
				    const struct target *target)
{
	__be16 port = target->port ? target->port : attempt->port;
	int error = unknown(routing_error(attempt)), id;
	__be32 to[4], source[4];

	if (error)
		return refuse(attempt, REASON_NO_ROUTE, error);
	if (!target_address(target, attempt->family, to))
		return refuse(attempt, REASON_NO_FAMILY, ECONNREFUSED);
	if (!choose_source(attempt, chosen, source) || (is_link_local(attempt->family, attempt->dest) && !attempt->local))
		return refuse(attempt, REASON_NO_SOURCE, ECONNREFUSED);
	if (!begin_asking(ctx->sk, attempt, ASKER_SENDS, source, to, port))
		return refuse(attempt, REASON_NO_STORAGE, ECONNREFUSED);
	id = ask_as(ctx, needs_id(ctx) || peer_of(attempt, ctx->sk));
	if (id < 0)
		return refuse(attempt, REASON_ASKERS, EPERM);
	if (id)
		id_address(attempt->family, id, source);
	write_source(ctx, six, source);
	write_destination(ctx, six, to, port);
	copy_address(attempt->note->target, to);
	attempt->note->tport = port;
	return PROCEED;
}

static __always_inline int decide(struct bpf_sock_addr *ctx, int six, const struct attempt *attempt, const __be32 *chosen)
{
	const struct target *target = 0;
	enum reason reason;

	switch (ask_rules(ctx, attempt, &reason, &target)) {
	case ANSWER_PASS:
		write_source(ctx, six, chosen);
		return PROCEED;
	case ANSWER_TARGET:
		if (target)
			return redirect(ctx, six, attempt, chosen, target);
	case ANSWER_REFUSE:
		break;
	}
	return refuse(attempt, reason, ECONNREFUSED);
}

/*
 * The source that the datagram would have without redirection: `chosen` as it goes on the wire, attempt->source as the app chose it. They differ
 * where an earlier connect() of this socket bound it: it receives nothing at another address.
 */
static __always_inline void find_source(struct bpf_sock_addr *ctx, int six, struct attempt *attempt, __be32 *chosen)
{
	struct asked *first = bpf_sk_storage_get(&asked, ctx->sk, 0, 0);
	const struct origin *previous = attempt->previous;

	read_source(ctx, six, chosen);
	if (first && ctx->sk->dst_port && !is_zero(first->shown) && first->shown_family == attempt->family &&
	    (is_localhost(attempt->family, chosen) || is_passthrough(attempt->family, chosen)))
		copy_address(chosen, first->shown);
	if (!previous || is_zero(previous->bound) || ctx->sk->dst_port || !is_same(previous->bound, chosen))
		copy_address(attempt->source, chosen);
}

static __always_inline int sends(struct bpf_sock_addr *ctx, int six)
{
	struct note note = {.rule = RULES_NOT_ASKED};
	struct attempt attempt = {.note = &note, .protocol = IPPROTO_UDP, .family = six ? FAMILY_IPV6 : FAMILY_IPV4};
	struct bpf_sock *sk = ctx->sk;
	enum enrolment enrolment;
	__be32 chosen[4];
	int verdict;

	if (!sk || ctx->protocol != IPPROTO_UDP)
		return PROCEED;
	attempt.netns = bpf_get_netns_cookie(ctx);
	enrolment = pod_policy(attempt.netns, &attempt.policy_id);
	if (enrolment == NOT_ENROLLED || (enrolment == ENROLLED && !asks_for_udp(attempt.policy_id)))
		return PROCEED;
	attempt.previous = bpf_sk_storage_get(&origins, sk, 0, 0);
	attempt.port = (__be16)ctx->user_port;
	if (six)
		read_words(attempt.dest, ctx->user_ip6);
	else
		set_ipv4(attempt.dest, ONE_WORD(ctx->user_ip4));
	if (goes_to_peer(ctx, six, &attempt))
		return PROCEED;
	find_source(ctx, six, &attempt, chosen);
	find_route(&attempt, sk);
	if (enrolment == CHANGING)
		verdict = refuse(&attempt, REASON_POD_CHANGED, ECONNREFUSED);
	else if (goes_elsewhere(ctx, six))
		verdict = refuse(&attempt, REASON_SOURCE_ROUTE, EPERM);
	else
		verdict = decide(ctx, six, &attempt, chosen);
	tell(&attempt, sk);
	return verdict;
}

SEC("cgroup/sendmsg4")
int mb_sendmsg4(struct bpf_sock_addr *ctx)
{
	return sends(ctx, 0);
}

SEC("cgroup/sendmsg6")
int mb_sendmsg6(struct bpf_sock_addr *ctx)
{
	return sends(ctx, 1);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
