/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The part of the contract that is about counters and events; contract.h includes it. */
#ifndef MERBRIDGE_CONTRACT_EVENTS_H
#define MERBRIDGE_CONTRACT_EVENTS_H

#include <linux/types.h>

enum stage {
	STAGE_OUTBOUND = 1, /* index is a rule of policy.outbound; MAX_RULES: none matched */
	STAGE_INBOUND = 2,  /* index is a rule of policy.inbound; MAX_RULES: none matched */
	STAGE_REASON = 3,   /* index is an enum reason, policy is 0 */
};

/* Why something was refused or went wrong. Every failed step has one of its own; each refuses the connection except where it says so. */
enum reason {
	REASON_NONE = 0,	    /* of an event: it was not refused */
	REASON_RULE = 1,	    /* a rule said drop */
	REASON_POD_CHANGED = 2,	    /* the pod's record was replaced four times while it was read */
	REASON_NO_POLICY = 3,	    /* the pod names a policy that does not exist */
	REASON_BAD_RULE = 4,	    /* a rule names a row that the table of targets does not have, or a verdict that does not exist */
	REASON_NO_FAMILY = 5,	    /* the target has no address of the connection's family */
	REASON_NO_STORAGE = 6,	    /* no memory to remember the origin of a client's socket */
	REASON_NO_ROUTE = 7,	    /* routing would have failed; refused with its errno */
	REASON_NO_SOURCE = 8,	    /* no source address is known for the route */
	REASON_BIND = 9,	    /* binding the source address failed */
	REASON_HANDOVER_FULL = 10,  /* no room in handovers: sk_lookup refuses the SYN before it reaches the proxy */
	REASON_NO_LISTENER = 11,    /* nobody listens on the proxy's port */
	REASON_ASSIGN = 12,	    /* the kernel did not accept the listener for this packet (bpf_sk_assign) */
	REASON_ACCEPT_STORAGE = 13, /* no memory to remember the origin on the accepted socket: SO_ORIGINAL_DST will fail there */
	REASON_SLOTS_FULL = 14,	    /* a listener found no free slot: the others of its group serve, and it is not remembered */
	REASON_LISTENER = 15,	    /* a listener could not be registered for another cause (an MPTCP socket: sockhashes refuse it) */
	REASON_PENDING = 16,	    /* the pod has MAX_PENDING connections in the making */
	REASON_SOURCE_ROUTE = 17,   /* the socket has a source route (IP_OPTIONS), which would lead past the proxy */
	REASON_ASKERS = 19,	    /* the pod asks more servers than MAX_ASKERS at a time, or the map is full: the datagram is refused */
	REASON_MPTCP_STORAGE = 18,  /* no memory to remember the origin of an MPTCP socket: a client sees the proxy, a proxy has no SO_ORIGINAL_DST */
};

struct counter_key {
	__u64 netns;
	__u64 policy;
	enum stage stage;
	__u16 index;
	__u8 family;   /* enum family */
	__u8 protocol; /* IPPROTO_TCP or IPPROTO_UDP; both are 0 where it is about no connection */
};
_Static_assert(sizeof(struct counter_key) == 24, "counter_key");

/* monitoring: array of one. What is told to whoever watches (events). Zeroed: nothing. */
struct monitoring {
	__u64 until;  /* nanoseconds of CLOCK_MONOTONIC; the agent prolongs it while somebody watches, so it ends by itself when the agent does */
	__u64 netns;  /* only this pod; 0: every pod */
	__u32 sample; /* 0: nothing, 1: every decision, n: one in n, by chance */
	__u32 _pad;
};
_Static_assert(sizeof(struct monitoring) == 24, "monitoring");

/* events: one decision about one connection. */
struct event {
	__u64 time; /* nanoseconds of CLOCK_MONOTONIC */
	__u64 netns;
	__u64 policy; /* 0: it was refused before its policy was known */
	__u64 facts;  /* the fact word that the rules were asked with; 0: they were not */
	__be32 source[4];
	__be32 dest[4];	  /* as asked for */
	__be32 target[4]; /* where it was sent; zero: not redirected; inbound: a listener of the pod */
	__be16 sport;	  /* 0: not chosen yet */
	__be16 dport;
	__be16 tport;
	__u16 sampled; /* what monitoring.sample was, at most 65535 */
	enum family family;
	enum stage stage; /* STAGE_OUTBOUND or STAGE_INBOUND */
	__u32 rule;	  /* index of the rule that decided; MAX_RULES: none matched; MAX_RULES + 1: the rules were not asked */
	enum verdict verdict;
	enum reason reason; /* why it was refused; REASON_NONE: it was not */
	__u32 error;	    /* errno of an outbound refusal */
	__u32 pid;	    /* of the caller, outbound; 0: inbound */
	__u32 uid;	    /* the socket's owner, outbound: what the rules compare. Ids of the initial user namespace */
	__u32 gid;
	__u32 owned;	  /* 0: no rule asked, or nobody owns the socket: uid and gid mean nothing */
	__u8 command[16]; /* of the caller, zero-terminated */
};
_Static_assert(sizeof(struct event) == 144, "event");

#endif
