/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What every hook needs: which pod, counting, refusing. */
#ifndef MERBRIDGE_COMMON_H
#define MERBRIDGE_COMMON_H

#include "maps.bpf.h"
#include <bpf/bpf_core_read.h>
#include "address.bpf.h"

#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17

#define MAX_ERRNO 4095
#define EPERM 1
#define EINVAL 22
#define ENETUNREACH 101
#define ECONNREFUSED 111

#define PROCEED 1 /* cgroup hooks: let the system call go on */
#define REFUSE 0

#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))
#define compiler_barrier() asm volatile("" ::: "memory")
/* Makes the compiler forget what it knows of a variable, so that it keeps the bound check that the verifier wants to see. */
#define opaque(var) asm volatile("" : "+r"(var))

/* Defined in abilities.bpf.c; see enum ability. */
extern const volatile __u64 abilities;

static __always_inline int can(enum ability ability)
{
	return (abilities & ability) != 0;
}

enum enrolment {
	NOT_ENROLLED,
	ENROLLED,
	CHANGING,
};

/*
 * bpf_set_retval. Declared with 64 bits: newer kernels (seen on 7.3) want to know that the value is in -4095..0, and an int that was negated in 32
 * bits is a large positive number to them.
 */
static long (*const set_retval)(__s64 retval) = (void *)BPF_FUNC_set_retval;

/* The system call fails with this errno; only where ABILITY_SET_RETVAL says so. */
static __always_inline void fail_with(int error)
{
	__u64 number = error;

	opaque(number);
	set_retval(-(__s64)(number <= MAX_ERRNO ? number : EINVAL));
}

/* What a counter is about, in one argument; 0: no connection. */
#define WIRE(family, protocol) ((__u32)(family) << 8 | (protocol))

/*
 * A global function: the verifier looks at each once, and at its callers with an unknown number as the result. Inlined, each of them multiplies the
 * ways through the program, and Linux 5.10 gives up. They take numbers and the context, because that kernel lets them take nothing else. __weak:
 * several programs bring the same.
 */
#define GLOBAL __weak __noinline

/* The number, of which the verifier then knows nothing: what it knows of one way and not of another makes it look at both to the end. */
GLOBAL __u32 unknown(__u32 number)
{
	opaque(number);
	return number;
}

/* A percpu value; atomic all the same, because a program may be preempted on its CPU. A full map loses the count, never the connection. */
GLOBAL int count(__u64 netns, __u64 policy, __u32 stage, __u32 index, __u32 wire)
{
	struct counter_key key = {.netns = netns, .policy = policy, .stage = stage, .index = index, .family = wire >> 8, .protocol = wire};
	__u64 none = 0;
	__u64 *value = bpf_map_lookup_elem(&counters, &key);

	if (!value) {
		bpf_map_update_elem(&counters, &key, &none, BPF_NOEXIST);
		value = bpf_map_lookup_elem(&counters, &key);
	}
	if (value)
		__sync_fetch_and_add(value, 1);
	return 0;
}

static __always_inline void count_reason(__u64 netns, enum reason reason, __u32 wire)
{
	count(netns, 0, STAGE_REASON, reason, wire);
}

/*
 * The policy of a pod. An element of a hash map may be given to another key while we hold it (not freed: the memory stays a struct pod), and
 * the kernel writes values from their first byte on, so netns is compared after policy was read.
 */
static __always_inline enum enrolment pod_policy(__u64 netns, __u64 *policy)
{
	for (int attempt = 0; attempt < 4; attempt++) {
		struct pod *pod = bpf_map_lookup_elem(&pods, &netns);

		if (!pod)
			return NOT_ENROLLED;
		*policy = READ_ONCE(pod->policy);
		compiler_barrier();
		if (READ_ONCE(pod->netns) == netns)
			return ENROLLED;
	}
	return CHANGING;
}

/* The pod's route to an address; NULL: routing would fail with ENETUNREACH. */
static __always_inline struct route *route_to(__u64 netns, enum family family, const __be32 *addr)
{
	struct route_key key = {.prefixlen = 96 + address_bits(family), .family = family, .netns = netns};

	copy_address(key.addr, addr);
	return bpf_map_lookup_elem(&routes, &key);
}

#define REFRESH_NS 1000000000ULL

/* It is in use. Not written each time, or many CPUs would fight for the cache line. */
static __always_inline void keep_asker(struct asker *asker, __u64 now)
{
	if (now - READ_ONCE(asker->used) > REFRESH_NS)
		asker->used = now;
}

static __always_inline int is_local(enum family family, const __be32 *addr, const struct route *route)
{
	return is_loopback(family, addr) || (route && route->kind == ROUTE_LOCAL);
}

#endif
