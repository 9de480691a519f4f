/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * When may a socket leave `joined`? What waits in its queue, or is on its way there, would be lost. And what it has redirected must be read before it
 * sends by TCP: a reader that is told of changes only would not be told of that (judge() in accelerate.bpf.c). So both queues must be empty, and
 * nobody on the way to either.
 *
 * LEAVING is a wish. Messages go by TCP from the moment on in which the queue is empty; one that is not still gets what belongs behind. A reader that
 * reads, but has always something left, is hastened: what comes goes by TCP, and it is told again (`behind`). One that does not read at all is not.
 *
 * On the way is what was counted in `redirects` and is not known to be queued (`settled`; note_settled). An end that never redirected anything, or
 * has left, does not count. A thread may begin just after it was looked, though. So the place becomes PARTING, with a full barrier, and it is looked
 * again: who begins later tells so in `redirects`, with a full barrier, then sees the place, and goes by TCP. Who began before is seen, either on the
 * way or, as the queues are read behind a barrier, by what is queued.
 *
 * When the second look succeeds and nobody has begun since before the first one (`redirects` is the same), both queues were empty, and nobody on the
 * way, all the time of PARTING: what went by TCP in it has nothing before it. Else the place is LEAVING again, so order holds as before; of two
 * threads that send at once, one may have gone by TCP beside a message that came into the queue, so both readers are told again.
 *
 * Both ends may part at once: each finds what it looks for, or goes back. Of two iterators at one socket only one gets from LEAVING to PARTING.
 * An end that has left leaves the other one with empty queues, to which nobody can redirect any more.
 */
#ifndef MERBRIDGE_LEAVE_H
#define MERBRIDGE_LEAVE_H

#include "psock.bpf.h"

/* Some message that it has begun to redirect may not be in the other end's queue yet. */
static __always_inline int may_be_sending(struct side *end, struct sk_psock *psock)
{
	note_settled(end, psock, 0);
	return READ_ONCE(end->redirects) != READ_ONCE(end->settled);
}

/* Its socket is closing when it has no psock any more; one that never redirected anything, or has left, does not count. */
static __always_inline int peer_may_be_sending(struct side *peer)
{
	struct sk_psock *psock;

	if (!READ_ONCE(peer->redirects) || !is_joined(peer) || !is_same_socket((const void *)peer->sk, peer->cookie))
		return 0;
	psock = psock_of((const void *)peer->sk);
	return !psock || may_be_sending(peer, psock);
}

/* Nobody is on the way, then: nothing waits. `must`: for what waits at the other end the caller cares. */
static __always_inline int is_quiet(struct side *self, struct sk_psock *psock, struct side *peer, int must)
{
	struct sk_psock *other;
	__u64 begun;

	if (may_be_sending(self, psock) || peer_may_be_sending(peer))
		return 0;
	begun = __sync_fetch_and_add(&self->redirects, 0); /* a full barrier: who is not on the way any more has queued */
	if (!is_drained(psock))
		return 0;
	other = begun && !must ? peer_psock(peer) : 0;
	return !other || is_drained(other);
}

/* Another message is the first than at the last look: it reads, and the queue was not empty at any message since, or nothing would have come any
 * more. */
static __always_inline void hasten(struct side *reader, struct sk_psock *psock)
{
	__u64 front = psock && !is_drained(psock) ? (__u64)READ(psock, ingress_msg.next) : 0;

	if (front && reader->front && reader->front != front)
		note_behind(reader);
	reader->front = front;
}

/*
 * 1: out with it, now. 0: not yet; the next question may succeed. `must`: it has become what a joined socket must not be (and its messages go by TCP
 * already, whatever waits), so it does not wait until the other end has read: that one is told again.
 */
static __always_inline int leave(const void *sk, struct side *self, struct side *peer, int must)
{
	struct sk_psock *psock = psock_of(sk);
	__u64 begun = READ_ONCE(self->redirects) + READ_ONCE(peer->redirects);

	__sync_val_compare_and_swap((__u32 *)&self->place, PLACE_JOINED, PLACE_LEAVING);
	if (!psock)
		return 0;
	if (!is_quiet(self, psock, peer, must)) {
		hasten(self, psock);
		hasten(peer, peer_psock(peer));
		return 0;
	}
	if (__sync_val_compare_and_swap((__u32 *)&self->place, PLACE_LEAVING, PLACE_PARTING) != PLACE_LEAVING)
		return 0; /* somebody else was first */
	if (is_quiet(self, psock, peer, must) && READ_ONCE(self->redirects) + READ_ONCE(peer->redirects) == begun) {
		psock = must ? peer_psock(peer) : 0;
		if (psock && !is_drained(psock))
			note_behind(peer);
		self->front = 0;
		self->place = PLACE_LEFT;
		return 1;
	}
	self->place = PLACE_LEAVING;
	note_behind(self);
	note_behind(peer);
	return 0;
}

#endif
