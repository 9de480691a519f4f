// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Iterators for the agent, of which one is loaded: bring the counters up to date, join the ends of connections that have shown that it is safe and
 * worth it, let those go that want to leave, and write a __u32 for each end that may yet show it, or cannot go yet. Read twice: of two ends that are
 * ready, the second joins at once, and the first one the next time. `mb_late` walks `sides`, so it finds the sockets of all pods at once. On kernels
 * where that may crash the node (core/features/denied.ts) it is `mb_walk`, which walks all TCP sockets of the namespace that it is read in.
 *
 * Late, because a socket shows only with time how it is used: whether it blocks (its recv() would end with EAGAIN when a signal or a writer wakes
 * it), whether it is read with splice(), whether anything comes back. And because joining costs: short connections are faster without it.
 */
#include "leave.bpf.h"
#include "iterator.bpf.h"
#include "tally.bpf.h"

#define E2BIG 7
#define ENOMEM 12
#define STILL 5	 /* milliseconds: less than the agent waits until it looks again */
#define EBUSY 16 /* somebody else has it in a sockhash; or, when it was joined before, a thread is still in sendmsg() since it left */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct sock *sk;
	void *value;
};

struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
};

struct tcp_sock___segments {
	__u32 data_segs_in;
	__u32 data_segs_out;
};
#pragma clang attribute pop

/* It has sent and received. A connection that only goes one way is a stream, and most streams gain nothing. */
static __always_inline int is_talking(const struct sock *sk)
{
	const struct tcp_sock___segments *tcp = (const void *)sk;

	return BPF_CORE_READ(tcp, data_segs_in) && BPF_CORE_READ(tcp, data_segs_out);
}

/*
 * Where FIONREAD does not count what comes by TCP, only a program that does not ask may have its sockets joined; one that might, if messages to it
 * are redirected at all.
 */
static __always_inline enum accel_reason judge_program(const struct side *side, const struct accelerated *pod)
{
	struct program_key key = side->program;
	struct program *program = bpf_map_lookup_elem(&programs, &key);
	__u32 zero = 0;
	struct accel_settings *settings = bpf_map_lookup_elem(&accel_settings, &zero);

	if (!program || !settings || program->splices == SPLICES_UNKNOWN)
		return ACCEL_PROGRAM;
	if (!(settings->quirks & QUIRK_FIONREAD) || program->asks == ASKS_NEVER)
		return ACCEL_REDIRECTED;
	if (program->asks == ASKS_MAYBE && program->splices != SPLICES_DOES && pod->mode == ACCEL_ALL)
		return ACCEL_REDIRECTED;
	return ACCEL_FIONREAD;
}

/* ACCEL_REDIRECTED: it may join. */
static __always_inline enum accel_reason judge_socket(const struct sock *sk, const struct side *side)
{
	__u64 netns = side->netns;
	struct accelerated *pod = bpf_map_lookup_elem(&accelerated, &netns);
	struct file___accel *file = file_of(sk);

	if (!pod)
		return ACCEL_POD;
	if (!is_established(sk))
		return ACCEL_CLOSING;
	if (has_ulp(sk) || has_zerocopy(sk))
		return ACCEL_SENDER;
	if (!is_non_blocking(file))
		return ACCEL_BLOCKING;
	if (!is_talking(sk))
		return ACCEL_ONE_WAY;
	if (side->reads & READ_SPLICE)
		return ACCEL_SPLICES;
	if (!side->reads)
		return ACCEL_NOT_READ;
	return side->proxy || is_proxy(sk, file, pod) ? ACCEL_REDIRECTED : judge_program(side, pod);
}

/* It has become what a joined socket must not be. When it sends, the sk_msg program sees it and asks for a look; when it only reads, nobody does. */
static __always_inline int must_leave(const struct sock *sk)
{
	struct file___accel *file = file_of(sk);

	return (file && !is_non_blocking(file)) || has_ulp(sk) || has_zerocopy(sk);
}

static __always_inline int wants_to_leave(const struct sock *sk, const struct membership *member, const struct side *self, const struct side *peer)
{
	return member->leave || self->place == PLACE_LEAVING || peer->place == PLACE_LEFT || must_leave(sk);
}

/* Both ends have left because joining did not pay, and the mode is a wider one now: one more chance. */
static __always_inline void pays_again(struct pair *pair, struct side *self, struct side *peer)
{
	if (!pair->spared || peer->place != PLACE_LEFT || modes_of(pair) < pair->spared)
		return;
	pair->spared = 0;
	self->lost = peer->lost = self->won = peer->won = 0;
	self->place = peer->place = PLACE_WAITING;
}

/* 0: there is no room now. What the kernel refuses for another cause (MPTCP, a socket that somebody else has in a sockhash) stays with TCP. */
static __always_inline int join(struct joined_key *key, struct sock *sk, struct side *self)
{
	long error = bpf_map_update_elem(&joined, key, sk, BPF_NOEXIST);

	if (error == -E2BIG || error == -ENOMEM || (error == -EBUSY && self->redirects))
		return 0;
	if (error)
		self->reason = ACCEL_FULL;
	self->place = error ? PLACE_LEFT : PLACE_JOINED;
	return 1;
}

