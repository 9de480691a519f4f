/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What acceleration reads of the kernel's sockets. A socket is an address in the map `pairs`; its slab memory stays a socket (SLAB_TYPESAFE_BY_RCU),
 * but may become another one: whoever reads compares the cookie afterwards. The suffix ___accel is not part of the names that CO-RE looks for.
 */
#ifndef MERBRIDGE_SOCKETS_H
#define MERBRIDGE_SOCKETS_H

#include "kernel.bpf.h"

#define TCP_ESTABLISHED 1
#define O_NONBLOCK 04000
#define TCP_NAGLE_CORK 2
#define NO_ID 0xffffffff

typedef struct {
	int counter;
} atomic_t;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
enum sock_flags {
	SOCK_ZEROCOPY = 1, /* the kernel's own numbers are looked up at load */
	SOCK_RCVTSTAMP = 2,
};

struct proto {
	unsigned long *memory_pressure;
};

struct netns_ipv4___accel {
	int sysctl_tcp_rmem[3];
};

struct net___accel {
	struct netns_ipv4___accel ipv4;
};

struct sock_common___accel {
	unsigned char skc_state;
	struct {
		struct net___accel *net;
	} skc_net;
	struct proto *skc_prot;
	unsigned long skc_flags;
	atomic64_t skc_cookie;
};

struct file___accel {
	unsigned int f_flags;
	const struct cred *f_cred;
};

struct socket___accel {
	struct file___accel *file;
};

struct page_counter___accel {
	struct {
		long counter;
	} usage;
	unsigned long max;
	struct page_counter___accel *parent;
};

struct mem_cgroup___accel {
	struct page_counter___accel memory;
};

struct sock___accel {
	struct sock_common___accel __sk_common;
	struct socket___accel *sk_socket;
	void *sk_user_data;
	struct mem_cgroup___accel *sk_memcg;
	int sk_rcvlowat;
	int sk_peek_off;
	void *sk_filter;
	unsigned long sk_max_pacing_rate;
	__u32 sk_tsflags;
	unsigned int sk_mark;
	unsigned char sk_shutdown;
	unsigned char sk_userlocks : 4;
	int sk_rcvbuf;
	int sk_forward_alloc;
	struct {
		atomic_t rmem_alloc;
	} sk_backlog;
};

struct inet_connection_sock {
	__u32 icsk_user_timeout;
	const void *icsk_ulp_ops;
};

struct tcp_sock___accel {
	__u32 write_seq;
	__u32 snd_una;
	__u32 copied_seq;
	__u32 rcv_nxt;
	__u16 urg_data;
	unsigned char nonagle : 4;
	unsigned char repair : 1;
	unsigned char recvmsg_inq : 1;
};

#pragma clang attribute pop

/*
 * A field of a struct of the kernel; 0 where it cannot be read: then the caller's comparison fails, or the other value is compared as well. Direct
 * reads are loads that the verifier lets pass and the kernel mends when they fault. bpf_rdonly_cast wants the struct's number in the kernel's BTF,
 * which has no const of it: the comma takes it away.
 */
#ifdef DIRECT_READS
extern void *bpf_rdonly_cast(const void *object, __u32 type) __ksym;

#define CAST(pointer) ((typeof(pointer))bpf_rdonly_cast((pointer), bpf_core_type_id_kernel(typeof(((void)0, *(pointer))))))
#define READ(pointer, field) (CAST(pointer)->field)
#define READ_BITS(pointer, field) BPF_CORE_READ_BITFIELD(CAST(pointer), field)
#else
#define READ(pointer, field) BPF_CORE_READ(pointer, field)
#define READ_BITS(pointer, field) BPF_CORE_READ_BITFIELD_PROBED(pointer, field)
#endif

static __always_inline struct side *own_end(struct pair *pair, enum pair_side own)
{
	return own == SIDE_CLIENT ? &pair->sides[SIDE_CLIENT] : &pair->sides[SIDE_SERVER];
}

static __always_inline struct side *other_end(struct pair *pair, enum pair_side own)
{
	return own == SIDE_CLIENT ? &pair->sides[SIDE_SERVER] : &pair->sides[SIDE_CLIENT];
}

