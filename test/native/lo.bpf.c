// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What leaves by an interface: counted, and left to the next program; or dropped. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

static int count(__u32 which)
{
	__u64 *value = bpf_map_lookup_elem(&seen, &which);

	if (value)
		__sync_fetch_and_add(value, 1);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int first(struct __sk_buff *skb)
{
	return count(0);
}

SEC("tc")
int second(struct __sk_buff *skb)
{
	return count(1);
}

SEC("tc")
int stop(struct __sk_buff *skb)
{
	return TC_ACT_SHOT;
}
