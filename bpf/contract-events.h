/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The part of the contract that is about events; contract.h includes it. */
#ifndef MERBRIDGE_CONTRACT_EVENTS_H
#define MERBRIDGE_CONTRACT_EVENTS_H

#include <linux/types.h>

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
