// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * iter/tcp, for the agent, read inside a pod's namespace: tells readers again whose queue of redirected messages is empty while bytes wait on TCP's
 * way (side.behind; accelerate.bpf.c says why), or that have set SO_RCVLOWAT while something waited in the queue. Setting SO_RCVLOWAT makes the
 * kernel tell the reader what there is.
 */
#include "psock.bpf.h"
#include "iterator.bpf.h"

#define SOL_SOCKET 1
#define SO_RCVLOWAT 18

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
};
#pragma clang attribute pop

/* What makes the mark full may be in two queues, of which TCP knows its own: so the mark is away for the moment in which the kernel tells. */
static __always_inline void tell(struct tcp_sock *tcp)
{
	int mark = BPF_CORE_READ((const struct sock___accel *)tcp, sk_rcvlowat), one = 1;

	bpf_setsockopt(tcp, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof(one));
	if (mark > 1)
		bpf_setsockopt(tcp, SOL_SOCKET, SO_RCVLOWAT, &mark, sizeof(mark));
}

SEC("iter/tcp")
int mb_nudge(struct bpf_iter__tcp *ctx)
{
	struct sock_common *common = ctx->sk_common;
	struct tcp_sock *tcp = common ? bpf_skc_to_tcp_sock(common) : 0;
	const struct tcp_sock___accel *state = (const void *)tcp;
	struct membership *member;
	struct sk_psock *psock;
	struct side *self;
	struct pair *pair;

	if (!tcp)
		return 0;
	member = bpf_sk_storage_get(&sides, tcp, 0, 0);
	if (!member)
		return 0;
	pair = bpf_map_lookup_elem(&pairs, &member->key.pair);
	if (!pair)
		return 0;
	self = own_end(pair, member->key.side);
	if (!self->behind)
		return 0;
	psock = psock_of(tcp);
	if (psock && !is_drained(psock) && !has_low_water(tcp))
		return 0;
	self->behind = 0;
	if (BPF_CORE_READ(state, rcv_nxt) != BPF_CORE_READ(state, copied_seq))
		tell(tcp);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
