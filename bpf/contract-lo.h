/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The part of the contract that is about the lo of pods; contract.h includes it. No program reads it. */
#ifndef MERBRIDGE_CONTRACT_LO_H
#define MERBRIDGE_CONTRACT_LO_H

#include <linux/types.h>

enum added_kind {
	ADDED_ADDRESS = 1,
	ADDED_ROUTE = 2,  /* of table local */
	ADDED_FILTER = 3, /* our program at clsact; where it is a link, its pin tells */
	ADDED_QDISC = 4,  /* clsact itself */
};

/*
 * added: what the agent has put at a pod's lo -> 1 (__u32). It goes when it is not wanted any more; what was there before is not here, and stays.
 * Written before it is made, so that an agent that is killed leaves nothing unknown. Versions of the agent hand it over to each other: keep its
 * layout.
 */
struct added {
	__u64 netns;
	enum added_kind kind;
	__u32 length; /* of the prefix of an address or route */
	__be32 addr[4];
	__u32 family; /* 4 or 6; 0: neither address nor route */
	__u32 device; /* of a route: index of the interface that look-ups must ask for; lo's own: 1 */
};
_Static_assert(sizeof(struct added) == 40, "added");

#endif
