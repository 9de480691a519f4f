// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * cgroup/connect4: an app or a proxy of an enrolled pod connects. Its pod's rules decide; a redirected socket remembers where it wanted to go.
 * Whatever goes wrong in here refuses the connection and is counted; a connection passes only because a rule (or no rule) says so.
 */
#include "attempt.bpf.h"
#include "nowhere.bpf.h"

static __always_inline int refuse(struct bpf_sock_addr *ctx, const struct attempt *attempt, enum reason reason, int error)
{
	count_reason(attempt->netns, reason);
	attempt->note->reason = reason;
	attempt->note->error = error;
	if (attempt->previous)
		attempt->previous->role = ROLE_NONE; /* or sock_ops would hand over what is refused here */
	if (can(ABILITY_SET_RETVAL)) {
		__u64 number = error;

		opaque(number);
		set_retval(-(__s64)(number <= MAX_ERRNO ? number : EINVAL));
		return REFUSE;
	}
	return send_nowhere(ctx, error) ? PROCEED : REFUSE;
}

static __always_inline int bind_source(struct bpf_sock_addr *ctx, __be32 source)
{
	struct {
		__u16 family;
		__be16 port;
		__be32 addr;
		__u8 zero[8];
	} address = {.family = AF_INET, .addr = source};

	return bpf_bind(ctx, (struct sockaddr *)&address, sizeof(address));
}

static __always_inline void remember(struct origin *origin, const struct attempt *attempt, enum role role)
{
	origin->addr[0] = attempt->dest;
	origin->addr[1] = origin->addr[2] = origin->addr[3] = 0;
	origin->port = attempt->port;
	origin->family = FAMILY_IPV4;
	origin->role = role;
}

/*
 * A connection to the pod's own address that is not loopback is marked, so that sk_lookup knows that it comes from inside: by its addresses
 * alone it could be another pod's that got an address which this one had.
 */
