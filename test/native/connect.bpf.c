// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* IPv4 connects of a cgroup: allowed, refused, counted, reported, passed on by a tail call, or very slow. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum { REFUSE = 0, ALLOW = 1 };

volatile const __u32 step = 1;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} steps SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} records SEC(".maps");

static void count(__u32 index)
{
	__u64 *value = bpf_map_lookup_elem(&counts, &index);

	if (value)
		__sync_fetch_and_add(value, step);
}

SEC("cgroup/connect4")
int allow(struct bpf_sock_addr *ctx)
{
	count(0);
	return ALLOW;
}

SEC("cgroup/connect4")
int refuse(struct bpf_sock_addr *ctx)
{
	count(1);
	return REFUSE;
}

SEC("cgroup/connect4")
int tail(struct bpf_sock_addr *ctx)
{
	bpf_tail_call(ctx, &steps, 0);
	return ALLOW; /* the slot is empty */
}

SEC("cgroup/connect4")
int report(struct bpf_sock_addr *ctx)
{
	__u32 *port = bpf_ringbuf_reserve(&records, sizeof(*port), 0);

	if (port) {
		*port = ctx->user_port;
		bpf_ringbuf_submit(port, 0);
	}
	return ALLOW;
}

static long spin(__u32 index, void *context)
{
	return 0;
}

static long spin_long(__u32 index, void *context)
{
	bpf_loop(1 << 20, spin, 0, 0);
	return 0;
}

/* counts[2] is 1 while it runs. */
SEC("cgroup/connect4")
int slow(struct bpf_sock_addr *ctx)
{
	__u32 index = 2;
	__u64 *running = bpf_map_lookup_elem(&counts, &index);

	if (!running)
		return REFUSE;
	__atomic_exchange_n(running, 1, __ATOMIC_SEQ_CST);
	bpf_loop(48, spin_long, 0, 0);
	__atomic_exchange_n(running, 0, __ATOMIC_SEQ_CST);
	return ALLOW;
}
