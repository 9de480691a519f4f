/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * All maps. Elements are allocated as they are used, unless it says otherwise, so the capacities cost nothing until then. "agent" is user space.
 * __weak: each hook is compiled alone and bpftool links the objects into one.
 */
#ifndef MERBRIDGE_MAPS_H
#define MERBRIDGE_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "contract.h"

/* netns cookie -> pod. Written by the agent; read by every hook. Not there: the pod is not enrolled and nothing happens to it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct pod);
} pods __weak SEC(".maps");

/* netns cookie -> 1: the pod has or had NAT rules of its own: they may redirect what this datapath has not. Written by the agent; read by sock_ops
 * and sk_lookup. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u32);
} nat_pods __weak SEC(".maps");

/* policy id -> policy. Written by the agent; read by connect and sk_lookup. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct policy);
} policies __weak SEC(".maps");

/* policy, port -> named sets. Written by the agent; read by connect and sk_lookup. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, struct port_key);
	__type(value, struct members);
} port_sets __weak SEC(".maps");

/* policy, uid | gid | cgroup | interface -> named sets. Written by the agent; read by connect and sk_lookup. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, struct owner_key);
	__type(value, struct members);
} owner_sets __weak SEC(".maps");

/* policy, end, address -> named sets. Written by the agent; read by connect and sk_lookup. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1048576);
	__type(key, struct cidr_key);
	__type(value, struct members);
} cidr_sets __weak SEC(".maps");

/* pod, address -> route. Written by the agent; read by connect and sk_lookup. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, struct route_key);
	__type(value, struct route);
} routes __weak SEC(".maps");

/* pod, port -> 1. Written by the agent; read when a socket starts to listen. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct proxy_port);
	__type(value, __u32);
} proxy_ports __weak SEC(".maps");

/* pod, port, slot -> listening socket. Written by sock_ops and by the iterator; read by sk_lookup. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 65536);
	__type(key, struct listener_key);
	__type(value, __u64);
} listeners __weak SEC(".maps");

/* socket -> origin. Written by connect and sock_ops; read by getpeername and getsockopt. Lives and dies with the socket. An MPTCP client has two: its
 * subflow's, which connect writes, and its own, where sock_ops puts a copy. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct origin);
} origins __weak SEC(".maps");

/*
 * 4-tuple -> origin, while a connection is being made. Written and removed by sock_ops, swept by the agent. Never an LRU: eviction would be a wrong
 * answer. The one map that is allocated in advance (20 MB), because an allocation that fails would refuse a connection.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__type(key, struct tuple);
	__type(value, struct handover);
} handovers __weak SEC(".maps");

/* id -> who asked whom. Written by sendmsg and connect, read by the program at lo; idle ones are removed by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, __u32);
	__type(value, struct asker);
} askers __weak SEC(".maps");

/* netns cookie -> how many ids the pod has in askers. Counted by sendmsg and connect, put right by the agent when it sweeps. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __s64);
} asker_counts __weak SEC(".maps");

/* UDP socket -> whom it asked. Written by sendmsg and connect; read by recvmsg and getsockname. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct asked);
} asked __weak SEC(".maps");

/* netns cookie -> how many hand-overs the pod has. Counted by sock_ops, read by connect, put right by the agent when a foreign program made it drift.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __s64);
} pending __weak SEC(".maps");

/* pod, policy, rule or reason -> how often. Written by every hook; read and tidied by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, struct counter_key);
	__type(value, __u64);
} counters __weak SEC(".maps");

/* One slot per CPU to turn a socket pointer into a number (owner.bpf.h). */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} pointers __weak SEC(".maps");

/*
 * socket cookie -> netns cookie, of the agent's own sockets. Written when they are created (cookie.bpf.c), read and removed by the agent at once. An
 * evicted entry is a question without an answer, which the agent asks again.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, __u64);
	__type(value, __u64);
} cookies __weak SEC(".maps");

/* 0 -> what is watched. Written by the agent while somebody watches; read by connect and sk_lookup. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct monitoring);
} monitoring __weak SEC(".maps");

/* Decisions that are watched, as struct event. Written by connect and sk_lookup; read by the agent. Bytes: room for about 1,700 of them. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 262144);
} events __weak SEC(".maps");

/* 0 -> how many events found no room. Written by connect and sk_lookup; read by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} events_lost __weak SEC(".maps");

/* What the agent has put at the lo of pods -> 1. Written and read by the agent alone. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 32768);
	__type(key, struct added);
	__type(value, __u32);
} added __weak SEC(".maps");

/* 0 -> meta. Written and read by the agent alone. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct meta);
} meta __weak SEC(".maps");

#include "maps-accel.bpf.h"

#endif
