// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * cgroup/setsockopt: a redirected socket gets no source route. Connect refuses sockets that have one; set later, it would lead the connection's
 * packets past the proxy, to whoever the app names. A socket that was never redirected may do as it likes.
 */
#include "common.bpf.h"

#define SOL_IP 0
#define SOL_IPV6 41
#define IP_OPTIONS 4
#define IPV6_2292PKTOPTIONS 6
#define IPV6_2292RTHDR 5
#define IPV6_RTHDR 57
#define KERNEL_BUFFER 4096 /* more than a page is not passed to programs */

static __always_inline int is_source_route(int level, int name)
{
	if (level == SOL_IP)
		return name == IP_OPTIONS;
	return level == SOL_IPV6 && (name == IPV6_RTHDR || name == IPV6_2292RTHDR || name == IPV6_2292PKTOPTIONS);
}

SEC("cgroup/setsockopt")
int mb_setsockopt(struct bpf_sockopt *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	if (sk && ctx->optlen > 0 && is_source_route(ctx->level, ctx->optname)) {
		struct origin *origin = bpf_sk_storage_get(&origins, sk, 0, 0);

		if (origin && origin->role == ROLE_CLIENT)
			return REFUSE; /* EPERM */
	}
	/* The kernel takes the app's own buffer, also where it is longer than what was copied for programs. */
	if (ctx->optlen > KERNEL_BUFFER)
		ctx->optlen = 0;
	return PROCEED;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
