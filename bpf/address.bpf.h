/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Addresses as the contract has them: four words, IPv4 in the first; and as sockets have them: IPv4 may be mapped into IPv6. */
#ifndef MERBRIDGE_ADDRESS_H
#define MERBRIDGE_ADDRESS_H

#include <bpf/bpf_endian.h>
#include "contract.h"

#define AF_INET 2
#define AF_INET6 10

#define MAPPED_WORD bpf_htonl(0xffff) /* word 2 of ::ffff:a.b.c.d; the words before it are 0 */

#define ASKER_MASK ((1U << ASKER_BITS) - 1) /* of the last word of an address that is an id */

static __always_inline __u32 address_bits(enum family family)
{
	return family == FAMILY_IPV6 ? 128 : 32;
}

static __always_inline void copy_address(__be32 *to, const __be32 *from)
{
	to[0] = from[0];
	to[1] = from[1];
	to[2] = from[2];
	to[3] = from[3];
}

/*
 * From or to fields of a context or of a struct bpf_sock. One load or store each: else the compiler computes the field's address first (where two
 * branches use different ones), and the verifier wants an unmodified pointer.
 */
#define ONE_WORD(x) (*(volatile __be32 *)&(x))
#define read_words(to, words)                                                                                                                        \
	({                                                                                                                                           \
		(to)[0] = ONE_WORD((words)[0]);                                                                                                      \
		(to)[1] = ONE_WORD((words)[1]);                                                                                                      \
		(to)[2] = ONE_WORD((words)[2]);                                                                                                      \
		(to)[3] = ONE_WORD((words)[3]);                                                                                                      \
	})
#define write_words(words, w0, w1, w2, w3)                                                                                                           \
	({                                                                                                                                           \
		ONE_WORD((words)[0]) = (w0);                                                                                                         \
		ONE_WORD((words)[1]) = (w1);                                                                                                         \
		ONE_WORD((words)[2]) = (w2);                                                                                                         \
		ONE_WORD((words)[3]) = (w3);                                                                                                         \
	})

static __always_inline void set_ipv4(__be32 *to, __be32 addr)
{
	to[0] = addr;
	to[1] = to[2] = to[3] = 0;
}

static __always_inline void set_ipv6_loopback(__be32 *to)
{
	to[0] = to[1] = to[2] = 0;
	to[3] = bpf_htonl(1);
}

static __always_inline int is_zero(const __be32 *addr)
{
	return !(addr[0] | addr[1] | addr[2] | addr[3]);
}

static __always_inline int is_same(const __be32 *a, const __be32 *b)
{
	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]));
}

/* 127.0.0.1 or ::1 */
static __always_inline int is_localhost(enum family family, const __be32 *addr)
{
	if (family == FAMILY_IPV4)
		return addr[0] == bpf_htonl(0x7f000001);
	return !(addr[0] | addr[1] | addr[2]) && addr[3] == bpf_htonl(1);
}

/* 127.0.0.0/8 or ::1 */
static __always_inline int is_loopback(enum family family, const __be32 *addr)
{
	if (family == FAMILY_IPV4)
		return (addr[0] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	return is_localhost(family, addr);
}

/* 127.0.0.6 or ::6, from which a sidecar calls the app with what it has already handled */
static __always_inline int is_passthrough(enum family family, const __be32 *addr)
{
	if (family == FAMILY_IPV4)
		return addr[0] == bpf_htonl(0x7f000006);
	return !(addr[0] | addr[1] | addr[2]) && addr[3] == bpf_htonl(6);
}

/* fe80::/10: which interface it belongs to is not in the address */
static __always_inline int is_link_local(enum family family, const __be32 *addr)
{
	return family == FAMILY_IPV6 && (addr[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

static __always_inline int is_mapped(__be32 word0, __be32 word1, __be32 word2)
{
	return !(word0 | word1) && word2 == MAPPED_WORD;
}

#endif
