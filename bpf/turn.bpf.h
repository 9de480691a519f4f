/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What becomes of the addresses and ports of a datagram that has an id as its destination, and how they are written into the packet. */
#ifndef MERBRIDGE_TURN_H
#define MERBRIDGE_TURN_H

#include <stddef.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include "common.bpf.h"

#define NEXT_PROGRAM -1 /* TC_ACT_UNSPEC and TCX_NEXT */
#define DROP_PACKET 2	/* TC_ACT_SHOT */

#define IPPROTO_ICMP 1
#define IPPROTO_ICMPV6 58

/* Both ends of a packet: without padding, for checksums are made of it. */
struct ends {
	__be32 src[4];
	__be32 dst[4];
	__be16 sport;
	__be16 dport;
	enum family family;
};

/* The proxy's answer to a datagram with an id: from the server to the real source; a connected socket knows the id as its peer. */
static __always_inline void turn_answer(const struct asker *asker, const struct ends *was, struct ends *now)
{
	*now = *was;
	copy_address(now->dst, asker->source);
	if (asker->kind == ASKER_CONNECTS) {
		copy_address(now->src, was->dst);
	} else {
		copy_address(now->src, asker->server);
		now->sport = asker->port;
	}
}

/* 0: it is none of ours, and stays as it is. `later`: a fragment without ports. */
static __always_inline int turned(const struct asker *asker, const struct ends *was, struct ends *now, int later)
{
	if (asker->family != was->family)
		return 0;
	if (is_same(was->src, asker->target) && (later || was->sport == asker->tport)) {
		turn_answer(asker, was, now);
		return 1;
	}
	if (asker->kind != ASKER_CONNECTS || !is_same(was->src, asker->source) || (!later && was->dport != asker->tport))
		return 0;
	*now = *was;
	copy_address(now->src, was->dst);
	copy_address(now->dst, asker->target);
	return 1;
}

static __always_inline __s64 address_difference(const struct ends *was, const struct ends *now)
{
	return bpf_csum_diff((__be32 *)was->src, 32, (__be32 *)now->src, 32, 0);
}

/* Of UDP. None (0) stays none. On lo it is the pseudo header's alone, as for a device that does the rest; the helper knows. */
static __always_inline int write_checksum(struct __sk_buff *skb, __u32 offset, const struct ends *was, const struct ends *now)
{
	if (bpf_l4_csum_replace(skb, offset, 0, address_difference(was, now), BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0))
		return -1;
	return bpf_l4_csum_replace(skb, offset, was->sport, now->sport, BPF_F_MARK_MANGLED_0 | 2);
}

/* Of the packet's own header, where IPv4 has a checksum. */
static __always_inline int write_addresses(struct __sk_buff *skb, const struct ends *was, const struct ends *now)
{
	__be32 both[2] = {now->src[0], now->dst[0]};

	if (was->family == FAMILY_IPV6)
		return bpf_skb_store_bytes(skb, ETH_HLEN + offsetof(struct ipv6hdr, saddr), now->src, 32, 0);
	if (bpf_l3_csum_replace(skb, ETH_HLEN + offsetof(struct iphdr, check), 0, address_difference(was, now), 0))
		return -1;
	return bpf_skb_store_bytes(skb, ETH_HLEN + offsetof(struct iphdr, saddr), both, 8, 0);
}

#endif
