// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * cgroup/getsockopt: SO_ORIGINAL_DST, as conntrack answers it under iptables. This program runs for every getsockopt of every process of the
 * node (about 0.3 us each), so it leaves at once for anything else, and it never changes another option's answer.
 */
#include "common.bpf.h"

#define SOL_IP 0
#define SO_ORIGINAL_DST 80
#define KERNEL_BUFFER 4096 /* more than a page is not passed to programs: the answer would be lost */

struct sockaddr4 {
	__u16 family;
	__be16 port;
	__be32 addr;
	__u8 zero[8];
};

/*
 * The kernel's own answer stays. Length 0 says so: some kernels (5.10; 5.15 and 6.1 before their fixes) otherwise fail every option whose buffer is
 * longer than a page with EFAULT, such as the list of rules that iptables reads.
 */
static __always_inline int not_ours(struct bpf_sockopt *ctx)
{
	if (ctx->optlen > KERNEL_BUFFER)
		ctx->optlen = 0;
	return PROCEED;
}

SEC("cgroup/getsockopt")
int mb_getsockopt(struct bpf_sockopt *ctx)
{
	struct sockaddr4 *answer;
	struct origin *origin;

	if (ctx->optname != SO_ORIGINAL_DST || ctx->level != SOL_IP || !ctx->sk)
		return not_ours(ctx);
	origin = bpf_sk_storage_get(&origins, ctx->sk, 0, 0);
	if (!origin || origin->role == ROLE_NONE || origin->family != FAMILY_IPV4)
		return not_ours(ctx);
	/* Not redirected by us: where the kernel has an answer (a pod with iptables rules of its own), that is the right one. */
	if (origin->role != ROLE_CLIENT && origin->role != ROLE_ACCEPTED && ctx->retval == 0)
		return not_ours(ctx);
	answer = ctx->optval;
	if ((void *)(answer + 1) > ctx->optval_end || ctx->optlen < (int)sizeof(*answer)) {
		/* What netfilter says to a buffer that is too small. Linux 5.18; else the kernel's own error stays. */
		if (can(ABILITY_SET_RETVAL))
			set_retval(-EINVAL);
		return PROCEED;
	}
	answer->family = AF_INET;
	answer->port = origin->port;
	answer->addr = origin->addr[0];
	__builtin_memset(answer->zero, 0, sizeof(answer->zero));
	if (ctx->optlen > KERNEL_BUFFER)
		ctx->optlen = sizeof(*answer);
	compiler_barrier(); /* optlen and retval fused into one 8-byte store are refused by the verifier */
	ctx->retval = 0;
	return PROCEED;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
