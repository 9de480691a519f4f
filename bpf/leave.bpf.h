/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * When may a socket leave `joined`? What waits in its queue, or is on its way there, would be lost. So: the place is set first, with a full barrier;
 * then nobody who begins to redirect gets past it (`redirect` in accelerate.bpf.c tells the intention with a full barrier, then looks at the place).
 * What is left are those who began before. A thread in sendmsg() has a reference to the psock of its socket: when the other end's has but the map's,
 * nobody is on the way. Or the other end never redirected anything, or it has left. For that, an end that has redirected leaves only when none of its
 * own threads may be on the way either: without a psock this could not be seen any more, and the other end could never go.
 */
#ifndef MERBRIDGE_LEAVE_H
#define MERBRIDGE_LEAVE_H

#include "sockets.bpf.h"

static __always_inline int may_be_sending(const struct side *peer)
{
	struct sk_psock *psock;

	if (!READ_ONCE(peer->redirects) || READ_ONCE(peer->place) == PLACE_LEFT || !is_same_socket((const void *)peer->sk, peer->cookie))
		return 0;
	psock = psock_of((const void *)peer->sk);
	return !psock || is_in_use(psock); /* none: it is closing */
}

/* 1: out with it, now. 0: not yet; nothing new is redirected to it or by it, and the next question may succeed. */
static __always_inline int leave(const void *sk, struct side *self, const struct side *peer)
{
	struct sk_psock *psock = psock_of(sk);

	if (__sync_val_compare_and_swap((__u32 *)&self->place, PLACE_JOINED, PLACE_LEAVING) == PLACE_LEFT)
		return 0; /* somebody else was first */
	if (!psock || !is_drained(psock) || (READ_ONCE(self->redirects) && is_in_use(psock)) || may_be_sending(peer))
		return 0;
	self->place = PLACE_LEFT;
	return 1;
}

#endif
