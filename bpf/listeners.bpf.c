// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * iter/tcp: registers proxies that listened before their pod was enrolled. Read inside the pod's namespace, to the end. The kernel may show a
 * socket twice (when its buffer overflows); a listener in two slots does no harm: both go when it closes.
 */
#include "common.bpf.h"

#define TCP_LISTEN 10

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct net {
	__u64 net_cookie;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	__u16 skc_num;
	unsigned char skc_state;
	possible_net_t skc_net;
};

struct bpf_iter__tcp {
	struct sock_common *sk_common;
};
#pragma clang attribute pop

SEC("iter/tcp")
int mb_listeners(struct bpf_iter__tcp *ctx)
{
	struct sock_common *skc = ctx->sk_common;
	struct listener_key key = {};
	struct proxy_port port = {};

	if (!skc || skc->skc_state != TCP_LISTEN)
		return 0;
	port.netns = skc->skc_net.net->net_cookie;
	port.port = bpf_htons(skc->skc_num);
	if (!bpf_map_lookup_elem(&proxy_ports, &port))
		return 0;
	key.netns = port.netns;
	key.port = port.port;
#pragma clang loop unroll(disable)
	for (int slot = 0; slot < MAX_SLOTS; slot++) {
		long error;

		key.slot = slot;
		error = bpf_map_update_elem(&listeners, &key, skc, BPF_NOEXIST);
		if (!error)
			return 0;
		if (error != -17) { /* EEXIST */
			count_reason(port.netns, REASON_LISTENER);
			return 0;
		}
	}
	count_reason(port.netns, REASON_SLOTS_FULL);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
