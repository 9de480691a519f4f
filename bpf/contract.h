/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The contract between the kernel programs and the agent: the only definition of every struct, enum and limit that crosses the boundary.
 * core/contract.ts is generated from the BTF of this file; CI regenerates it and fails on a difference.
 *
 * Byte order: __be16 and __be32 are network order, everything else is the host's. An address is always four words: IPv4 in the first word with
 * the other three zero, IPv6 in all four. No mesh's name occurs here: meshes differ only in what is written into the maps.
 */
#ifndef MERBRIDGE_CONTRACT_H
#define MERBRIDGE_CONTRACT_H

#include <linux/types.h>

/* Sizes that user space must not exceed. Capacities of maps are in maps.bpf.h and are read from the maps themselves. */
enum limit {
	MAX_RULES = 64,	     /* rules of one direction of one policy */
	MAX_TARGETS = 16,    /* rows of a policy's table of targets */
	MAX_MARKS = 8,	     /* socket-mark matchers of one policy */
	MAX_SLOTS = 64,	     /* listeners of one SO_REUSEPORT group that are remembered */
	MAX_PENDING = 16384, /* connections of one pod that are being made: an eighth of handovers, so that no pod takes the others' share */
};

/*
 * What this kernel lets the programs do. The agent probes it and writes it into .rodata.abilities (one __u64, these bits or-ed) before it loads
 * them: a constant, so that the verifier never sees the branches that this kernel would refuse.
 */
enum ability {
	ABILITY_SET_RETVAL = 1,	    /* bpf_set_retval in connect and getsockopt hooks (Linux 5.18): a refusal has any errno */
	ABILITY_SOCKOPS_COOKIE = 2, /* bpf_get_netns_cookie in sock_ops (5.15) */
	ABILITY_KERNEL_READS = 4,   /* bpf_probe_read_kernel: needs CAP_PERFMON, and no lockdown "confidentiality" */
	ABILITY_ARRIVAL = 8,	    /* ingress_ifindex in sk_lookup (5.17): the interface by which a connection came in */
	ABILITY_MPTCP = 16,	    /* bpf_skc_to_mptcp_sock (5.19): from a subflow to the socket that the app has */
	ABILITY_JOIN = 32,	    /* everything that acceleration needs (core/features/acceleration.ts): sockets are joined */
	ABILITY_CHARGED = 64,	    /* redirected bytes are charged to the receiver (6.13): sk_rmem_alloc is what waits there */
};

/* Address family as the datapath means it: an IPv4-mapped IPv6 address counts as FAMILY_IPV4. */
enum family {
	FAMILY_IPV4 = 4,
	FAMILY_IPV6 = 6,
};

/*
 * Bit numbers of the 64-bit fact word of one connection (or one UDP flow). Bits from FACT_SET upwards are the policy's named sets: bit
 * FACT_SET + i is on when the connection is in set i.
 */
enum fact {
	FACT_TCP = 0,
	FACT_UDP = 1,
	FACT_IPV6 = 2,		   /* off: IPv4, or IPv4 in a mapped IPv6 address */
	FACT_TO_POD = 3,	   /* destination is local to the pod, what iptables calls `-o lo`: 127/8, ::1, 0.0.0.0, ::, every own address */
	FACT_TO_LOOPBACK = 4,	   /* destination is exactly 127.0.0.1 or ::1 */
	FACT_FROM_PASSTHROUGH = 5, /* source is bound to 127.0.0.6 or ::6, the address a sidecar uses for calls it has already handled */
	FACT_FROM_LOOPBACK = 6,	   /* source is bound to any other address of 127/8, or to ::1 */
	FACT_SET = 16,		   /* first bit of the named sets */
	FACT_BITS = 64,
};

enum verdict {
	VERDICT_PASS = 0,   /* leave the connection as it is */
	VERDICT_DROP = 1,   /* refuse it */
	VERDICT_TARGET = 2, /* send it to a row of the table of targets */
};

/* One row of the ternary match: it decides when (facts & mask) == value. */
struct rule {
	__u64 mask;
	__u64 value;
	enum verdict verdict;
	__u32 target; /* row of policy.targets, for VERDICT_TARGET */
};
_Static_assert(sizeof(struct rule) == 24, "rule");

