// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A sockhash of the established connections of a cgroup, whose messages are dropped while a program is attached to it; an iterator. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

SEC("sockops")
int enrol(struct bpf_sock_ops *ctx)
{
	__u32 key = ctx->local_port;

	if (ctx->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
		bpf_sock_hash_update(ctx, &sockets, &key, BPF_ANY);
	return 1;
}

SEC("sk_msg")
int drop(struct sk_msg_md *ctx)
{
	return SK_DROP;
}

#define CORE __attribute__((preserve_access_index))
struct seq_file {
} CORE;
struct sock_common {
	unsigned short skc_num;
	volatile unsigned char skc_state;
} CORE;
struct bpf_iter_meta {
	struct seq_file *seq;
} CORE;
struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
} CORE;

SEC("iter/tcp")
int listening(struct bpf_iter__tcp *ctx)
{
	struct sock_common *socket = ctx->sk_common;

	if (socket && socket->skc_state == 10 /* TCP_LISTEN */)
		BPF_SEQ_PRINTF(ctx->meta->seq, "%d\n", socket->skc_num);
	return 0;
}
