// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The verifier refuses it: the looked up value may be missing. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} values SEC(".maps");

SEC("cgroup/connect4")
int unchecked(struct bpf_sock_addr *ctx)
{
	__u32 zero = 0;
	__u64 *value = bpf_map_lookup_elem(&values, &zero);

	return *value & 1;
}

SEC("cgroup/connect4")
int sound(struct bpf_sock_addr *ctx)
{
	return 1;
}
