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

enum asker_kind {
	ASKER_SENDS = 1,    /* the id is the source of datagrams to the target; answers to it are to come from the server */
	ASKER_CONNECTS = 2, /* the id is the peer of a connected socket: its datagrams are to go to the target, answers are to come from the id */
};

/*
 * askers: id (__u32) -> whose datagrams to which server carry it. Written by sendmsg and connect; read by the program at lo, which notes their
 * use; idle ones are swept by the agent.
 */
struct asker {
	__u64 netns;
	__u64 used; /* nanoseconds of CLOCK_MONOTONIC, when it was last used, to about a second */
	__be32 server[4];
	__be32 source[4]; /* the source that the datagrams would have had */
	__be32 target[4]; /* the proxy that answers */
	__be16 port;	  /* of the server */
	__be16 tport;	  /* of the proxy */
	enum family family;
	enum asker_kind kind;
	__u32 _pad;
};
_Static_assert(sizeof(struct asker) == 80, "asker");

/* asked: storage of a UDP socket. */
struct asked {
	__be32 server[4]; /* the first server that it asked */
	__be32 target[4]; /* where the datagrams to it go, and the answers come from */
	__be32 shown[4];  /* connected: its own address as getsockname says it; zero: as it is */
	__be16 port;
	__be16 tport;
	enum family family; /* of server; 0: it has asked none */
	enum family shown_family;
	__u32 _pad;
	struct asker asking; /* what is about to be asked: kept here because the programs' stack has no room for it */
};
_Static_assert(sizeof(struct asked) == 144, "asked");

#endif
