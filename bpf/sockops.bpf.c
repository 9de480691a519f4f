// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * sock_ops: hands the origin from a redirected client's socket to the accepted one, and registers the proxy's listeners.
 *
 * The hand-over is written when the SYN is about to be sent, not at establish: with TCP Fast Open the server's side is established first.
 * It always returns 1 (0 would discard the replies of other programs) and ORs its callback flag into those that are set already. Another
 * program may clear our flag, so an entry may outlive its client: the agent sweeps.
 */
#include "events.bpf.h"
#include "tuple.bpf.h"

/* 0: not known (before Linux 5.15, where kernel memory may not be read): no pod has that cookie. The agent refuses to start on such a kernel. */
static __always_inline __u64 netns_of(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	if (can(ABILITY_SOCKOPS_COOKIE))
		return bpf_get_netns_cookie(ctx);
	return can(ABILITY_KERNEL_READS) && sk ? read_netns_cookie(sk) : 0;
}

/* Of a socket whose connection is handed over: redirected, or inside the pod. */
static __always_inline struct origin *client_origin(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct origin *origin = sk ? bpf_sk_storage_get(&origins, sk, 0, 0) : 0;

	return origin && (origin->role == ROLE_CLIENT || origin->role == ROLE_INSIDE) ? origin : 0;
}

static __always_inline void count_pending(__u64 netns, __s64 change)
{
	__s64 *count = bpf_map_lookup_elem(&pending, &netns), none = 0;

	if (!count) {
		bpf_map_update_elem(&pending, &netns, &none, BPF_NOEXIST);
		count = bpf_map_lookup_elem(&pending, &netns);
	}
	if (count)
		__sync_fetch_and_add(count, change);
}

static __always_inline void remove_handover(const struct tuple *tuple)
{
	if (!bpf_map_delete_elem(&handovers, tuple))
		count_pending(tuple->netns, -1);
}

/*
 * The program has the MPTCP socket, our hooks have its subflow: the program's questions (getpeername, SO_ORIGINAL_DST) are answered from a copy of
 * the origin. `origin` is 0 for a connection that is not redirected: what an earlier connect of the same socket left behind is no answer any more.
 */
static __always_inline void tell_mptcp(struct bpf_sock_ops *ctx, const struct origin *origin)
{
	struct bpf_sock *sk = ctx->sk;
	struct mptcp_sock *parent = sk ? bpf_skc_to_mptcp_sock(sk) : 0;
	struct origin *copy;

	if (!parent || (parent->first && (void *)parent->first != (void *)sk)) /* further subflows are the kernel's own */
		return;
	copy = bpf_sk_storage_get(&origins, parent, 0, origin ? BPF_SK_STORAGE_GET_F_CREATE : 0);
	if (copy && origin)
		*copy = *origin;
	else if (copy)
		copy->role = ROLE_NONE;
	else if (origin)
		count_reason(netns_of(ctx), REASON_MPTCP_STORAGE, WIRE(origin->family, IPPROTO_TCP));
}

/* The connect was told as redirected: that it will be refused is told here. */
static __always_inline void lose_handover(const struct tuple *tuple, const struct origin *origin)
{
	struct note note = {.rule = RULES_NOT_ASKED, .reason = REASON_HANDOVER_FULL, .error = ECONNREFUSED, .family = origin->family};
	struct event *event;

	count_reason(tuple->netns, REASON_HANDOVER_FULL, WIRE(origin->family, IPPROTO_TCP));
	event = begin_event(tuple->netns, 0, &note);
	if (!event)
		return;
	event->stage = STAGE_OUTBOUND;
	copy_address(event->source, tuple->source);
	event->sport = tuple->sport;
	copy_address(event->dest, origin->addr);
	event->dport = origin->port;
	bpf_ringbuf_submit(event, 0);
}

static __always_inline int had_nat_rules(__u64 netns)
{
	return bpf_map_lookup_elem(&nat_pods, &netns) != 0;
}

