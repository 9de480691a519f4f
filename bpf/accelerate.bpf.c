// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * sk_msg: a message of a joined socket goes straight into the queue of the other end, or by TCP. When in doubt, by TCP.
 *
 * A socket keeps the program that it was joined with until it ends. So that one is a stub, and what it calls can be replaced or taken away.
 */
#include "common.bpf.h"

#include "eligible.bpf.h"
#include "tally.bpf.h"
#include "worth.bpf.h"

SEC("sk_msg")
int mb_accelerator(struct sk_msg_md *msg)
{
	bpf_tail_call(msg, &accelerators, 0);
	return SK_PASS;
}

/* What holds in a pod, as a copy: the element may be given to another one meanwhile. 0: nothing does. */
static __always_inline int read_pod(__u64 netns, struct accelerated *copy)
{
	struct accelerated *pod = bpf_map_lookup_elem(&accelerated, &netns);

	if (!pod)
		return 0;
	copy->mode = READ_ONCE(pod->mode);
	copy->uid = READ_ONCE(pod->uid);
	copy->gid = READ_ONCE(pod->gid);
	copy->mark = READ_ONCE(pod->mark);
	compiler_barrier();
	return READ_ONCE(pod->netns) == netns && copy->mode != ACCEL_NONE;
}

/* Can its program splice? Looked up again only when a verdict may have changed: a look into a hash would be a good part of a message's cost. */
static __always_inline enum splices verdict_on(struct side *side)
{
	struct program_key key = side->program;
	__u32 zero = 0, *verdicts_now = bpf_map_lookup_elem(&verdicts, &zero), now;
	struct program *program;

	if (!verdicts_now)
		return SPLICES_UNKNOWN;
	now = READ_ONCE(*verdicts_now) + 1; /* 0: never looked up */
	if (READ_ONCE(side->judged) == now)
		return side->splices;
	program = bpf_map_lookup_elem(&programs, &key);
	side->splices = program ? program->splices : SPLICES_UNKNOWN;
	side->judged = now;
	__sync_fetch_and_add(&side->judged, 0);
	if (READ_ONCE(side->program.inode) != key.inode || READ_ONCE(side->program.device) != key.device)
		side->judged = 0; /* another program has begun to read */
	return side->splices;
}

/* The mode lets messages go to this socket, and it reads in a way that sees them. */
static __always_inline enum accel_reason judge_reader(const void *sk, struct file___accel *file, struct side *side, const struct accelerated *pod)
{
	__u32 reads = READ_ONCE(side->reads);
	enum splices splices;
	int proxy;

	if (reads & READ_SPLICE)
		return ACCEL_SPLICES;
	if (!(reads & READ_RECV))
		return ACCEL_NOT_READ;
	proxy = side->proxy || is_proxy(sk, file, pod);
	if (!proxy && pod->mode < ACCEL_AUTO)
		return ACCEL_MODE;
	/* A proxy may splice, too. */
	splices = verdict_on(side);
	if (splices == SPLICES_UNKNOWN)
		return ACCEL_PROGRAM;
	if (splices == SPLICES_DOES)
		return ACCEL_SPLICES;
	return proxy || splices == SPLICES_NEVER || pod->mode == ACCEL_ALL ? ACCEL_REDIRECTED : ACCEL_PROGRAM;
}

static __always_inline enum accel_reason judge_receiver(const void *sk, struct side *side, const struct accelerated *pod)
{
	struct file___accel *file;

	if (!is_established(sk))
		return ACCEL_CLOSING;
	if (is_unfit_receiver(sk))
		return ACCEL_RECEIVER;
	file = file_of(sk);
	if (!is_non_blocking(file))
		return ACCEL_BLOCKING;
	return judge_reader(sk, file, side, pod);
}

/* What is only a wish can wait until the receiver's queue is empty. */
static __always_inline int is_wish(enum accel_reason reason)
{
	return reason == ACCEL_STOPPED || reason == ACCEL_POD || reason == ACCEL_MODE || reason == ACCEL_PROGRAM || reason == ACCEL_ONE_WAY;
}

static __always_inline enum accel_reason judge_state(struct side *self, struct side *peer, struct sk_psock *psock, __u32 size, __u64 budget)
{
	const void *sender = (const void *)self->sk, *receiver = (const void *)peer->sk;

	if (is_memory_short(receiver, size))
		return ACCEL_MEMORY;
	if (!fits_budget(self, receiver, psock, size, budget))
		return ACCEL_BUDGET;
	if (!is_path_empty(sender, receiver))
		return ACCEL_ORDER;
	/* All of it was read from the socket that we mean. */
	return is_same_socket(receiver, peer->cookie) ? ACCEL_REDIRECTED : ACCEL_CLOSING;
}

static __always_inline int may_redirect(const struct side *end)
{
	enum accel_place place = READ_ONCE(end->place);

	return place == PLACE_JOINED || place == PLACE_LEAVING;
}

/* What forbids to redirect to this socket, whatever waits there; or a wish; else ACCEL_REDIRECTED. */
static __always_inline enum accel_reason judge_ends(struct side *self, struct side *peer, __u32 stopped)
{
	struct accelerated own = {}, pod = {};
	int wanted = read_pod(peer->netns, &pod) && (self->netns == peer->netns || read_pod(self->netns, &own));
	enum accel_reason reason;

	if (READ_ONCE(peer->place) < PLACE_JOINED)
		return ACCEL_WAITING;
	if (!may_redirect(self) || !may_redirect(peer) || !is_same_socket((const void *)peer->sk, peer->cookie))
		return ACCEL_CLOSING;
	if (is_unfit_sender((const void *)self->sk))
		return ACCEL_SENDER;
	if (!is_non_blocking(file_of((const void *)self->sk)))
		return ACCEL_BLOCKING;
	reason = judge_receiver((const void *)peer->sk, peer, &pod);
	if (reason != ACCEL_REDIRECTED && !is_wish(reason))
		return reason;
	if (!wanted)
		return ACCEL_POD;
	return stopped ? ACCEL_STOPPED : reason;
}

