// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Egress of a pod's lo (TCX or clsact): turns round the datagrams that have an id (contract-udp.h) as their destination, and the errors that the
 * kernel answers them with. Everything else on lo goes on at once, untouched, to whatever program is next.
 */
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include "turn.bpf.h"
#include "turn-errors.bpf.h"

#define FRAGMENT_OFFSET bpf_htons(0x1fff)
#define FRAGMENT_OFFSET6 bpf_htons(0xfff8)
#define IPPROTO_FRAGMENT 44

struct fragment6 {
	__u8 protocol;
	__u8 reserved;
	__be16 offset;
	__be32 id;
};

/* Datagrams with their ports at `l4`; later fragments have none, and the address alone says whose they are. */
static __always_inline int turn_datagram(struct __sk_buff *skb, __u32 id, struct ends *was, __u32 l4, int later)
{
	struct asker *asker = bpf_map_lookup_elem(&askers, &id);
	struct ends now;

	if (!asker)
		return NEXT_PROGRAM;
	if (!later && bpf_skb_load_bytes(skb, l4, &was->sport, 4))
		return NEXT_PROGRAM;
	if (!turned(asker, was, &now, later))
		return NEXT_PROGRAM;
	keep_asker(asker, bpf_ktime_get_ns());
	if (!later && (write_checksum(skb, l4 + offsetof(struct udphdr, check), was, &now) || bpf_skb_store_bytes(skb, l4, &now.sport, 4, 0)))
		return DROP_PACKET;
	return write_addresses(skb, was, &now) ? DROP_PACKET : NEXT_PROGRAM;
}

static __always_inline int from_ipv4(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	struct ends was = {.family = FAMILY_IPV4};
	__u32 l4, id;

	if ((void *)(ip + 1) > end || (ip->daddr & bpf_htonl(~ASKER_MASK)) != bpf_htonl(ASKER_NETWORK4))
		return NEXT_PROGRAM;
	was.src[0] = ip->saddr;
	was.dst[0] = ip->daddr;
	id = bpf_ntohl(ip->daddr) & ASKER_MASK;
	l4 = ETH_HLEN + ip->ihl * 4;
	if (ip->protocol == IPPROTO_UDP)
		return turn_datagram(skb, id, &was, l4, (ip->frag_off & FRAGMENT_OFFSET) != 0);
	return ip->protocol == IPPROTO_ICMP ? turn_error4(skb, id, &was, l4) : NEXT_PROGRAM;
}

/* Of datagrams: only the first has the ports. */
static __always_inline int turn_fragment6(struct __sk_buff *skb, __u32 id, struct ends *was, __u32 l4)
{
	struct fragment6 header;

	if (bpf_skb_load_bytes(skb, l4, &header, sizeof(header)) || header.protocol != IPPROTO_UDP)
		return NEXT_PROGRAM;
	return turn_datagram(skb, id, was, l4 + sizeof(header), (header.offset & FRAGMENT_OFFSET6) != 0);
}

static __always_inline int from_ipv6(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ipv6hdr *ip = data + ETH_HLEN;
	struct ends was = {.family = FAMILY_IPV6};
	__u32 l4 = ETH_HLEN + sizeof(*ip), id;

	if ((void *)(ip + 1) > end)
		return NEXT_PROGRAM;
	read_words(was.dst, ip->daddr.in6_u.u6_addr32);
	id = bpf_ntohl(was.dst[3]);
	if (was.dst[0] != bpf_htonl(ASKER_NETWORK6_0) || was.dst[1] != bpf_htonl(ASKER_NETWORK6_1) || was.dst[2] || id > ASKER_MASK)
		return NEXT_PROGRAM;
	read_words(was.src, ip->saddr.in6_u.u6_addr32);
	if (ip->nexthdr == IPPROTO_UDP)
		return turn_datagram(skb, id, &was, l4, 0);
	if (ip->nexthdr == IPPROTO_FRAGMENT)
		return turn_fragment6(skb, id, &was, l4);
	return ip->nexthdr == IPPROTO_ICMPV6 ? turn_error6(skb, id, &was, l4) : NEXT_PROGRAM;
}

SEC("tc")
int mb_lo(struct __sk_buff *skb)
{
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return from_ipv4(skb);
	return skb->protocol == bpf_htons(ETH_P_IPV6) ? from_ipv6(skb) : NEXT_PROGRAM;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
