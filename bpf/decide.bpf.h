/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The rule engine: from what is known of a connection to its fact word, from the fact word to the first rule that matches. */
#ifndef MERBRIDGE_DECIDE_H
#define MERBRIDGE_DECIDE_H

#include "common.bpf.h"

#define FACT(bit) (1ULL << (bit))

/* Full prefix lengths: the 96 bits of kind and policy (or pod), and all of what follows. */
#define PORT_BITS (96 + 16)
#define ID_BITS (96 + 32)
#define CGROUP_BITS (96 + 64)

GLOBAL __u64 port_members(__u64 policy, __u32 port)
{
	struct port_key key = {.prefixlen = PORT_BITS, .policy = policy, .port = port};
	struct members *found = bpf_map_lookup_elem(&port_sets, &key);

	return found ? found->sets : 0;
}

GLOBAL __u64 owner_members(__u64 policy, __u32 kind, __u32 id)
{
	struct owner_key key = {.prefixlen = ID_BITS, .kind = kind, .policy = policy, .id = {bpf_htonl(id)}};
	struct members *found = bpf_map_lookup_elem(&owner_sets, &key);

	return found ? found->sets : 0;
}

/*
 * What iptables' `-o` compares: the device of the route. A socket bound to a device leaves by it, but for addresses that routing finds there to be
 * the pod's own; those are reached over loopback, which is device number 1 everywhere. 0: no device, which is in no set.
 */
static __always_inline __u32 leaves_by(__u32 bound, const struct route *route, int local)
{
	__u32 device = route ? route->interface : 0;

	if (local && (!bound || bound == 1 || bound == device))
		return 1;
	return bound ? bound : device;
}

GLOBAL __u64 cgroup_members(__u64 policy, __u64 id)
{
	struct owner_key key = {.prefixlen = CGROUP_BITS, .kind = OWNER_CGROUP, .policy = policy, .id = {bpf_htonl(id >> 32), bpf_htonl((__u32)id)}};
	struct members *found = bpf_map_lookup_elem(&owner_sets, &key);

	return found ? found->sets : 0;
}

/* `first` and `second` are the halves of the address, as they lie in memory. */
GLOBAL __u64 cidr_members(__u64 policy, __u32 kind, __u64 first, __u64 second)
{
	int six = kind == CIDR_DEST6 || kind == CIDR_SOURCE6;
	struct cidr_key key = {.prefixlen = 96 + address_bits(six ? FAMILY_IPV6 : FAMILY_IPV4), .kind = kind, .policy = policy};
	struct members *found;

	key.addr[0] = first;
	key.addr[1] = first >> 32;
	key.addr[2] = second;
	key.addr[3] = second >> 32;
	found = bpf_map_lookup_elem(&cidr_sets, &key);
	return found ? found->sets : 0;
}

#define HALF(addr, i) ((__u64)(addr)[i] | (__u64)(addr)[(i) + 1] << 32)

static __always_inline __u64 dest_members(__u64 policy, enum family family, const __be32 *addr)
{
	return cidr_members(policy, family == FAMILY_IPV6 ? CIDR_DEST6 : CIDR_DEST4, HALF(addr, 0), HALF(addr, 2));
}

static __always_inline __u64 source_members(__u64 policy, enum family family, const __be32 *addr)
{
	return cidr_members(policy, family == FAMILY_IPV6 ? CIDR_SOURCE6 : CIDR_SOURCE4, HALF(addr, 0), HALF(addr, 2));
}

GLOBAL __u64 mark_members(__u64 id, __u32 mark)
{
	const struct policy *policy = bpf_map_lookup_elem(&policies, &id);
	__u64 sets = 0;

	if (!policy)
		return 0;
	for (int i = 0; i < MAX_MARKS; i++) {
		if (i >= policy->marks_used)
			break;
		if ((mark & policy->marks[i].mask) == policy->marks[i].value)
			sets |= policy->marks[i].sets;
	}
	return sets;
}

/* Index of the first rule that matches; MAX_RULES: none. */
static __always_inline __u32 first_match(const struct rule *rules, __u32 used, __u64 facts)
{
	__u32 i;

#pragma clang loop unroll(disable)
	for (i = 0; i < MAX_RULES; i++) {
		if (i >= used)
			return MAX_RULES;
		if ((facts & rules[i].mask) == rules[i].value)
			return i;
	}
	return MAX_RULES;
}

#endif
