/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Counting what went which way (accel_counters). */
#ifndef MERBRIDGE_TALLY_H
#define MERBRIDGE_TALLY_H

#include "sockets.bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct tcp_sock___totals {
	__u64 bytes_acked;
	__u32 data_segs_out;
};
#pragma clang attribute pop

/* The states of a socket that has sent a FIN: FIN_WAIT1, FIN_WAIT2, TIME_WAIT, LAST_ACK, CLOSING. One that is closed with unread bytes sends none. */
#define FIN_SENT (1 << 4 | 1 << 5 | 1 << 6 | 1 << 9 | 1 << 11)

/* A full map loses the count, never a message. */
static __always_inline struct accel_count *tally_of(__u64 netns, enum accel_reason reason)
{
	struct accel_key key = {.netns = netns, .reason = reason};
	struct accel_count *count = bpf_map_lookup_elem(&accel_counters, &key);

	if (!count) {
		struct accel_count none = {};

		bpf_map_update_elem(&accel_counters, &key, &none, BPF_NOEXIST);
		count = bpf_map_lookup_elem(&accel_counters, &key);
	}
	return count;
}

static __always_inline void count_messages(__u64 netns, enum accel_reason reason, __u64 messages, __u64 bytes)
{
	struct accel_count *count = tally_of(netns, reason);

	if (!count)
		return;
	__sync_fetch_and_add(&count->messages, messages);
	__sync_fetch_and_add(&count->bytes, bytes);
}

/* Why an end went by TCP last; it was not looked at yet, or waited for the other end. */
static __always_inline enum accel_reason reason_of(const struct side *side)
{
	return side->reason ? side->reason : ACCEL_WAITING;
}

/* What an end has become, or would be if it ended now. */
static __always_inline enum accel_reason outcome_of(const struct side *side)
{
	return side->redirects ? ACCEL_REDIRECTED : reason_of(side);
}

/* What was redirected is summed up at the end itself first: one more look into a map would be a good part of a message's cost. */
static __always_inline void count_redirected(struct side *side)
{
	__u32 messages = __sync_lock_test_and_set(&side->fresh_messages, 0);
	__u64 bytes = __sync_lock_test_and_set(&side->fresh_bytes, 0);

	if (messages || bytes)
		count_messages(side->netns, ACCEL_REDIRECTED, messages, bytes);
}

/*
 * All that TCP was given, with the FIN, and with a client's SYN. Not only what is acknowledged: a message that is redirected may follow before that.
 * Who reads without the lock may see an acknowledgement half done; what is counted too much then is counted less the next time.
 */
static __always_inline __u64 given_to_tcp(const void *sk)
{
	__u64 acknowledged = BPF_CORE_READ((const struct tcp_sock___totals *)sk, bytes_acked);
	__u32 una = BPF_CORE_READ((const struct tcp_sock___accel *)sk, snd_una);

	return acknowledged + (__u32)(BPF_CORE_READ((const struct tcp_sock___accel *)sk, write_seq) - una);
}

/*
 * Bytes that TCP was given and nobody has counted: all of them before the end joined and after it left. TCP is asked also while it is joined, as of
 * a message it may take a part, and the rest comes as a message again. Whoever gets them here counts them, if two ask at once.
 */
static __always_inline __u64 take_uncounted(const void *sk, struct side *side, enum pair_side own)
{
	__u32 state = BPF_CORE_READ((const struct sock___accel *)sk, __sk_common.skc_state);
	__u64 control = (own == SIDE_CLIENT) + (FIN_SENT >> (state & 31) & 1);
	__u64 counted = READ_ONCE(side->by_tcp), bytes = given_to_tcp(sk);

	if (!is_same_socket(sk, side->cookie) || bytes <= counted + control)
		return 0;
	bytes -= control;
	return __sync_val_compare_and_swap(&side->by_tcp, counted, bytes) == counted ? bytes - counted : 0;
}

/*
 * What the messages of an end do not tell, or not yet. TCP knows bytes and segments, so a segment stands for a message of a socket that is not
 * joined. Called when the connection ends, and at each look of the agent (mb_late), as before it shows figures.
 */
static __always_inline void count_rest(const void *sk, struct side *side, enum pair_side own)
{
	const struct tcp_sock___totals *tcp = sk;
	__u32 segments = BPF_CORE_READ(tcp, data_segs_out), old = side->segments;
	__u64 bytes;

	count_redirected(side);
	bytes = take_uncounted(sk, side, own);
	side->segments = segments;
	if (bytes)
		count_messages(side->netns, reason_of(side), is_joined(side) ? 0 : segments - old, bytes);
}

#endif
