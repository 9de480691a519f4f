// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * sk_lookup: a connection reaches a pod. Once per connection the pod's inbound rules decide which listener takes it; the packet stays as it
 * is, so the accepted socket's own address *is* the original destination.
 *
 * The program cannot ask which namespace it runs in (no netns cookie here), hence one small copy for each pod, with the pod's key in .rodata.
 */
#include "decide.bpf.h"
#include "events.bpf.h"

const volatile __u64 pod_netns SEC(".rodata.pod") = 0;

/* A connection's 4-tuple without the ports. */
struct ends {
	enum family family;
	__be32 client[4];
	__be32 server[4];
};

static __noinline int refuse(struct note *note, enum reason reason)
{
	note->reason = reason;
	count_reason(pod_netns, reason, WIRE(note->family, IPPROTO_TCP));
	return SK_DROP; /* answered with RST at once, like a port that nobody listens on */
}

/* To whoever listens on the proxy's port; the slots are those of one SO_REUSEPORT group, from which the kernel then chooses. */
static __always_inline int assign(struct bpf_sk_lookup *ctx, __be16 port, struct note *note)
{
	struct listener_key key = {.netns = pod_netns, .port = port};
	enum reason reason = REASON_NO_LISTENER;

#pragma clang loop unroll(disable)
	for (int slot = 0; slot < MAX_SLOTS; slot++) {
		struct bpf_sock *sk;
		long error;

		key.slot = slot;
		sk = bpf_map_lookup_elem(&listeners, &key);
		if (!sk)
			continue;
		/* Before Linux 5.16 the kernel takes one that was shut down, which then swallows the SYN. */
		error = sk->state == BPF_TCP_LISTEN ? bpf_sk_assign(ctx, sk, 0) : -1;
		bpf_sk_release(sk);
		if (!error)
			return SK_PASS;
		reason = REASON_ASSIGN; /* not listening (any more), or of another family: try the next */
	}
	return refuse(note, reason);
}

static __always_inline void read_ends(struct bpf_sk_lookup *ctx, struct ends *ends)
{
	if (ctx->family == AF_INET) {
		ends->family = FAMILY_IPV4;
		set_ipv4(ends->client, ONE_WORD(ctx->remote_ip4));
		set_ipv4(ends->server, ONE_WORD(ctx->local_ip4));
		return;
	}
	ends->family = FAMILY_IPV6;
	read_words(ends->client, ctx->remote_ip6);
	read_words(ends->server, ctx->local_ip6);
}

static __always_inline struct handover *find_handover(struct bpf_sk_lookup *ctx, const struct ends *ends)
{
	struct tuple tuple = {.netns = pod_netns, .sport = ctx->remote_port, .dport = bpf_htons(ctx->local_port), .family = ends->family};

	copy_address(tuple.source, ends->client);
	copy_address(tuple.dest, ends->server);
	return bpf_map_lookup_elem(&handovers, &tuple);
}

/* Of targets at this address: others with the same port have listeners of their own. */
static __always_inline int is_target(const struct policy *policy, const struct ends *ends, __be16 port)
{
	for (int i = 0; i < MAX_TARGETS; i++) {
		const struct target *target = &policy->targets[i];

		if (i >= policy->targets_used)
			break;
		if (target->port != port)
			continue;
		if (ends->family == FAMILY_IPV6 ? is_same(target->addr6, ends->server) : target->addr4 == ends->server[0])
			return 1;
	}
	return 0;
}

/* To a loopback address: only the pod itself can be the client, and the connect hook has decided already. */
static __always_inline int to_loopback(struct bpf_sk_lookup *ctx, const struct ends *ends, __u64 policy_id)
{
	const struct policy *policy;
	__u64 netns = pod_netns;

	if (is_loopback(ends->family, ends->client) || find_handover(ctx, ends))
		return SK_PASS;
	/* The pod's own rules redirected it (OUTPUT): what connected just before the pod was enrolled, or after connect was detached. */
	if (bpf_map_lookup_elem(&nat_pods, &netns))
		return SK_PASS;
	/*
	 * Else only our bind of the source makes a SYN from the pod's address to a proxy on loopback: its hand-over found no room, and was counted
	 * then. Not counted here, because late segments of a closed connection look the same (and get the same reset from the kernel).
	 */
	policy = bpf_map_lookup_elem(&policies, &policy_id);
	return policy && is_target(policy, ends, bpf_htons(ctx->local_port)) ? SK_DROP : SK_PASS;
}

