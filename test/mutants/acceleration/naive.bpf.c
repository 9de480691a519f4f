// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A redirect as other projects ship it, in place of bpf/accelerate.bpf.c: every message of a joined socket goes to the other end, nothing is asked. */
#include "sockets.bpf.h"

SEC("sk_msg")
int mb_accelerator(struct sk_msg_md *msg)
{
	bpf_tail_call(msg, &accelerators, 0);
	return SK_PASS;
}

SEC("sk_msg")
int mb_accelerate(struct sk_msg_md *msg)
{
	struct bpf_sock *sk = msg->sk;
	struct membership *member = sk ? bpf_sk_storage_get(&sides, sk, 0, 0) : 0;
	struct accel_key counter = {};
	struct accel_count one = {.messages = 1, .bytes = msg->size}, *count;
	struct joined_key key;
	struct pair *pair;
	__u32 zero = 0;
	struct accel_settings *settings = bpf_map_lookup_elem(&accel_settings, &zero);

	if (!member || !settings || settings->stopped)
		return SK_PASS;
	key = member->key;
	pair = bpf_map_lookup_elem(&pairs, &key.pair);
	if (!pair)
		return SK_PASS;
	counter.netns = pair->sides[key.side == SIDE_CLIENT ? 0 : 1].netns;
	key.side = key.side == SIDE_CLIENT ? SIDE_SERVER : SIDE_CLIENT;
	if (bpf_msg_redirect_hash(msg, &joined, &key, BPF_F_INGRESS) != SK_PASS)
		return SK_PASS;
	count = bpf_map_lookup_elem(&accel_counters, &counter);
	if (count) {
		count->messages++;
		count->bytes += msg->size;
	} else {
		bpf_map_update_elem(&accel_counters, &counter, &one, BPF_ANY);
	}
	return SK_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
