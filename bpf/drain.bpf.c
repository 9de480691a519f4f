// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Iterators for the agent. `mb_drain`, over `joined`: takes out each socket that can go without a loss, and writes a __u32 for each that stays.
 * `mb_stale`, over `pairs`: writes the keys of connections both of whose sockets are gone; sock_ops removes them, unless another program has switched
 * off its callback.
 */
#include "leave.bpf.h"
#include "iterator.bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct bpf_iter__sockmap {
	struct bpf_iter_meta *meta;
	void *key;
	struct sock *sk;
};

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	void *key;
	void *value;
};
#pragma clang attribute pop

SEC("iter/sockmap")
int mb_drain(struct bpf_iter__sockmap *ctx)
{
	struct joined_key *found = ctx->key, key;
	struct sock *sk = ctx->sk;
	struct side *self, *peer;
	struct pair *pair;

	if (!sk || !found)
		return 0;
	key = *found;
	pair = bpf_map_lookup_elem(&pairs, &key.pair);
	if (pair) {
		self = own_end(pair, key.side);
		peer = other_end(pair, key.side);
		if (leave(sk, self, peer, 0) && !bpf_map_delete_elem(&joined, &key))
			return 0;
	} else {
		struct sk_psock *psock = psock_of(sk);

		/* Closing: what waits must be read first. A peer that still sends has no entry to redirect by, unless it began before. */
		if (psock && is_idle(psock) && !bpf_map_delete_elem(&joined, &key))
			return 0;
	}
	write_mark(ctx->meta);
	return 0;
}

static __always_inline int is_gone(const struct side *side)
{
	return !side->sk || !is_same_socket((const void *)side->sk, side->cookie);
}

SEC("iter/bpf_map_elem")
int mb_stale(struct bpf_iter__bpf_map_elem *ctx)
{
	struct pair *pair = ctx->value;
	struct pair_key *key = ctx->key, copy;

	if (!pair || !key)
		return 0;
	copy = *key;
	if (is_gone(&pair->sides[SIDE_CLIENT]) && is_gone(&pair->sides[SIDE_SERVER]))
		bpf_seq_write(ctx->meta->seq, &copy, sizeof(copy));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