/* Where a connection is sent. addr4 and addr6 are used according to the family of the connection; a family without its bit refuses. */
struct target {
	__be32 addr4;	 /* 127.0.0.1 for a proxy in the pod */
	__be16 port;	 /* 15001; 0 keeps the port that was asked for */
	__u16 families;	 /* bit 0: addr4 is valid, bit 1: addr6 is valid */
	__be32 addr6[4]; /* ::1 */
};
_Static_assert(sizeof(struct target) == 24, "target");

enum target_family { TARGET_IPV4 = 1, TARGET_IPV6 = 2 };

/* Socket mark under a mask, as `-m mark --mark value/mask`: sets are on when (mark & mask) == value. */
struct mark {
	__u32 value;
	__u32 mask;
	__u64 sets;
};
_Static_assert(sizeof(struct mark) == 16, "mark");

/* Bits of policy.lookups: which kinds of sets the policy has, so that a program asks only for those. */
enum lookup {
	LOOKUP_PORTS = 1,
	LOOKUP_UIDS = 2,
	LOOKUP_GIDS = 4,
	LOOKUP_DEST = 8,
	LOOKUP_SOURCE = 16,
	LOOKUP_CGROUPS = 32,
	LOOKUP_LEAVES = 64,
	LOOKUP_ARRIVES = 128,
	LOOKUP_UDP = 256, /* some outbound rule does not let all UDP pass; without it UDP is not looked at */
};

/* policies: id -> policy. Immutable: the id is the first 8 bytes of the SHA-256 of its content and of the content of its sets. */
struct policy {
	__u16 outbound_rules; /* how many of outbound[] are used */
	__u16 inbound_rules;
	__u16 targets_used;
	__u16 marks_used;
	__u32 lookups; /* enum lookup, or-ed */
	__u32 _pad;
	struct rule outbound[MAX_RULES]; /* first match wins; no match passes */
	struct rule inbound[MAX_RULES];
	struct target targets[MAX_TARGETS];
	struct mark marks[MAX_MARKS];
};
_Static_assert(sizeof(struct policy) == 16 + 2 * 64 * 24 + 16 * 24 + 8 * 16, "policy");

/*
 * pods: netns cookie -> pod. The value repeats its key as the *first* field: a hash element may be reused for another pod while a program
 * still holds a pointer to it, so a program reads what it needs first and compares netns last.
 */
struct pod {
	__u64 netns;
	__u64 policy; /* key of policies */
};
_Static_assert(sizeof(struct pod) == 16, "pod");

/* port_sets: longest prefix -> sets. A range of ports is written as the prefixes that make it up. */
struct port_key {
	__u32 prefixlen; /* bits after this field: 96 + 0..16 */
	__u32 _pad;
	__u64 policy;
	__be16 port;
	__u8 _pad2[6];
};
_Static_assert(sizeof(struct port_key) == 24, "port_key");

enum owner_kind {
	OWNER_UID = 1,
	OWNER_GID = 2,
	OWNER_CGROUP = 3,
	OWNER_LEAVES = 4,  /* not whose, but which way: the interface by which a connection that the pod makes leaves */
	OWNER_ARRIVES = 5, /* the interface by which one from outside came in */
};

/* owner_sets: longest prefix -> sets. uid and gid: of the initial user namespace; cgroup: inode of its directory; interface: index in the pod. */
struct owner_key {
	__u32 prefixlen; /* 96 + 0..32 for uid, gid and interface, 96 + 64 for a cgroup */
	enum owner_kind kind;
	__u64 policy;
	__be32 id[2]; /* uid, gid or interface in id[0]; cgroup id as its high and low word */
};
_Static_assert(sizeof(struct owner_key) == 24, "owner_key");

enum cidr_kind { CIDR_DEST4 = 1, CIDR_DEST6 = 2, CIDR_SOURCE4 = 3, CIDR_SOURCE6 = 4 };

/* cidr_sets: longest prefix -> sets. */
struct cidr_key {
	__u32 prefixlen; /* 96 + prefix length of the CIDR */
	enum cidr_kind kind;
	__u64 policy;
	__be32 addr[4];
};
_Static_assert(sizeof(struct cidr_key) == 32, "cidr_key");