/* What TCP carries from here is counted with it. */
static __always_inline enum accel_reason reason_to_leave(const struct sock *sk, const struct membership *member, const struct side *peer)
{
	if (has_ulp(sk) || has_zerocopy(sk))
		return ACCEL_SENDER;
	if (must_leave(sk))
		return ACCEL_BLOCKING;
	return member->leave ? member->leave : peer->reason ? peer->reason : ACCEL_CLOSING;
}

/*
 * Bytes came by TCP behind what waited in its queue. A reader that has read all of it needs nothing. One that has read the queue and then nothing for
 * STILL may wait to be told: then mb_nudge does it. That one is rarely needed, and walks over all sockets of a namespace. So may one that has left
 * the queue alone since it has set SO_RCVLOWAT: of what makes that mark full TCP counts only its own bytes.
 */
static __always_inline void look_after(const struct sock *sk, struct side *self, struct bpf_iter_meta *meta)
{
	const struct tcp_sock___accel *tcp = (const void *)sk;
	__u32 read = READ(tcp, copied_seq), now = bpf_ktime_get_ns() / 1000000;
	int came = read != READ(tcp, rcv_nxt), drained;
	struct sk_psock *psock = psock_of(sk);

	drained = !psock || is_drained(psock);
	if (drained && (!came || (self->place == PLACE_LEFT && self->since_ms && self->stalled != read))) {
		self->behind = 0; /* all is read, or TCP's are being read: it goes on by itself */
		self->since_ms = 0;
		return;
	}
	if (came && (drained || has_low_water(sk))) {
		if (self->stalled != read || !self->since_ms) {
			self->stalled = read;
			self->since_ms = now;
			ask_for_look(ASK_LATER);
		} else if (now - self->since_ms >= STILL) {
			bpf_ringbuf_output(&readers, &self->netns, sizeof(self->netns), 0);
			self->since_ms = now;
		} else {
			ask_for_look(ASK_LATER);
		}
	}
	write_mark(meta);
}

static __always_inline void look_at(struct sock *sk, struct membership *member, struct bpf_iter_meta *meta)
{
	struct joined_key key = member->key;
	struct pair *pair = bpf_map_lookup_elem(&pairs, &key.pair);
	struct side *self, *peer;

	if (!pair || pair->broken)
		return;
	self = own_end(pair, key.side);
	peer = other_end(pair, key.side);
	if (self->cookie != read_socket_cookie(sk))
		return;
	count_rest(sk, self, key.side);
	if (self->place == PLACE_LEFT)
		pays_again(pair, self, peer);
	if (self->place > PLACE_READY) {
		if (self->place < PLACE_LEFT && wants_to_leave(sk, member, self, peer)) {
			if (!leave(sk, self, peer, must_leave(sk))) {
				write_mark(meta);
				return;
			}
			bpf_map_delete_elem(&joined, &key);
			self->since_ms = 0; /* from here on what is read is TCP's */
			self->reason = reason_to_leave(sk, member, peer);
			member->leave = 0;
			member->joined = 0;
		}
		if (self->behind)
			look_after(sk, self, meta); /* also when it has left: the reader may stand still behind what it was told of before */
		return;
	}
	self->reason = peer->sk ? judge_socket(sk, self) : ACCEL_NO_PARTNER;
	self->place = self->reason == ACCEL_REDIRECTED ? PLACE_READY : PLACE_WAITING;
	if (!peer->sk)
		return;
	member->leave = 0; /* of a message that was on its way when it left */
	if (self->place == PLACE_READY && (peer->place == PLACE_READY || peer->place == PLACE_JOINED) && join(&key, sk, self)) {
		member->joined = self->place == PLACE_JOINED;
		return;
	}
	write_mark(meta);
}

SEC("iter/bpf_sk_storage_map")
int mb_late(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct membership *member = ctx->value;
	struct sock *sk = ctx->sk;

	if (!sk || !member)
		return 0;
	if (!ctx->meta->seq_num)
		forget_verdicts(); /* the agent may have judged programs */
	look_at(sk, member, ctx->meta);
	return 0;
}

/* The kernel holds the lock of the socket. It may show one twice, when its buffer overflows. */
SEC("iter/tcp")
int mb_walk(struct bpf_iter__tcp *ctx)
{
	struct sock_common *common = ctx->sk_common;
	struct tcp_sock *tcp = common ? bpf_skc_to_tcp_sock(common) : 0;
	struct membership *member;

	if (!common)
		forget_verdicts(); /* at the end, which comes also where no socket is */
	if (!tcp)
		return 0;
	member = bpf_sk_storage_get(&sides, tcp, 0, 0);
	if (member)
		look_at((struct sock *)tcp, member, ctx->meta);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
