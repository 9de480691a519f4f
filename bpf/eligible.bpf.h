/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * May this message be redirected? Each predicate looks at the sockets as they are now: O_NONBLOCK, kTLS, SO_ZEROCOPY and the like are set after
 * connect and accept. docs/acceleration.md has the reason for each rule.
 */
#ifndef MERBRIDGE_ELIGIBLE_H
#define MERBRIDGE_ELIGIBLE_H

#include "psock.bpf.h"

#define LARGE 32768	     /* bytes: from here on a redirect is the faster way for a stream */
#define ONE_WAY 32	     /* messages without an answer: a stream */
#define ONE_WAY_FOR_GOOD 128 /* and this many: the socket leaves */
/* Bytes of kernel memory for each message that waits: its own struct, and a part of a page that it may keep from others. */
#define MESSAGE_COST 8192
#define SOCK_RCVBUF_LOCK 2 /* the kernel's: set by SO_RCVBUF */
#define MEMORY_RESERVE 512 /* pages that must be free in the cgroup of the receiver */

/* What it sends is held back, slowed down, replaced or watched over by something that a redirect would pass by. */
static __always_inline int is_unfit_sender(const void *sk)
{
	const struct inet_connection_sock *connection = sk;
	const struct tcp_sock___accel *tcp = sk;
	const struct sock___accel *sock = sk;

	return has_ulp(sk) || has_zerocopy(sk) || has_timestamps(sk) || READ(connection, icsk_user_timeout) || ~READ(sock, sk_max_pacing_rate) ||
	       READ_BITS(tcp, nonagle) & TCP_NAGLE_CORK || READ_BITS(tcp, repair);
}

/* It wants to know more of what comes than a redirected message has, or not to get all of it, or not at once. */
static __always_inline int is_unfit_receiver(const void *sk)
{
	const struct tcp_sock___accel *tcp = sk;
	const struct sock___accel *sock = sk;

	return has_ulp(sk) || has_zerocopy(sk) || has_timestamps(sk) || has_low_water(sk) || READ(sock, sk_peek_off) >= 0 || READ(sock, sk_filter) ||
	       READ(tcp, urg_data) || READ_BITS(tcp, recvmsg_inq);
}

/* A charge counts for each cgroup above as well: the container's, the pod's, that of all pods. */
static __always_inline int is_cgroup_full(struct mem_cgroup___accel *memcg)
{
	struct page_counter___accel *counter = READ(memcg, memory.parent);

	if ((unsigned long)READ(memcg, memory.usage.counter) + MEMORY_RESERVE > READ(memcg, memory.max))
		return 1;
	for (int level = 0; level < 4 && counter; level++) {
		if ((unsigned long)READ(counter, usage.counter) + MEMORY_RESERVE > READ(counter, max))
			return 1;
		counter = READ(counter, parent);
	}
	return 0;
}

/* An allocation that fails would be the sender's ENOMEM; over TCP it would only wait. What the socket has in reserve needs none. */
static __always_inline int is_memory_short(const void *sk, __u32 size)
{
	const struct sock___accel *sock = sk;
	struct proto *protocol = READ(sock, __sk_common.skc_prot);
	unsigned long *pressure = READ(protocol, memory_pressure), value = 0;
	struct mem_cgroup___accel *memcg;

	if (pressure && (bpf_core_read(&value, sizeof(value), pressure) || value))
		return 1;
	if (!bpf_core_field_exists(sock->sk_memcg) || !bpf_core_field_exists(((struct page_counter___accel *)0)->max))
		return 0;
	memcg = READ(sock, sk_memcg);
	return memcg && READ(sock, sk_forward_alloc) < (int)size && is_cgroup_full(memcg);
}

/* Whatever has come from the other end, by either way, changes this number. */
static __always_inline __u64 heard_from(const void *sk, const struct side *peer)
{
	return READ_ONCE(peer->messages) << 32 | READ((const struct tcp_sock___accel *)sk, rcv_nxt);
}

/* Before anything else, for each message: how many smaller ones went out since something came back. */
static __always_inline void follow_stream(struct side *self, const struct side *peer, __u32 size)
{
	__u64 heard = heard_from((const void *)self->sk, peer);

	if (self->heard != heard || size >= LARGE) {
		self->heard = heard;
		self->streak = 0;
	} else if (self->streak < ONE_WAY_FOR_GOOD) {
		self->streak++;
	}
}

/*
 * Many small messages and no answer: a stream. TCP gathers them, with Nagle's algorithm at once, without it when the reader or the processors are
 * busy. A redirected message stays one, and wakes the reader.
 */
static __always_inline int is_slow_stream(const struct side *self)
{
	return self->streak >= ONE_WAY;
}

/*
 * What waits here is charged to the receive buffer. For what comes by TCP then, for which there is a window, there must be room: or the kernel drops
 * it, and it comes again only when the sender's timer says so. A buffer that the program has set stays as small as it is; others grow to the maximum.
 */
static __always_inline __u64 room_of(const void *receiver, __u64 budget)
{
	const struct sock___accel *sock = receiver;
	struct net___accel *net;
	__u64 room;

	if (READ_BITS(sock, sk_userlocks) & SOCK_RCVBUF_LOCK) {
		room = (__u32)READ(sock, sk_rcvbuf) / 4;
	} else {
		net = READ(sock, __sk_common.skc_net.net);
		room = (__u64)(__u32)READ(net, ipv4.sysctl_tcp_rmem[2]) * 3 / 4;
	}
	return room < budget ? room : budget;
}

/*
 * The receiver is not further behind than the budget. The bytes that wait are known exactly where the kernel counts or charges them; elsewhere they
 * are those that were sent since the queue was last seen empty. Each message costs the kernel some memory besides, so messages are counted as well:
 * when the bytes that were read tell that all up to the mark are gone, those since then are what may wait.
 */
static __always_inline int fits_budget(struct side *self, const void *receiver, struct sk_psock *psock, __u32 size, __u64 budget)
{
	__u64 bytes = self->queued;

	budget = room_of(receiver, budget);
	if (is_drained(psock)) {
		self->queued = size;
		self->notes = self->since = 1;
		self->mark = 0;
		return size <= budget;
	}
	if (bpf_core_field_exists(((struct sk_psock___total *)0)->msg_tot_len))
		bytes = READ((struct sk_psock___total *)psock, msg_tot_len);
	else if (can(ABILITY_CHARGED))
		bytes = (__u32)READ((const struct sock___accel *)receiver, sk_backlog.rmem_alloc.counter);
	if (self->queued > bytes && self->queued - bytes >= self->mark) {
		self->notes = self->since;
		self->since = 0;
		self->mark = self->queued;
	}
	if (bytes + size + (self->notes + 1ULL) * MESSAGE_COST > budget)
		return 0;
	self->queued += size;
	self->notes++;
	self->since++;
	return 1;
}

/*
 * What is redirected is read before what comes by TCP. So nothing may be left on TCP's way: the other end has read up to the last byte that was sent.
 * It need not be acknowledged: an acknowledgement may be put off for 40 ms, and a redirected answer carries none. The sender's lock is held, so
 * nothing is added meanwhile.
 */
static __always_inline int is_path_empty(const void *sender, const void *receiver)
{
	const struct tcp_sock___accel *from = sender, *to = receiver;
	__u32 sent = READ(from, write_seq), received = READ(to, rcv_nxt);

	return sent == received && received == READ(to, copied_seq);
}

#endif