static __always_inline int is_leaving(const struct side *self, const struct side *peer)
{
	return READ_ONCE(self->place) == PLACE_LEAVING || READ_ONCE(peer->place) == PLACE_LEAVING;
}

/*
 * A reader that is told of changes only (EPOLLET) may read until it gets less than it has asked for, and then wait to be told again: recv() gives
 * what was redirected alone, while TCP has told of its own bytes already. So the way is changed when the queue is empty; a reader that is not behind
 * is there at the next message. `behind` tells the agent where that could not be waited for; then the way has changed, and a wish has its will.
 */
static __always_inline enum accel_reason judge(struct side *self, struct side *peer, __u32 size)
{
	__u32 zero = 0;
	struct accel_settings *settings = bpf_map_lookup_elem(&accel_settings, &zero);
	enum accel_reason reason;
	struct sk_psock *psock;
	int drained, wish;

	if (!settings)
		return ACCEL_STOPPED;
	reason = judge_ends(self, peer, settings->stopped);
	if (reason == ACCEL_WAITING || reason == ACCEL_CLOSING)
		return reason;
	psock = psock_of((const void *)peer->sk);
	if (!psock)
		return ACCEL_CLOSING;
	drained = is_drained(psock);
	if (reason == ACCEL_REDIRECTED && is_slow_stream(self))
		reason = ACCEL_ONE_WAY;
	wish = is_wish(reason);
	if (reason == ACCEL_REDIRECTED && is_leaving(self, peer)) {
		reason = ACCEL_CLOSING;
		wish = 1;
	}
	if (reason == ACCEL_REDIRECTED || (wish && !drained && !READ_ONCE(peer->behind)))
		reason = judge_state(self, peer, psock, size, settings->budget);
	if (reason != ACCEL_REDIRECTED && !drained)
		note_behind(peer);
	else if (reason == ACCEL_REDIRECTED && drained && READ_ONCE(peer->behind))
		peer->behind = 0; /* all that came by TCP is read */
	return reason;
}

/* In the order that leaving relies on: the intention is told, with a full barrier, before it is looked whether an end is parting. */
static __always_inline enum accel_reason redirect(struct sk_msg_md *msg, const struct joined_key *own, struct side *self, const struct side *peer)
{
	struct joined_key key = *own;

	__u64 before = __sync_fetch_and_add(&self->redirects, 1);

	opaque(before); /* or it becomes an addition without a result, which is no barrier on arm64 */
	if (!may_redirect(self) || !may_redirect(peer))
		return ACCEL_CLOSING;
	key.side = own->side == SIDE_CLIENT ? SIDE_SERVER : SIDE_CLIENT;
	return bpf_msg_redirect_hash(msg, &joined, &key, BPF_F_INGRESS) == SK_PASS ? ACCEL_REDIRECTED : ACCEL_GONE;
}

/*
 * Its own lock is held. What TCP got of the message before is known only now, and counts for its reason (take_uncounted); that is mostly this one's.
 * After a redirect nothing is new.
 */
static __always_inline void count_message(struct side *self, enum pair_side own, enum accel_reason reason, __u32 size)
{
	enum accel_reason before = self->reason;
	__u64 bytes = before == ACCEL_REDIRECTED ? 0 : take_uncounted((const void *)self->sk, self, own);

	self->messages++;
	self->reason = reason;
	if (bytes && before != reason) {
		count_messages(self->netns, before, 0, bytes);
		bytes = 0;
	}
	if (reason == ACCEL_REDIRECTED) {
		__sync_fetch_and_add(&self->fresh_bytes, size);
		__sync_fetch_and_add(&self->fresh_messages, 1);
	} else {
		count_messages(self->netns, reason, 1, bytes);
	}
}

SEC("sk_msg")
int mb_accelerate(struct sk_msg_md *msg)
{
	struct bpf_sock *sk = msg->sk;
	struct membership *member = sk ? bpf_sk_storage_get(&sides, sk, 0, 0) : 0;
	enum accel_reason reason = ACCEL_NO_PARTNER;
	struct side *self, *peer;
	struct pair *pair;
	struct joined_key key;

	if (!member)
		return SK_PASS;
	key = member->key;
	pair = bpf_map_lookup_elem(&pairs, &key.pair);
	if (!pair)
		return SK_PASS; /* one of the ends is closing */
	self = own_end(pair, key.side);
	peer = other_end(pair, key.side);
	follow_stream(self, peer, msg->size);
	if (peer->sk && !pair->broken)
		reason = judge(self, peer, msg->size);
	if (reason == ACCEL_REDIRECTED)
		reason = redirect(msg, &key, self, peer);
	count_message(self, key.side, reason, msg->size);
	weigh(self, peer, reason, msg->size);
	if (reason == ACCEL_REDIRECTED)
		return SK_PASS;
	if (member->leave) {
		note_both_settled(self, peer);
	} else if (wants_to_leave(pair, self, peer, reason)) {
		member->leave = reason;
		ask_for_look(ASK_SOON);
	}
	return SK_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
