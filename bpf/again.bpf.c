// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * cgroup/connect4 and connect6, acceleration's part: a socket that was disconnected (connect() to AF_UNSPEC) has no other connection while redirected
 * bytes of the former one are unread, or on the way: who reads would take them for the next one's. connect() gives EAGAIN until they are read;
 * without bpf_set_retval (Linux 5.18) EPERM.
 */
#include "psock.bpf.h"

#define EAGAIN 11

static __always_inline int connects_again(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct membership *member = sk ? bpf_sk_storage_get(&sides, sk, 0, 0) : 0;

	if (!member || !member->joined || is_left(address_of(sk)))
		return PROCEED;
	if (can(ABILITY_SET_RETVAL))
		fail_with(EAGAIN);
	return REFUSE;
}

SEC("cgroup/connect4")
int mb_again4(struct bpf_sock_addr *ctx)
{
	return connects_again(ctx);
}

SEC("cgroup/connect6")
int mb_again6(struct bpf_sock_addr *ctx)
{
	return connects_again(ctx);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
