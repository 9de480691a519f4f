/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The kernel's part of a joined socket: what was redirected waits there, beside TCP's queue. */
#ifndef MERBRIDGE_PSOCK_H
#define MERBRIDGE_PSOCK_H

#include "sockets.bpf.h"

#define PSOCK_MASK (~7ULL) /* sk_user_data has flags in its low bits */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct list_head {
	struct list_head *next;
};

typedef struct {
	atomic_t refs;
} refcount_t;

struct sk_psock {
	struct list_head ingress_msg;
	refcount_t refcnt;
};

/* Since Linux 6.18.14, 6.12.75 and 6.6.128: how many bytes wait in the queue. */
struct sk_psock___total {
	__u32 msg_tot_len;
};
#pragma clang attribute pop

static __always_inline struct sk_psock *psock_of(const void *sk)
{
	return (struct sk_psock *)((__u64)READ((const struct sock___accel *)sk, sk_user_data) & PSOCK_MASK);
}

/* Nothing waits to be read in the queue of redirected messages. */
static __always_inline int is_drained(struct sk_psock *psock)
{
	struct list_head *first = READ(psock, ingress_msg.next);

	return (__u64)first == (__u64)psock + bpf_core_field_offset(struct sk_psock, ingress_msg);
}

/* Threads that are in sendmsg() or recvmsg() of the socket now, and those that redirect to it: the map has one reference, each of them another. */
static __always_inline int users_of(struct sk_psock *psock)
{
	return READ(psock, refcnt.refs.counter) - 1;
}

/* Nothing waits there, and nobody is about to put something there. */
static __always_inline int is_idle(struct sk_psock *psock)
{
	return is_drained(psock) && !users_of(psock);
}

/* A socket that was joined may leave, or has left. */
static __always_inline int is_left(const void *sk)
{
	struct sk_psock *psock = sk ? psock_of(sk) : 0;

	return !psock || is_idle(psock);
}

/* The other end's psock; 0: it is not joined, or it is closing. */
static __always_inline struct sk_psock *peer_psock(const struct side *peer)
{
	const void *sk = (const void *)peer->sk;
	struct sk_psock *psock = psock_of(sk);

	return is_joined(peer) && is_same_socket(sk, peer->cookie) ? psock : 0;
}

/*
 * A message that is being redirected has a thread in sendmsg() from before it is counted in `redirects` until it is in the other end's queue. So when
 * nobody is there but who asks (`self`: 1 in its own sendmsg(), else 0), all that were counted before are. That stays true, and is noted: an end that
 * is always in use is found idle only now and then.
 */
static __always_inline void note_settled(struct side *end, struct sk_psock *psock, int self)
{
	__u64 begun;

	if (READ_ONCE(end->redirects) == READ_ONCE(end->settled))
		return;
	begun = __sync_fetch_and_add(&end->redirects, 0); /* a full barrier: before the users are counted */
	if (users_of(psock) == self)
		end->settled = begun;
}

#endif