static __always_inline int pass(struct bpf_sock_addr *ctx, const struct attempt *attempt)
{
	int inside = attempt->local && !is_loopback4(attempt->dest) && !is_loopback4(attempt->source);
	struct origin *origin = attempt->previous;

	/* A later connect of the same socket must not keep the source that an earlier one was given. */
	if (origin && bound_by_us(origin, ctx->sk) && ctx->sk->src_ip4 && bind_source(ctx, 0))
		return refuse(ctx, attempt, REASON_BIND, ECONNREFUSED);
	if (inside) {
		origin = bpf_sk_storage_get(&origins, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		if (!origin)
			return refuse(ctx, attempt, REASON_NO_STORAGE, ECONNREFUSED);
		remember(origin, attempt, ROLE_INSIDE);
	} else if (origin) {
		origin->role = ROLE_NONE;
	}
	return PROCEED;
}

/* Only a proxy that does not answer lets these pile up: its pod must not take the room of the others. */
static __always_inline int too_many_pending(__u64 netns)
{
	__s64 *count = bpf_map_lookup_elem(&pending, &netns);

	return count && *count >= MAX_PENDING;
}

static __always_inline int redirect(struct bpf_sock_addr *ctx, const struct attempt *attempt, const struct target *target)
{
	struct bpf_sock *sk = ctx->sk;
	__be32 to = target->addr4, source = 0;
	struct origin *origin;
	int error = routing_error(attempt);

	if (error)
		return refuse(ctx, attempt, REASON_NO_ROUTE, error);
	if (too_many_pending(attempt->netns))
		return refuse(ctx, attempt, REASON_PENDING, ECONNREFUSED);
	if (!(target->families & TARGET_IPV4))
		return refuse(ctx, attempt, REASON_NO_FAMILY, ECONNREFUSED);
	if (!attempt->source && is_loopback4(to)) {
		source = preferred_source(attempt);
		if (!source)
			return refuse(ctx, attempt, REASON_NO_SOURCE, ECONNREFUSED);
	}
	origin = bpf_sk_storage_get(&origins, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!origin)
		return refuse(ctx, attempt, REASON_NO_STORAGE, ECONNREFUSED);
	origin->role = ROLE_NONE;
	if (source && source == bpf_htonl(0x7f000001)) {
		source = 0; /* what an unbound socket gets anyway: leave no binding behind */
	} else if (source && sk->src_port) {
		/* Bound to 0.0.0.0:PORT: bind() is refused now. To the pod's own address instead; sk_lookup gives it the proxy's listener. */
		to = source;
		source = 0;
	}
	if ((source || origin->bound[0]) && source != sk->src_ip4 && !attempt->source) {
		if (bind_source(ctx, source))
			return refuse(ctx, attempt, REASON_BIND, ECONNREFUSED);
	}
	if (source)
		origin->bound[0] = source;
	remember(origin, attempt, ROLE_CLIENT);
	opaque(ctx); /* or the compiler keeps &ctx->user_ip4, and the verifier wants an unmodified context */
	ctx->user_ip4 = to;
	if (target->port)
		ctx->user_port = target->port;
	attempt->note->target = to;
	attempt->note->tport = target->port ? target->port : attempt->port;
	return PROCEED;
}

/*
 * Global, so that the verifier looks at it once and not again for every way that leads here: with all of them Linux 5.10 gives up. -1: no policy.
 */
__noinline int outbound_rule(__u64 id, __u64 facts)
{
	const struct policy *policy = bpf_map_lookup_elem(&policies, &id);

	return policy ? (int)first_match(policy->outbound, policy->outbound_rules, facts) : -1;
}

static __always_inline int decide(struct bpf_sock_addr *ctx, const struct attempt *attempt)
{
	__u64 id = attempt->policy_id;
	const struct policy *policy = bpf_map_lookup_elem(&policies, &id);
	__u32 index, row;

	if (!policy)
		return refuse(ctx, attempt, REASON_NO_POLICY, ECONNREFUSED);
	attempt->note->facts = facts_of(ctx, attempt, policy);
	index = outbound_rule(id, attempt->note->facts);
	if (index > MAX_RULES)
		return refuse(ctx, attempt, REASON_NO_POLICY, ECONNREFUSED);
	attempt->note->rule = index;
	count(attempt->netns, id, STAGE_OUTBOUND, index);
	opaque(index);
	if (index >= MAX_RULES)
		return pass(ctx, attempt);
	attempt->note->verdict = policy->outbound[index].verdict;
	switch (policy->outbound[index].verdict) {
	case VERDICT_PASS:
		return pass(ctx, attempt);
	case VERDICT_DROP:
		return refuse(ctx, attempt, REASON_RULE, ECONNREFUSED);
	case VERDICT_TARGET:
		row = policy->outbound[index].target;
		opaque(row);
		if (row < MAX_TARGETS)
			return redirect(ctx, attempt, &policy->targets[row]);
	}
	return refuse(ctx, attempt, REASON_BAD_RULE, ECONNREFUSED);
}

/* The source is the bound one, or that of the route; its port is known only if the app has bound it. */
static __always_inline void tell(const struct attempt *attempt, struct bpf_sock *sk)
{
	struct event *event = begin_event(attempt->netns, attempt->policy_id, attempt->note);

	if (!event)
		return;
	event->stage = STAGE_OUTBOUND;
	event->dest[0] = attempt->dest;
	event->dport = attempt->port;
	event->source[0] = attempt->source ? attempt->source : preferred_source(attempt);
	event->sport = bpf_htons(sk->src_port);
	add_caller(event, attempt->note);
	bpf_ringbuf_submit(event, 0);
}

SEC("cgroup/connect4")
int mb_connect4(struct bpf_sock_addr *ctx)
{
	struct note note = {.rule = RULES_NOT_ASKED};
	struct attempt attempt = {.note = &note};
	struct bpf_sock *sk = ctx->sk;
	enum enrolment enrolment;
	int verdict;

	/* A sockaddr of another family is refused by the kernel after this hook (EAFNOSUPPORT). */
	if (ctx->type != SOCK_STREAM || ctx->protocol != IPPROTO_TCP || ctx->user_family != AF_INET || !sk)
		return PROCEED;
	attempt.netns = bpf_get_netns_cookie(ctx);
	enrolment = pod_policy(attempt.netns, &attempt.policy_id);
	if (enrolment == NOT_ENROLLED || (can(ABILITY_KERNEL_READS) && is_under_repair(sk)))
		return PROCEED;
	attempt.previous = bpf_sk_storage_get(&origins, sk, 0, 0);
	attempt.source = bound_by_us(attempt.previous, sk) ? 0 : sk->src_ip4;
	attempt.port = (__be16)ctx->user_port;
	attempt.dest = ctx->user_ip4;
	if (!attempt.dest)
		attempt.dest = own_address(sk, attempt.source);
	attempt.route = route4(attempt.netns, attempt.dest);
	attempt.local = !attempt.dest || is_local4(attempt.dest, attempt.route);
	if (enrolment == CHANGING)
		verdict = refuse(ctx, &attempt, REASON_POD_CHANGED, ECONNREFUSED);
	else if (can(ABILITY_KERNEL_READS) && has_source_route(sk))
		verdict = refuse(ctx, &attempt, REASON_SOURCE_ROUTE, EPERM);
	else
		verdict = decide(ctx, &attempt);
	tell(&attempt, sk);
	return verdict;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
