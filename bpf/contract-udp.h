/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The part of the contract that is about datagrams; contract.h includes it. */
#ifndef MERBRIDGE_CONTRACT_UDP_H
#define MERBRIDGE_CONTRACT_UDP_H

#include <linux/types.h>

/*
 * A proxy's answers to one socket look alike whichever server was asked. The first server of a socket is remembered with the socket; datagrams to
 * each other one leave with an id as their source address, 127.64.0.0/10 or the network below, which the proxy answers to: the id says who asked
 * whom.
 */
enum asker_limit {
	ASKER_BITS = 22,   /* of an id; the same for both families */
	MAX_ASKERS = 4096, /* ids of one pod */
};

/* An id as an IPv4 address is ASKER_NETWORK4 | id, as an IPv6 one the words of ASKER_NETWORK6 and the id in the last. Host order. */
enum asker_network {
	ASKER_NETWORK4 = 0x7f400000,   /* 127.64.0.0/10 */
	ASKER_NETWORK6_0 = 0xfd6d6572, /* fd6d:6572:6272:6964::/96 */
	ASKER_NETWORK6_1 = 0x62726964,
};

/* askers: id (__u32) -> whose datagrams to which server carry it. Written by sendmsg; read by the program at lo; idle ones are swept by the agent. */
struct asker {
	__u64 netns;
	__u64 used; /* nanoseconds of CLOCK_MONOTONIC, when a datagram was sent last */
	__be32 server[4];
	__be32 source[4]; /* the source that the datagrams would have had */
	__be16 port;	  /* of the server */
	__be16 tport;	  /* of the proxy that answers */
	enum family family;
};
_Static_assert(sizeof(struct asker) == 56, "asker");

/* asked: storage of a UDP socket. */
struct asked {
	__be32 server[4]; /* the first server that it asked without being connected */
	__be32 target[4]; /* where the datagrams to it go, and the answers come from */
	__be32 shown[4];  /* connected: its own address as getsockname says it; zero: as it is */
	__be16 port;
	__be16 tport;
	enum family family; /* of server; 0: it has asked none */
};
_Static_assert(sizeof(struct asked) == 56, "asked");

#endif
