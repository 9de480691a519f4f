// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * sock_ops, acceleration's part: the two ends of a connection get to know each other when they are established; a connection that ends is forgotten.
 * It comes after mb_sockops, which says whose socket it is, returns 1, and ORs its flags into those of others.
 */
#include "psock.bpf.h"
#include "tally.bpf.h"

#define SHUTDOWN_BOTH 3

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct sock___error {
	int sk_err;
};
#pragma clang attribute pop

static __always_inline void count_connection(__u64 netns, enum accel_reason reason)
{
	struct accel_count *count = tally_of(netns, reason);

	if (count)
		__sync_fetch_and_add(&count->connections, 1);
}

/* The entry of the connection, which the first of its ends makes. */
static __always_inline struct pair *pair_of(const struct pair_key *key)
{
	struct pair *pair = bpf_map_lookup_elem(&pairs, key);

	if (!pair) {
		struct pair new = {.key = *key};

		bpf_map_update_elem(&pairs, key, &new, BPF_NOEXIST);
		pair = bpf_map_lookup_elem(&pairs, key);
	}
	return pair;
}

static __always_inline int enter(struct bpf_sock_ops *ctx, struct side *self, __u64 netns)
{
	struct bpf_sock *sk = ctx->sk;
	struct origin *origin;

	if (!sk || self->cookie)
		return 0;
	origin = bpf_sk_storage_get(&origins, sk, 0, 0);
	self->cookie = bpf_get_socket_cookie(ctx);
	self->netns = netns;
	self->proxy = origin && origin->role == ROLE_ACCEPTED;
	compiler_barrier();
	self->sk = (__u64)sk;
	return 1;
}

/*
 * Nothing but a note: the socket is plain TCP until it has shown that joining is safe and worth it (mb_late). A socket whose SYN carried data has
 * other numbers than its peer expects, and finds nobody.
 */
static __always_inline void introduce(struct bpf_sock_ops *ctx, enum pair_side own)
{
	__u64 netns = bpf_get_netns_cookie(ctx);
	struct joined_key key = {.side = own};
	struct bpf_sock *sk = ctx->sk;
	struct membership *member;
	__u32 sent, received;
	struct pair *pair;

	if (!sk || !bpf_map_lookup_elem(&accelerated, &netns))
		return;
	sent = ctx->snd_nxt;
	opaque(sent); /* or the compiler chooses the offset first, which the verifier refuses */
	received = ctx->rcv_nxt;
	key.pair.client = own == SIDE_CLIENT ? sent : received;
	key.pair.server = own == SIDE_CLIENT ? received : sent;
	pair = pair_of(&key.pair);
	member = bpf_sk_storage_get(&sides, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!pair || !member) {
		count_connection(netns, ACCEL_FULL);
		return;
	}
	*member = (struct membership){.key = key}; /* the socket may have had another connection before */
	if (!enter(ctx, own_end(pair, own), netns))
		pair->broken = 1;
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

/*
 * connect() to AF_UNSPEC ends a connection whose socket lives on. An end that was reset, timed out or has closed in order looks otherwise: its error,
 * or that both directions are shut down, is there before the state.
 */
static __always_inline int is_disconnect(void *sk)
{
	const void *sock = address_of(sk);

	return sock && !BPF_CORE_READ((const struct sock___error *)sock, sk_err) &&
	       BPF_CORE_READ((const struct sock___accel *)sock, sk_shutdown) != SHUTDOWN_BOTH;
}

/*
 * A socket that was disconnected leaves `joined`, but not with bytes in its queue, or on the way there: the kernel would throw them away later,
 * without the lock, and do its accounts wrong while the socket has its next connection. Those bytes can still be read; until then mb_again refuses
 * connect().
 */
static __always_inline void leave_disconnected(void *sk, struct membership *member)
{
	struct joined_key key = member->key;

	if (member->joined && is_left(address_of(sk)))
		bpf_map_delete_elem(&joined, &key);
}

/* An end is closed. From when it, or half of it, begins to close nothing is redirected to it, and what is in the queues is read as always. */
static __always_inline void part(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct membership *member = sk ? bpf_sk_storage_get(&sides, sk, 0, 0) : 0;
	struct pair_key key;
	struct pair *pair;
	__u64 client, server;
	enum accel_reason by_client, by_server;

	if (!member || ctx->args[1] != BPF_TCP_CLOSE)
		return;
	if (is_disconnect(sk))
		leave_disconnected(sk, member);
	key = member->key.pair;
	pair = bpf_map_lookup_elem(&pairs, &key);
	if (!pair)
		return;
	client = pair->sides[SIDE_CLIENT].netns;
	server = pair->sides[SIDE_SERVER].netns;
	by_client = outcome_of(&pair->sides[SIDE_CLIENT]);
	by_server = outcome_of(&pair->sides[SIDE_SERVER]);
	count_rest((const void *)pair->sides[SIDE_CLIENT].sk, &pair->sides[SIDE_CLIENT], SIDE_CLIENT);
	count_rest((const void *)pair->sides[SIDE_SERVER].sk, &pair->sides[SIDE_SERVER], SIDE_SERVER);
	if (bpf_map_delete_elem(&pairs, &key))
		return;
	if (client)
		count_connection(client, client == server && by_client != ACCEL_REDIRECTED ? by_server : by_client);
	if (server && server != client)
		count_connection(server, by_server);
}

SEC("sockops")
int mb_join(struct bpf_sock_ops *ctx)
{
	struct membership *member;

	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		member = ctx->sk ? bpf_sk_storage_get(&sides, ctx->sk, 0, 0) : 0;
		if (member) /* it had a connection before */
			leave_disconnected(ctx->sk, member);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		introduce(ctx, SIDE_CLIENT);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		introduce(ctx, SIDE_SERVER);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		part(ctx);
		break;
	}
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