static __always_inline __u64 read_socket_cookie(const void *sk)
{
	return READ((const struct sock___accel *)sk, __sk_common.skc_cookie.counter);
}

/* From here on each socket's program is looked up again (verdict_on). */
static __always_inline void forget_verdicts(void)
{
	__u32 zero = 0, *number = bpf_map_lookup_elem(&verdicts, &zero);

	if (number)
		__sync_fetch_and_add(number, 1);
}

static __always_inline enum accel_mode mode_of(__u64 netns)
{
	struct accelerated *pod = bpf_map_lookup_elem(&accelerated, &netns);

	return pod ? pod->mode : ACCEL_NONE;
}

/* Of the pods of both ends; a wider mode of either makes it larger. */
static __always_inline __u32 modes_of(const struct pair *pair)
{
	return mode_of(pair->sides[SIDE_CLIENT].netns) + mode_of(pair->sides[SIDE_SERVER].netns);
}

/* A socket may be ready to join, or wants to leave (ASK_SOON); or ASK_LATER. */
static __always_inline void ask_for_look(__u64 when)
{
	bpf_ringbuf_output(&readers, &when, sizeof(when), 0);
}

/* Bytes come by TCP behind what waits in the queue of this end: mb_late looks whether its reader has to be told again. */
static __always_inline void note_behind(struct side *reader)
{
	if (READ_ONCE(reader->behind))
		return;
	reader->behind = 1;
	ask_for_look(ASK_LATER);
}

/* In `joined`; before and after that, nothing of ours is at the socket. */
static __always_inline int is_joined(const struct side *side)
{
	enum accel_place place = READ_ONCE(side->place);

	return place >= PLACE_JOINED && place < PLACE_LEFT;
}

/* The socket that was there is there still. */
static __always_inline int is_same_socket(const void *sk, __u64 cookie)
{
	return sk && cookie && read_socket_cookie(sk) == cookie;
}

/* SO_RCVLOWAT: it wants to be told only of so many bytes. */
static __always_inline int has_low_water(const void *sk)
{
	return READ((const struct sock___accel *)sk, sk_rcvlowat) > 1;
}

static __always_inline int has_ulp(const void *sk)
{
	return READ((const struct inet_connection_sock *)sk, icsk_ulp_ops) != 0;
}

static __always_inline __u64 read_flags(const void *sk)
{
	return READ((const struct sock___accel *)sk, __sk_common.skc_flags);
}

static __always_inline int has_zerocopy(const void *sk)
{
	return read_flags(sk) >> bpf_core_enum_value(enum sock_flags, SOCK_ZEROCOPY) & 1;
}

/* Time stamps for data that comes (SO_TIMESTAMP, SO_TIMESTAMPING) or goes. */
static __always_inline int has_timestamps(const void *sk)
{
	const struct sock___accel *sock = sk;
	__u64 flags = read_flags(sk) >> bpf_core_enum_value(enum sock_flags, SOCK_RCVTSTAMP) & 1;

	return flags || READ(sock, sk_tsflags);
}

static __always_inline int is_established(const void *sk)
{
	return READ((const struct sock___accel *)sk, __sk_common.skc_state) == TCP_ESTABLISHED && !READ((const struct sock___accel *)sk, sk_shutdown);
}

/* 0: a socket that nobody has accepted yet. */
static __always_inline struct file___accel *file_of(const void *sk)
{
	struct socket___accel *socket = READ((const struct sock___accel *)sk, sk_socket);

	return socket ? READ(socket, file) : 0;
}

static __always_inline int is_non_blocking(struct file___accel *file)
{
	return file && READ(file, f_flags) & O_NONBLOCK;
}

static __always_inline int is_proxy(const void *sk, struct file___accel *file, const struct accelerated *pod)
{
	const struct cred *cred;

	if (pod->mark)
		return READ((const struct sock___accel *)sk, sk_mark) == pod->mark;
	cred = READ(file, f_cred);
	return (pod->uid != NO_ID && READ(cred, fsuid.val) == pod->uid) || (pod->gid != NO_ID && READ(cred, fsgid.val) == pod->gid);
}

#endif
