/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Fields of the kernel's own structs, read with CO-RE: offsets are relocated at load. Only where abilities say that kernel memory may be read
 * (CAP_PERFMON, no lockdown "confidentiality"); elsewhere the branches around these reads are dead, and the verifier never sees them.
 */
#ifndef MERBRIDGE_KERNEL_H
#define MERBRIDGE_KERNEL_H

#include "common.bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
typedef struct {
	__u32 val;
} kuid_t;

typedef struct {
	__u32 val;
} kgid_t;

struct cred {
	kuid_t fsuid;
	kgid_t fsgid;
};

struct file {
	const struct cred *f_cred;
};

struct socket {
	struct file *file;
};

/* Since Linux 5.12 a number that every namespace has from its beginning. */
struct net {
	__u64 net_cookie;
};

typedef struct {
	__s64 counter;
} atomic64_t;

/* Before: 0 until somebody asks for it. The agent asks when it looks at a pod's namespace, so an enrolled pod has one. */
struct net___before_5_12 {
	atomic64_t net_cookie;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	__u16 skc_num;
	unsigned char skc_state;
	unsigned char skc_reuse : 4;
	unsigned char skc_reuseport : 1;
	unsigned char skc_ipv6only : 1;
	possible_net_t skc_net;
};

struct sock {
	struct sock_common __sk_common;
	struct socket *sk_socket;
};

/* The sockets of the connection; its first subflow is the one that the app's connect() makes. */
struct mptcp_sock {
	struct sock *first;
};

/* Before the SYN is made, its sequence number. */
struct tcp_sock {
	__u32 write_seq;
	unsigned char repair : 1;
};

struct ip_options {
	unsigned char srr;
};

struct ip_options_rcu {
	struct ip_options opt;
};

struct ipv6_txoptions {
	void *srcrt;
};

struct ipv6_pinfo {
	struct ipv6_txoptions *opt;
};

struct inet_sock {
	struct ip_options_rcu *inet_opt;
	struct ipv6_pinfo *pinet6;
};
#pragma clang attribute pop

static __always_inline int cookie_is_atomic(void)
{
	return bpf_core_field_exists(((struct net___before_5_12 *)0)->net_cookie.counter);
}

/*
 * The verifier forbids arithmetic on a socket pointer, so it takes a way through a map. A program can be preempted between the store and the
 * load by another one on this CPU; the comparison with the register shows that, and the second value is one the compiler cannot fold back.
 */
static __always_inline struct sock *address_of(void *sk)
{
	__u32 zero = 0;
	__u64 *slot = bpf_map_lookup_elem(&pointers, &zero);

	if (!slot)
		return 0;
	for (int attempt = 0; attempt < 4; attempt++) {
		__u64 seen, number;

		*(volatile __u64 *)slot = (__u64)sk;
		seen = READ_ONCE(*slot);
		number = seen;
		opaque(number);
		if (seen == (__u64)sk)
			return (struct sock *)number;
	}
	return 0;
}

/* 0: not known; no namespace has that cookie. */
static __always_inline __u64 read_netns_cookie(void *sk)
{
	struct sock *sock = address_of(sk);
	struct net *net = 0;
	__u64 cookie = 0;

	if (!sock || bpf_core_read(&net, sizeof(net), &sock->__sk_common.skc_net.net))
		return 0;
	if (cookie_is_atomic())
		bpf_core_read(&cookie, sizeof(cookie), &((struct net___before_5_12 *)net)->net_cookie.counter);
	else
		bpf_core_read(&cookie, sizeof(cookie), &net->net_cookie);
	return cookie;
}

/* In BPF_SOCK_OPS_TCP_CONNECT_CB: the sequence number of the SYN that will be sent; 0: not known. */
static __always_inline __u32 read_syn_sequence(void *sk)
{
	struct tcp_sock *tcp = (struct tcp_sock *)address_of(sk);
	__u32 sequence = 0;

	return tcp && !bpf_core_read(&sequence, sizeof(sequence), &tcp->write_seq) ? sequence : 0;
}

/* TCP_REPAIR, as CRIU restores connections: connect() only sets the socket's state, and no packet is made that could reach a proxy. */
static __always_inline int is_under_repair(void *sk)
{
	struct tcp_sock *tcp = (struct tcp_sock *)address_of(sk);

	return tcp ? BPF_CORE_READ_BITFIELD_PROBED(tcp, repair) : 0;
}

/* An AF_INET6 socket that takes no IPv4: a mapped destination is unreachable for it. */
static __always_inline int is_ipv6_only(void *sk)
{
	struct sock *sock = address_of(sk);

	return sock ? BPF_CORE_READ_BITFIELD_PROBED(sock, __sk_common.skc_ipv6only) : 0;
}

/* SO_REUSEADDR or SO_REUSEPORT: another socket may have the same port. 1 where it cannot be read. */
static __always_inline int may_share_port(void *sk)
{
	struct sock *sock = address_of(sk);

	return !sock || BPF_CORE_READ_BITFIELD_PROBED(sock, __sk_common.skc_reuse) || BPF_CORE_READ_BITFIELD_PROBED(sock, __sk_common.skc_reuseport);
}

static __always_inline int has_route_option(struct inet_sock *inet)
{
	struct ip_options_rcu *options = 0;
	unsigned char srr = 0;

	if (bpf_core_read(&options, sizeof(options), &inet->inet_opt) || !options)
		return 0;
	return bpf_core_read(&srr, sizeof(srr), &options->opt.srr) || srr;
}

static __always_inline int has_routing_header(struct inet_sock *inet)
{
	struct ipv6_pinfo *six = 0;
	struct ipv6_txoptions *options = 0;
	void *route = 0;

	if (bpf_core_read(&six, sizeof(six), &inet->pinet6) || !six)
		return 0;
	if (bpf_core_read(&options, sizeof(options), &six->opt) || !options)
		return 0;
	return bpf_core_read(&route, sizeof(route), &options->srcrt) || route;
}

/*
 * A strict or loose source route (IP_OPTIONS), or a routing header (IPV6_RTHDR): the kernel sends to its first hop, wherever the connection is
 * rewritten to.
 */
static __always_inline int has_source_route(void *sk, int six)
{
	struct inet_sock *inet = (struct inet_sock *)address_of(sk);

	return inet ? (six ? has_routing_header(inet) : has_route_option(inet)) : 0;
}

#endif