static __always_inline void hand_over(struct bpf_sock_ops *ctx)
{
	struct origin *origin = client_origin(ctx);
	struct handover handover = {};
	struct tuple tuple = {};
	__u64 netns;

	if (can(ABILITY_MPTCP))
		tell_mptcp(ctx, origin);
	if (!origin)
		return;
	netns = netns_of(ctx);
	if (!client_tuple(ctx, netns, &tuple))
		return;
	if (origin->role == ROLE_INSIDE)
		copy_address(origin->addr, tuple.dest); /* 0.0.0.0 on a socket bound to a device: routing has found the address now */
	origin->sport = tuple.sport;
	origin->sequence = can(ABILITY_KERNEL_READS) && had_nat_rules(netns) ? read_syn_sequence(ctx->sk) : 0;
	handover.origin = *origin;
	handover.origin.role = origin->role == ROLE_CLIENT ? ROLE_ACCEPTED : ROLE_DIRECT;
	handover.created = bpf_ktime_get_ns();
	/* A connect cannot be refused here: sk_lookup refuses a SYN to a proxy that has no entry, and takes one to the pod for one from outside. */
	remove_handover(&tuple);
	if (bpf_map_update_elem(&handovers, &tuple, &handover, BPF_NOEXIST))
		lose_handover(&tuple, origin);
	else
		count_pending(netns, 1);
	if (origin->sequence) {
		use_second_name(&tuple, origin->sequence);
		if (!bpf_map_update_elem(&handovers, &tuple, &handover, BPF_NOEXIST))
			count_pending(netns, 1);
	}
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

/* Copies what the client left for this accepted socket; *name is then what it was found under. */
static __always_inline int find_handover(struct bpf_sock_ops *ctx, struct tuple *name, struct origin *copy)
{
	struct handover *handover = bpf_map_lookup_elem(&handovers, name);

	if (!handover && had_nat_rules(name->netns)) {
		use_second_name(name, ctx->rcv_nxt - 1);
		handover = bpf_map_lookup_elem(&handovers, name);
	}
	if (!handover)
		return 0;
	*copy = handover->origin;
	compiler_barrier();
	/* The client may have closed meanwhile, and the element been given to another connection while it was copied. */
	return bpf_map_lookup_elem(&handovers, name) == handover;
}

static __always_inline void take_over(struct bpf_sock_ops *ctx)
{
	struct tuple name = {};
	struct origin *origin, copy = {};
	struct bpf_sock *sk = ctx->sk;
	__u64 policy, netns;
	int found;

	if (!sk)
		return;
	netns = netns_of(ctx);
	if (pod_policy(netns, &policy) == NOT_ENROLLED || !server_tuple(ctx, netns, &name))
		return;
	origin = bpf_sk_storage_get(&origins, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (origin) {
		copy_address(origin->addr, name.dest);
		origin->port = name.dport;
		origin->family = name.family;
		origin->role = ROLE_DIRECT;
	} else {
		/* SO_ORIGINAL_DST fails: the proxy has nowhere to send it. */
		count_reason(netns, REASON_ACCEPT_STORAGE, WIRE(name.family, IPPROTO_TCP));
	}
	found = find_handover(ctx, &name, &copy);
	if (origin && found)
		*origin = copy;
	if (can(ABILITY_MPTCP) && origin)
		tell_mptcp(ctx, origin);
	if (!found)
		return;
	remove_handover(&name);
	if (copy.sequence) {
		server_tuple(ctx, netns, &name);
		name.sport = copy.sport;
		remove_handover(&name);
		use_second_name(&name, copy.sequence);
		remove_handover(&name);
	}
}

static __always_inline void forget(struct bpf_sock_ops *ctx)
{
	struct origin *origin = client_origin(ctx);
	struct tuple tuple = {};

	if (ctx->args[1] != BPF_TCP_CLOSE || !origin || !client_tuple(ctx, netns_of(ctx), &tuple))
		return;
	remove_handover(&tuple);
	if (origin->sequence) {
		use_second_name(&tuple, origin->sequence);
		remove_handover(&tuple);
	}
}

/* A proxy starts to listen. Each member of an SO_REUSEPORT group takes a slot, so that any of them may close. */
static __always_inline void register_listener(struct bpf_sock_ops *ctx)
{
	struct proxy_port port = {.netns = netns_of(ctx), .port = local_port(ctx)};
	struct listener_key key = {.netns = port.netns, .port = port.port};

	if (!bpf_map_lookup_elem(&proxy_ports, &port))
		return;
#pragma clang loop unroll(disable)
	for (int slot = 0; slot < MAX_SLOTS; slot++) {
		long error;

		key.slot = slot;
		error = bpf_sock_hash_update(ctx, &listeners, &key, BPF_NOEXIST);
		if (!error)
			return;
		if (error != -17) { /* EEXIST */
			count_reason(port.netns, REASON_LISTENER, 0);
			return;
		}
	}
	count_reason(port.netns, REASON_SLOTS_FULL, 0);
}

SEC("sockops")
int mb_sockops(struct bpf_sock_ops *ctx)
{
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		hand_over(ctx);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		take_over(ctx);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		forget(ctx);
		break;
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		register_listener(ctx);
		break;
	}
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
