/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Ids: addresses that say who asked which server, where the proxy's answers alone would not. See contract-udp.h. */
#ifndef MERBRIDGE_ASKERS_H
#define MERBRIDGE_ASKERS_H

#include "attempt.bpf.h"

#define ASKER_PROBES 8

/* Defined in abilities.bpf.c. */
extern const volatile __u64 asker_seed;

static __always_inline __u64 mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
	return hash ^ hash >> 29;
}

static __always_inline __u64 hash_asker(const struct asker *asker)
{
	__u64 seed = asker_seed,
	      hash = mix(seed ^ asker->netns, (__u64)asker->port << 32 | (__u64)asker->tport << 16 | asker->family << 8 | asker->kind);

	for (int i = 0; i < 4; i++) {
		hash = mix(hash, (__u64)asker->server[i] << 32 | asker->source[i]);
		hash = mix(hash, asker->target[i]);
	}
	return mix(hash, seed);
}

/* Everything but when it was used. */
static __always_inline int is_same_asker(const struct asker *a, const struct asker *b)
{
	return a->netns == b->netns && is_same(a->server, b->server) && is_same(a->source, b->source) && is_same(a->target, b->target) &&
	       a->port == b->port && a->tport == b->tport && a->family == b->family && a->kind == b->kind;
}

/* The pod's count; one too many at a time for each CPU does no harm. */
static __always_inline __s64 *asker_count(__u64 netns)
{
	__s64 *count = bpf_map_lookup_elem(&asker_counts, &netns), none = 0;

	if (count)
		return count;
	bpf_map_update_elem(&asker_counts, &netns, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&asker_counts, &netns);
}

static __always_inline int is_server(const struct asked *asked, const struct asker *asker)
{
	return asked->family == asker->family && asked->port == asker->port && asked->tport == asker->tport &&
	       is_same(asked->server, asker->server) && is_same(asked->target, asker->target);
}

/* The first server of a socket, whose answers need no id. */
static __always_inline void remember_first(struct asked *asked, const struct asker *asker)
{
	copy_address(asked->server, asker->server);
	copy_address(asked->target, asker->target);
	asked->port = asker->port;
	asked->tport = asker->tport;
	asked->family = asker->family;
}

/*
 * The id for it, found again or made; 0: the pod has too many, or there is no room. After entries were swept one asker may get a second id: both
 * lead to the same answers.
 */
static __always_inline __u32 asker_id(struct asker *wanted)
{
	__u64 hash = hash_asker(wanted);
	__s64 *count;

	wanted->used = bpf_ktime_get_ns();
#pragma clang loop unroll(disable)
	for (__u32 probe = 0; probe < ASKER_PROBES; probe++) {
		__u32 id = (__u32)(hash >> 40) + probe * 0x9e3779b1U & ASKER_MASK;
		struct asker *found;

		if (!id)
			continue;
		found = bpf_map_lookup_elem(&askers, &id);
		if (!found) {
			count = asker_count(wanted->netns);
			if (!count || *count >= MAX_ASKERS)
				return 0;
			if (!bpf_map_update_elem(&askers, &id, wanted, BPF_NOEXIST)) {
				__sync_fetch_and_add(count, 1);
				return id;
			}
			found = bpf_map_lookup_elem(&askers, &id); /* another CPU was faster */
			if (!found)
				return 0;
		}
		if (is_same_asker(found, wanted)) {
			keep_asker(found, wanted->used);
			return id;
		}
	}
	return 0;
}

enum asking {
	ASKING_PROXY = 0, /* no id is needed: the server is the first one of this socket */
	ASKING_REFUSED = -1,
};

static __always_inline void id_address(enum family family, __u32 id, __be32 *addr)
{
	if (family == FAMILY_IPV6) {
		addr[0] = bpf_htonl(ASKER_NETWORK6_0);
		addr[1] = bpf_htonl(ASKER_NETWORK6_1);
		addr[2] = 0;
		addr[3] = bpf_htonl(id);
	} else {
		set_ipv4(addr, bpf_htonl(ASKER_NETWORK4 | id));
	}
}

/*
 * The source of a connection to an id where the kernel chooses it. IPv4: that of all of 127.0.0.0/8. IPv6: that of the pod's route to the ids; zero
 * if it is not known.
 */
static __always_inline void find_own_source(struct asker *asker)
{
	struct route *route;
	__be32 ids[4];

	if (asker->family == FAMILY_IPV4) {
		set_ipv4(asker->source, bpf_htonl(0x7f000001));
		return;
	}
	id_address(FAMILY_IPV6, 0, ids);
	route = route_to(asker->netns, FAMILY_IPV6, ids);
	if (route)
		copy_address(asker->source, route->source);
}

/*
 * Does the socket need an id for its first server too? Its port may be another's as well, whose answers are addressed to the same one. The source
 * that the id leads back to is found for it. Not a part of ask_as: Linux 5.10 has no stack for both at once.
 */
GLOBAL int needs_id(struct bpf_sock_addr *ctx)
{
	struct asked *first = ctx->sk ? bpf_sk_storage_get(&asked, ctx->sk, 0, 0) : 0;

	if (!first || (can(ABILITY_KERNEL_READS) && !may_share_port(ctx->sk)))
		return 0;
	if (is_zero(first->asking.source))
		find_own_source(&first->asking);
	return 1;
}

/*
 * The id for what the socket's `asking` says, or enum asking. Global, like outbound_rule: the verifier looks at it once. `always`: needs_id says so,
 * or the socket is connected to the proxy: it takes what comes from its peer, and answers of all others must not look like that. Where the kernel
 * chooses the source of a connection (zero), and that is not known, no id could lead back to it.
 */
GLOBAL int ask_as(struct bpf_sock_addr *ctx, int always)
{
	struct asked *first = ctx->sk ? bpf_sk_storage_get(&asked, ctx->sk, 0, 0) : 0;
	__u32 id;

	if (!first)
		return ASKING_REFUSED;
	if (!always && !first->family)
		remember_first(first, &first->asking);
	if (is_zero(first->asking.source) || (!always && is_server(first, &first->asking)))
		return ASKING_PROXY;
	id = asker_id(&first->asking);
	return id ? (int)id : ASKING_REFUSED;
}

/* Writes down what ask_as is asked for. 0: no memory. */
static __always_inline int begin_asking(struct bpf_sock *sk, const struct attempt *attempt, enum asker_kind kind, const __be32 *source,
					const __be32 *target, __be16 port)
{
	struct asked *first = bpf_sk_storage_get(&asked, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (!first)
		return 0;
	first->asking.netns = attempt->netns;
	first->asking.family = attempt->family;
	first->asking.kind = kind;
	copy_address(first->asking.server, attempt->dest);
	first->asking.port = attempt->port;
	copy_address(first->asking.source, source);
	copy_address(first->asking.target, target);
	first->asking.tport = port;
	return 1;
}

#endif
