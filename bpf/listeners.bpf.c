// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * iter/tcp: registers proxies that listened before their pod was enrolled. Read inside the pod's namespace, to the end. The kernel may show a
 * socket twice (when its buffer overflows); a listener in two slots does no harm: both go when it closes.
 */
#include "kernel.bpf.h"

#define TCP_LISTEN 10

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct bpf_iter__tcp {
	struct sock_common *sk_common;
};
#pragma clang attribute pop

static __always_inline __u64 netns_of(struct sock_common *skc)
{
	struct net *net = skc->skc_net.net;

	return cookie_is_atomic() ? ((struct net___before_5_12 *)net)->net_cookie.counter : net->net_cookie;
}

SEC("iter/tcp")
int mb_listeners(struct bpf_iter__tcp *ctx)
{
	struct sock_common *skc = ctx->sk_common;
	struct listener_key key = {};
	struct proxy_port port = {};

	if (!skc || skc->skc_state != TCP_LISTEN)
		return 0;
	port.netns = netns_of(skc);
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
			count_reason(port.netns, REASON_LISTENER, 0);
			return 0;
		}
	}
	count_reason(port.netns, REASON_SLOTS_FULL, 0);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
