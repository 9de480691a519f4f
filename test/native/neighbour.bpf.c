// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Somebody else's programs at the same hooks: they count, ask for callbacks of their own, and answer the kernel. */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum { RTT, CONNECT, COUNTS };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static void count(__u32 index)
{
	__u64 *value = bpf_map_lookup_elem(&counts, &index);

	if (value)
		__sync_fetch_and_add(value, 1);
}

SEC("sockops")
int theirs(struct bpf_sock_ops *ctx)
{
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_RTT_CB_FLAG);
		break;
	case BPF_SOCK_OPS_NEEDS_ECN:
		ctx->reply = 1; /* yes */
		break;
	case BPF_SOCK_OPS_RTT_CB:
		if (bpf_ntohl(ctx->remote_port) == 15001) /* of a redirected client */
			count(RTT);
		break;
	}
	return 1;
}

SEC("cgroup/connect4")
int their_connect(struct bpf_sock_addr *ctx)
{
	count(CONNECT);
	return 1;
}
