// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * cgroup/sock_create: tells the agent the cookies of network namespaces, on kernels before 5.14, where no socket option does. The agent's thread
 * makes a UDP socket inside the namespace and reads the answer under that socket's own cookie. Asking also gives the namespace its cookie, which
 * before 5.12 it does not have before somebody asks. Attached while the agent runs, and only on such kernels.
 */
#include "common.bpf.h"

/* core/native/namespaces.h; another thread of that name does no harm: it cannot write under the cookie of a socket that is not its own. */
static const char cookie_thread[16] = "merbridge-netns";

SEC("cgroup/sock_create")
int mb_cookie(struct bpf_sock *ctx)
{
	char name[16] = {};
	__u64 socket, netns;

	if (bpf_get_current_comm(name, sizeof(name)))
		return PROCEED;
	for (int i = 0; i < (int)sizeof(name); i++)
		if (name[i] != cookie_thread[i])
			return PROCEED;
	socket = bpf_get_socket_cookie(ctx);
	netns = bpf_get_netns_cookie(ctx);
	bpf_map_update_elem(&cookies, &socket, &netns, BPF_ANY);
	return PROCEED;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
