/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Decisions as events, for whoever watches (`monitor`). While nobody does, this costs one look into an array. A full ring loses the event and counts
 * it; a connection never waits for it and never fails by it.
 */
#ifndef MERBRIDGE_EVENTS_H
#define MERBRIDGE_EVENTS_H

#include "owner.bpf.h"

#define RULES_NOT_ASKED (MAX_RULES + 1)

/* What the programs note while they decide. */
struct note {
	__u64 facts;
	__u32 rule;
	enum verdict verdict;
	enum reason reason;
	__u32 error;
	__be32 target[4];
	__be16 tport;
	__u8 family;	    /* enum family */
	struct owner owner; /* as the rules were asked with; unknown where no rule wants to know it */
};

/* How many decisions this one stands for; 0: nobody wants to know it. */
GLOBAL __u32 watched(__u64 netns)
{
	__u32 zero = 0, sample;
	struct monitoring *settings = bpf_map_lookup_elem(&monitoring, &zero);

	if (!settings)
		return 0;
	sample = READ_ONCE(settings->sample);
	if (!sample || (settings->netns && settings->netns != netns) || bpf_ktime_get_ns() > settings->until)
		return 0;
	return sample == 1 || bpf_get_prandom_u32() % sample == 0 ? sample : 0;
}

/* An event with everything that is known of any decision; the caller fills in the rest and submits it. */
static __always_inline struct event *begin_event(__u64 netns, __u64 policy, const struct note *note)
{
	__u32 zero = 0, sample = watched(netns);
	struct event *event;
	__u64 *lost;

	if (!sample)
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		lost = bpf_map_lookup_elem(&events_lost, &zero);
		if (lost)
			__sync_fetch_and_add(lost, 1);
		return 0;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->time = bpf_ktime_get_ns();
	event->netns = netns;
	event->policy = policy;
	event->facts = note->facts;
	event->sampled = sample < 0xffff ? sample : 0xffff;
	event->family = note->family;
	event->rule = note->rule;
	event->verdict = note->verdict;
	event->reason = note->reason;
	event->error = note->error;
	copy_address(event->target, note->target);
	event->tport = note->tport;
	return event;
}

/* Who connects, and who owns the socket: not read a second time, which would be too much for the verifier of Linux 5.10. */
static __always_inline void add_caller(struct event *event, const struct note *note)
{
	event->uid = note->owner.uid;
	event->gid = note->owner.gid;
	event->owned = note->owner.known;
	event->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(event->command, sizeof(event->command));
}

#endif
