// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Connections that reach a namespace: refused or let pass, as the constants of each copy say. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

volatile const __u32 slot SEC(".rodata.pod") = 0;
volatile const __u32 verdict SEC(".rodata.pod") = SK_PASS;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

SEC("sk_lookup")
int inbound(struct bpf_sk_lookup *ctx)
{
	__u32 key = slot;
	__u64 *value = bpf_map_lookup_elem(&seen, &key);

	if (value)
		__sync_fetch_and_add(value, 1);
	return verdict;
}

SEC("sk_lookup")
int plain(struct bpf_sk_lookup *ctx)
{
	return SK_PASS;
}

static long nothing(__u32 index, void *context)
{
	return 0;
}

SEC("sk_lookup")
int callback(struct bpf_sk_lookup *ctx)
{
	bpf_loop(1, nothing, 0, 0);
	return verdict;
}