static __always_inline __u64 facts_of(struct bpf_sk_lookup *ctx, const struct ends *ends, const struct policy *policy, __u64 id)
{
	__u64 facts = FACT(FACT_TCP) | FACT(FACT_TO_POD);

	if (ends->family == FAMILY_IPV6)
		facts |= FACT(FACT_IPV6);
	if (policy->lookups & LOOKUP_PORTS)
		facts |= port_members(id, bpf_htons(ctx->local_port));
	if (policy->lookups & LOOKUP_DEST)
		facts |= dest_members(id, ends->family, ends->server);
	if (policy->lookups & LOOKUP_SOURCE)
		facts |= source_members(id, ends->family, ends->client);
	/* The agent gives no policy to a pod that asks for this where the kernel does not tell it. */
	if (can(ABILITY_ARRIVAL) && policy->lookups & LOOKUP_ARRIVES)
		facts |= owner_members(id, OWNER_ARRIVES, ctx->ingress_ifindex);
	return facts;
}

static __always_inline int decide(struct bpf_sk_lookup *ctx, const struct ends *ends, __u64 id, struct note *note)
{
	const struct policy *policy = bpf_map_lookup_elem(&policies, &id);
	__u32 index, row;

	if (!policy)
		return refuse(note, REASON_NO_POLICY);
	note->facts = facts_of(ctx, ends, policy, id);
	index = first_match(policy->inbound, policy->inbound_rules, note->facts);
	note->rule = index;
	count(pod_netns, id, STAGE_INBOUND, index, WIRE(ends->family, IPPROTO_TCP));
	opaque(index);
	if (index >= MAX_RULES)
		return SK_PASS;
	note->verdict = policy->inbound[index].verdict;
	switch (policy->inbound[index].verdict) {
	case VERDICT_PASS:
		return SK_PASS;
	case VERDICT_DROP:
		return refuse(note, REASON_RULE);
	case VERDICT_TARGET:
		row = policy->inbound[index].target;
		opaque(row);
		if (row < MAX_TARGETS) {
			note->tport = policy->targets[row].port;
			return assign(ctx, note->tport, note);
		}
	}
	return refuse(note, REASON_BAD_RULE);
}

static __always_inline void tell(struct bpf_sk_lookup *ctx, const struct ends *ends, __u64 policy, const struct note *note)
{
	struct event *event = begin_event(pod_netns, policy, note);

	if (!event)
		return;
	event->stage = STAGE_INBOUND;
	copy_address(event->source, ends->client);
	event->sport = ctx->remote_port;
	copy_address(event->dest, ends->server);
	event->dport = bpf_htons(ctx->local_port);
	bpf_ringbuf_submit(event, 0);
}

SEC("sk_lookup")
int mb_inbound(struct bpf_sk_lookup *ctx)
{
	struct note note = {.rule = RULES_NOT_ASKED};
	struct handover *handover;
	struct ends ends;
	__u64 policy;
	int verdict;

	if (ctx->protocol != IPPROTO_TCP || (ctx->family != AF_INET && ctx->family != AF_INET6))
		return SK_PASS;
	read_ends(ctx, &ends);
	note.family = ends.family;
	switch (pod_policy(pod_netns, &policy)) {
	case NOT_ENROLLED:
		return SK_PASS;
	case CHANGING:
		verdict = refuse(&note, REASON_POD_CHANGED);
		tell(ctx, &ends, 0, &note);
		return verdict;
	case ENROLLED:
		break;
	}
	/* Routing drops packets from outside with a loopback address at either end (martians), unless somebody sets route_localnet. */
	if (is_loopback(ends.family, ends.server))
		return to_loopback(ctx, &ends, policy);
	if (is_loopback(ends.family, ends.client))
		return SK_PASS;
	handover = find_handover(ctx, &ends);
	if (!handover)
		verdict = decide(ctx, &ends, policy, &note);
	else if (handover->origin.role == ROLE_ACCEPTED && handover->origin.moved) /* the proxy need not listen at the pod's own address */
		verdict = assign(ctx, bpf_htons(ctx->local_port), &note);
	else
		return SK_PASS;
	if (!handover || verdict == SK_DROP) /* what passes from inside was told when it connected */
		tell(ctx, &ends, policy, &note);
	return verdict;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
