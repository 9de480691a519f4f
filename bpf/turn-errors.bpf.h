/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Errors (ICMP) that answer a datagram with an id: nobody listens at the proxy's port. They quote the datagram as it was on lo; the socket that sent
 * it is found, and told, by the addresses that it has itself.
 */
#ifndef MERBRIDGE_TURN_ERRORS_H
#define MERBRIDGE_TURN_ERRORS_H

#include <linux/udp.h>
#include "turn.bpf.h"

/* Of both kinds: type, code, checksum, four more bytes, then the packet that the error is about. */
#define ERROR_HEADER 8
#define ERROR_CHECKSUM 2
#define ICMP_UNREACHABLE 3
#define ICMPV6_UNREACHABLE 1

/* Of a quoted datagram, what may change. */
struct quote6 {
	__be32 src[4];
	__be32 dst[4];
	__be16 sport;
	__be16 dport;
};

/* The quoted datagram went from the id to the target: for its socket it went from the real source to the server, or to the id that is its peer. */
static __always_inline int turn_quote(const struct asker *asker, const struct ends *outer, struct ends *quoted)
{
	struct ends answer = {.family = outer->family}, back;

	if (asker->family != outer->family || !is_same(quoted->src, outer->dst) || !is_same(quoted->dst, asker->target) ||
	    quoted->dport != asker->tport)
		return 0;
	copy_address(answer.dst, quoted->src);
	answer.sport = quoted->dport;
	turn_answer(asker, &answer, &back);
	copy_address(quoted->src, back.dst);
	copy_address(quoted->dst, back.src);
	quoted->dport = back.sport;
	return 1;
}

static __always_inline int turn_error4(struct __sk_buff *skb, __u32 id, struct ends *was, __u32 l4)
{
	const struct asker *asker = bpf_map_lookup_elem(&askers, &id);
	__u32 inner = l4 + ERROR_HEADER, checksum = l4 + ERROR_CHECKSUM, dport;
	struct iphdr before, after;
	struct ends quoted = {}, now;
	__be16 port;
	__u8 type;

	if (!asker || bpf_skb_load_bytes(skb, l4, &type, 1) || type != ICMP_UNREACHABLE || bpf_skb_load_bytes(skb, inner, &before, sizeof(before)))
		return NEXT_PROGRAM;
	dport = inner + before.ihl * 4 + offsetof(struct udphdr, dest);
	if (before.protocol != IPPROTO_UDP || bpf_skb_load_bytes(skb, dport, &quoted.dport, sizeof(quoted.dport)))
		return NEXT_PROGRAM;
	port = quoted.dport;
	quoted.src[0] = before.saddr;
	quoted.dst[0] = before.daddr;
	if (!turn_quote(asker, was, &quoted))
		return NEXT_PROGRAM;
	after = before;
	after.saddr = quoted.src[0];
	after.daddr = quoted.dst[0];
	/* The quoted header's own checksum stays as it was: nobody looks at it. That of ICMP covers all of it. */
	if (bpf_l4_csum_replace(skb, checksum, 0, bpf_csum_diff((__be32 *)&before, sizeof(before), (__be32 *)&after, sizeof(after), 0), 0) ||
	    bpf_l4_csum_replace(skb, checksum, port, quoted.dport, 2) || bpf_skb_store_bytes(skb, inner, &after, sizeof(after), 0) ||
	    bpf_skb_store_bytes(skb, dport, &quoted.dport, sizeof(quoted.dport), 0))
		return DROP_PACKET;
	now = *was;
	copy_address(now.src, quoted.dst);
	copy_address(now.dst, quoted.src);
	return write_addresses(skb, was, &now) ? DROP_PACKET : NEXT_PROGRAM;
}

static __always_inline int turn_error6(struct __sk_buff *skb, __u32 id, struct ends *was, __u32 l4)
{
	const struct asker *asker = bpf_map_lookup_elem(&askers, &id);
	__u32 inner = l4 + ERROR_HEADER, checksum = l4 + ERROR_CHECKSUM;
	struct quote6 before, after;
	struct ends quoted = {}, now;
	__u8 type, protocol;

	if (!asker || bpf_skb_load_bytes(skb, l4, &type, 1) || type != ICMPV6_UNREACHABLE ||
	    bpf_skb_load_bytes(skb, inner + offsetof(struct ipv6hdr, nexthdr), &protocol, 1) || protocol != IPPROTO_UDP ||
	    bpf_skb_load_bytes(skb, inner + offsetof(struct ipv6hdr, saddr), &before, sizeof(before)))
		return NEXT_PROGRAM;
	copy_address(quoted.src, before.src);
	copy_address(quoted.dst, before.dst);
	quoted.dport = before.dport;
	if (!turn_quote(asker, was, &quoted))
		return NEXT_PROGRAM;
	after = before;
	copy_address(after.src, quoted.src);
	copy_address(after.dst, quoted.dst);
	after.dport = quoted.dport;
	now = *was;
	copy_address(now.src, quoted.dst);
	copy_address(now.dst, quoted.src);
	/* ICMPv6's checksum covers the addresses of its own header too. */
	if (bpf_l4_csum_replace(skb, checksum, 0, bpf_csum_diff((__be32 *)&before, sizeof(before), (__be32 *)&after, sizeof(after), 0), 0) ||
	    bpf_l4_csum_replace(skb, checksum, 0, address_difference(was, &now), BPF_F_PSEUDO_HDR) ||
	    bpf_skb_store_bytes(skb, inner + offsetof(struct ipv6hdr, saddr), &after, sizeof(after), 0))
		return DROP_PACKET;
	return write_addresses(skb, was, &now) ? DROP_PACKET : NEXT_PROGRAM;
}

#endif
