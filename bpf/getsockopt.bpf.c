// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * cgroup/getsockopt: SO_ORIGINAL_DST, as conntrack answers it under iptables. This program runs for every getsockopt of every process of the
 * node (about 0.3 us each), so it leaves at once for anything else, and it never changes another option's answer.
 */
#include "common.bpf.h"

#define SOL_IP 0
#define SOL_IPV6 41
#define SO_ORIGINAL_DST 80 /* IP6T_SO_ORIGINAL_DST has the same number */
#define KERNEL_BUFFER 4096 /* more than a page is not passed to programs: the answer would be lost */
#define ENOENT 2
#define ENOPROTOOPT 92

struct sockaddr4 {
	__u16 family;
	__be16 port;
	__be32 addr;
	__u8 zero[8];
};

struct sockaddr6 {
	__u16 family;
	__be16 port;
	__be32 flowinfo;
	__be32 addr[4];
	__u32 scope;
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

/* netfilter's error. Linux 5.18; else the kernel's own stays. */
static __always_inline int fail(struct bpf_sockopt *ctx, int error)
{
	if (can(ABILITY_SET_RETVAL))
		set_retval(-(__s64)error);
	return PROCEED;
}

static __always_inline int answered(struct bpf_sockopt *ctx, __u32 length)
{
	if (ctx->optlen > KERNEL_BUFFER)
		ctx->optlen = length;
	compiler_barrier(); /* optlen and retval fused into one 8-byte store are refused by the verifier */
	ctx->retval = 0;
	return PROCEED;
}

static __always_inline int answer4(struct bpf_sockopt *ctx, const struct origin *origin)
{
	struct sockaddr4 *answer = ctx->optval;

	if ((void *)(answer + 1) > ctx->optval_end || ctx->optlen < (int)sizeof(*answer))
		return fail(ctx, EINVAL);
	answer->family = AF_INET;
	answer->port = origin->port;
	answer->addr = origin->addr[0];
	__builtin_memset(answer->zero, 0, sizeof(answer->zero));
	return answered(ctx, sizeof(*answer));
}

static __always_inline int answer6(struct bpf_sockopt *ctx, const struct origin *origin)
{
	struct sockaddr6 *answer = ctx->optval;

	if ((void *)(answer + 1) > ctx->optval_end || ctx->optlen < (int)sizeof(*answer))
		return fail(ctx, EINVAL);
	answer->family = AF_INET6;
	answer->port = origin->port;
	answer->flowinfo = 0;
	copy_address(answer->addr, origin->addr);
	answer->scope = is_link_local(FAMILY_IPV6, origin->addr) ? ctx->sk->bound_dev_if : 0;
	return answered(ctx, sizeof(*answer));
}

/*
 * The level says which family is asked for, not the socket: the accepted socket of a dual-stack proxy is an AF_INET6 one whose IPv4 clients are asked
 * for with SOL_IP. The other family is ENOENT (nothing in conntrack), but for an AF_INET socket and SOL_IPV6, which the kernel answers itself.
 */
SEC("cgroup/getsockopt")
int mb_getsockopt(struct bpf_sockopt *ctx)
{
	struct origin *origin;
	enum family family;

	if (ctx->optname != SO_ORIGINAL_DST || (ctx->level != SOL_IP && ctx->level != SOL_IPV6) || !ctx->sk || ctx->sk->protocol == IPPROTO_UDP)
		return not_ours(ctx);
	origin = bpf_sk_storage_get(&origins, ctx->sk, 0, 0);
	if (!origin || origin->role == ROLE_NONE || (ctx->level == SOL_IPV6 && ctx->sk->family != AF_INET6))
		return not_ours(ctx);
	/* Not redirected by us: where the kernel has an answer (a pod with iptables rules of its own), that is the right one. */
	if (origin->role != ROLE_CLIENT && origin->role != ROLE_ACCEPTED && ctx->retval == 0)
		return not_ours(ctx);
	family = ctx->level == SOL_IPV6 ? FAMILY_IPV6 : FAMILY_IPV4;
	if (origin->family == family)
		return family == FAMILY_IPV6 ? answer6(ctx, origin) : answer4(ctx, origin);
	if (ctx->retval == -ENOPROTOOPT) {
		int wanted = family == FAMILY_IPV6 ? sizeof(struct sockaddr6) : sizeof(struct sockaddr4);

		fail(ctx, ctx->optlen < wanted ? EINVAL : ENOENT);
	}
	return not_ours(ctx);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