/* Value of port_sets, owner_sets and cidr_sets: bits FACT_SET.. of the fact word, including those of every shorter prefix. */
struct members {
	__u64 sets;
};

enum route_kind {
	ROUTE_LOCAL = 1,       /* an address of the pod: FACT_TO_POD */
	ROUTE_UNICAST = 2,     /* leaves the pod */
	ROUTE_UNREACHABLE = 3, /* routing fails with route.error */
};

/* routes: a mirror of a pod's routes, longest prefix -> route. No match: ENETUNREACH. */
struct route_key {
	__u32 prefixlen; /* 96 + prefix length of the route */
	enum family family;
	__u64 netns;
	__be32 addr[4];
};
_Static_assert(sizeof(struct route_key) == 32, "route_key");

struct route {
	enum route_kind kind;
	__u32 error;	  /* positive errno, for ROUTE_UNREACHABLE */
	__be32 source[4]; /* the source address that routing would choose; zero: none known */
	__u32 interface;  /* index of the route's own interface, of the first next hop; of a local route: the one that has the address; 0: none */
};
_Static_assert(sizeof(struct route) == 28, "route");

/* What this datapath did to a socket. */
enum role {
	ROLE_NONE = 0,
	ROLE_CLIENT = 1,   /* its connect was redirected; origin is where it wanted to go */
	ROLE_ACCEPTED = 2, /* accepted from such a client; origin is what that client asked for */
	ROLE_DIRECT = 3,   /* accepted in an enrolled pod without a redirect of the destination; origin is its own address */
	ROLE_INSIDE = 4,   /* passes to an address of its own pod that is not loopback; origin is that address */
};

/* origins: socket storage. The destination that was asked for, before any rewrite. */
struct origin {
	__be32 addr[4];
	__be16 port;
	__be16 sport;	    /* source port of a connection with a sequence number */
	enum family family; /* of addr */
	__u16 role;	    /* enum role */
	__u16 moved;	    /* of a client: its target's loopback address gave way to the pod's own, where the proxy need not listen */
	__u32 sequence;	    /* of the SYN, in a pod of nat_pods; 0: the 4-tuple alone names the connection */
	__be32 bound[4];    /* the source address that we bound last, undone when the socket is used again; zero: we never bound it */
};
_Static_assert(sizeof(struct origin) == 48, "origin");

/*
 * handovers: the 4-tuple on the wire -> origin, from the client's SYN until its peer is established or the client closes. origin.role is that of
 * the accepted socket: ROLE_ACCEPTED, or ROLE_DIRECT for a connection inside the pod that nobody redirected. With origin.sequence there is a second
 * entry: its source is the sequence number in the last word, and no port.
 */
struct tuple {
	__u64 netns;
	__be32 source[4];
	__be32 dest[4];
	__be16 sport;
	__be16 dport;
	enum family family;
};
_Static_assert(sizeof(struct tuple) == 48, "tuple");

struct handover {
	struct origin origin;
	__u64 created; /* nanoseconds of CLOCK_MONOTONIC; an old entry is swept by the agent */
};
_Static_assert(sizeof(struct handover) == 56, "handover");

/* listeners: sockhash of listening proxy sockets. Slots are tried in order; a closed listener leaves its slot by itself. */
struct listener_key {
	__u64 netns;
	__be16 port;
	__u16 slot;
	__u32 _pad;
};
_Static_assert(sizeof(struct listener_key) == 16, "listener_key");

/* proxy_ports: ports of an enrolled pod whose listeners are registered in listeners -> 1 (__u32). */
struct proxy_port {
	__u64 netns;
	__be16 port;
	__u8 _pad[6];
};
_Static_assert(sizeof(struct proxy_port) == 16, "proxy_port");

/* meta: array of one. */
struct meta {
	__u64 generation;  /* grows by one whenever pods join, leave or get other policies */
	__u8 programs[32]; /* SHA-256 of the object whose programs are attached */
	__u8 config[32];   /* SHA-256 of the configuration text that is in force */
};
_Static_assert(sizeof(struct meta) == 72, "meta");

#include "contract-events.h"
#include "contract-udp.h"
#include "contract-lo.h"
#include "contract-accel.h"

#endif
