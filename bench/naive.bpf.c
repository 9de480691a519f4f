// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * For comparison only: how sockets of a node are joined where nobody looks at what it does to them. Every established TCP socket of the cgroup goes
 * into a sockhash under its addresses and ports; what it sends goes to the queue of the socket with the same ones the other way round, whatever that
 * one is and whatever is in flight. It loses, reorders and hangs; nothing of it is in the product.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define AF_INET 2
#define AF_INET6 10

/* IPv4 as mapped IPv6; network order. Ports in host order. */
struct tuple {
	__u32 local[4], remote[4];
	__u32 local_port, remote_port;
};

enum naive_count {
	SOCKETS,
	REDIRECTED, /* messages */
	REDIRECTED_BYTES,
	PASSED, /* messages of sockets whose peer is not in the sockhash */
	COUNTS,
};

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 65535);
	__type(key, struct tuple);
	__type(value, __u32);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static __always_inline void add(__u32 index, __u64 number)
{
	__u64 *value = bpf_map_lookup_elem(&counts, &index);

	if (value)
		*value += number;
}

/* Or the compiler makes one load of two, from a computed address, which the verifier refuses in a context. */
#define apart() asm volatile("" ::: "memory")

#define COPY6(to, from)                                                                                                                              \
	do {                                                                                                                                         \
		(to)[0] = (from)[0];                                                                                                                 \
		(to)[1] = (from)[1];                                                                                                                 \
		(to)[2] = (from)[2];                                                                                                                 \
		(to)[3] = (from)[3];                                                                                                                 \
	} while (0)

/* Both contexts have the same fields; `a` is what the key calls the socket's own half, `b` what it calls its peer's. */
#define FILL(key, ctx, a, b)                                                                                                                         \
	do {                                                                                                                                         \
		if ((ctx)->family == AF_INET) {                                                                                                      \
			(key).a[2] = (key).b[2] = bpf_htonl(0xffff);                                                                                 \
			(key).a[3] = (ctx)->local_ip4;                                                                                               \
			(key).b[3] = (ctx)->remote_ip4;                                                                                              \
			apart();                                                                                                                     \
		} else {                                                                                                                             \
			COPY6((key).a, (ctx)->local_ip6);                                                                                            \
			COPY6((key).b, (ctx)->remote_ip6);                                                                                           \
		}                                                                                                                                    \
		(key).a##_port = (ctx)->local_port;                                                                                                  \
		(key).b##_port = bpf_ntohl((ctx)->remote_port);                                                                                      \
	} while (0)

SEC("sockops")
int naive_enrol(struct bpf_sock_ops *ctx)
{
	struct tuple key = {};

	if (ctx->op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB && ctx->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		return 1;
	if (ctx->family != AF_INET && ctx->family != AF_INET6)
		return 1;
	FILL(key, ctx, local, remote);
	if (!bpf_sock_hash_update(ctx, &sockets, &key, BPF_ANY))
		add(SOCKETS, 1);
	return 1;
}

SEC("sk_msg")
int naive_redirect(struct sk_msg_md *msg)
{
	struct tuple peer = {};

	FILL(peer, msg, remote, local);
	if (bpf_msg_redirect_hash(msg, &sockets, &peer, BPF_F_INGRESS) != SK_PASS) {
		add(PASSED, 1);
		return SK_PASS;
	}
	add(REDIRECTED, 1);
	add(REDIRECTED_BYTES, msg->size);
	return SK_PASS;
}
