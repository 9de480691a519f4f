/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Does a connection gain by being joined? docs/acceleration.md has the reasons and what was measured. */
#ifndef MERBRIDGE_WORTH_H
#define MERBRIDGE_WORTH_H

#include "eligible.bpf.h"

#define MESSAGE_WEIGHT 1024 /* bytes: what a message costs or wins besides its bytes */
#define WORTH 4		    /* what is redirected may win so many times what the same would lose by TCP, */
#define PASSING 16	    /* what goes by TCP because the reader is behind is a loss only when it lasts */
#define LOST 1048576	    /* and this weight more: else the connection leaves */
#define LEAD 8388608	    /* weight: what was won longer ago counts less */

/* By TCP a message costs more in a joined socket than in another one. It counts unless the cause is one of the moment. */
static __always_inline int is_loss(enum accel_reason reason)
{
	return reason != ACCEL_WAITING && reason != ACCEL_CLOSING && reason != ACCEL_STOPPED && reason != ACCEL_POD && reason != ACCEL_MEMORY;
}

/* All that was weighed is halved at once, or what one end wins would grow old and what the other one loses would not. */
static __always_inline void weigh(struct side *self, struct side *peer, enum accel_reason reason, __u32 size)
{
	__u32 weight = size + MESSAGE_WEIGHT;

	if (reason == ACCEL_REDIRECTED)
		self->won += weight;
	else if (is_loss(reason))
		self->lost += reason == ACCEL_ORDER || reason == ACCEL_BUDGET ? weight / PASSING : weight;
	if (self->won > LEAD) {
		self->won /= 2;
		self->lost /= 2;
		peer->won /= 2;
		peer->lost /= 2;
	}
}

/*
 * Sockets that gain nothing pay for each write nevertheless, so they leave (mb_late does it, when it is safe): streams that are not redirected,
 * connections that lose more by TCP than they win by redirects, those whose other end has left, those that got a ULP or SO_ZEROCOPY,
 * and blocking ones, whose recv() might end with EAGAIN when a signal or a writer wakes it.
 */
static __always_inline int wants_to_leave(struct pair *pair, const struct side *self, const struct side *peer, enum accel_reason reason)
{
	const void *sk = (const void *)self->sk;

	if (is_loss(reason) && (__u64)self->lost + peer->lost > ((__u64)self->won + peer->won) * WORTH + LOST) {
		pair->spared = modes_of(pair) + 1;
		return 1;
	}
	if (READ_ONCE(peer->place) == PLACE_LEFT)
		return 1;
	if ((reason == ACCEL_ONE_WAY && self->streak >= ONE_WAY_FOR_GOOD) || (reason == ACCEL_BLOCKING && !is_non_blocking(file_of(sk))) ||
	    (reason == ACCEL_SENDER && (has_ulp(sk) || has_zerocopy(sk)))) {
		pair->spared = 0;
		return 1;
	}
	return 0;
}

/* It has asked to leave, which needs that nobody is on the way to either queue (leave.bpf.h). Who sends all the time sees best when that is so. */
static __always_inline void note_both_settled(struct side *self, struct side *peer)
{
	struct sk_psock *psock = psock_of((const void *)self->sk), *other = peer_psock(peer);

	if (psock)
		note_settled(self, psock, 1);
	if (other)
		note_settled(peer, other, 0);
}

#endif
