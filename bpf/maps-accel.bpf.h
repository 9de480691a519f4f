/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The maps of acceleration; maps.bpf.h says how to read this. */
#ifndef MERBRIDGE_MAPS_ACCEL_H
#define MERBRIDGE_MAPS_ACCEL_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "contract.h"

/* netns cookie -> mode and proxy of the pod. Written by the agent; read by sock_ops, the sk_msg program and mb_late. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct accelerated);
} accelerated __weak SEC(".maps");

/* 0 -> budget and switch. Written by the agent; read by the sk_msg program. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct accel_settings);
} accel_settings __weak SEC(".maps");

/* pair, side -> socket. Written by the iterators mb_late and mb_drain; read by the redirect. A socket leaves only when nothing waits in its queue. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 131072);
	__type(key, struct joined_key);
	__type(value, __u64);
} joined __weak SEC(".maps");

/* pair -> both ends. Written by sock_ops, the tracepoint, the sk_msg program and the iterators; swept by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 131072);
	__type(key, struct pair_key);
	__type(value, struct pair);
} pairs __weak SEC(".maps");

/* socket -> which end of which connection. Made by sock_ops; noted in and read by the tracepoint, the sk_msg program and mb_late. Lives and dies with
 * the socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct membership);
} sides __weak SEC(".maps");

/*
 * 8 bytes: enum accel_ask, for mb_late; or a netns cookie: a reader there stands still (mb_nudge). Written by the tracepoint, the sk_msg program and
 * mb_late. When there is no room, the next one tells.
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} readers __weak SEC(".maps");

/* 0 -> the program that decides about messages. Written by the agent: live sockets keep the program they were joined with, which is a stub that calls
 * this. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} accelerators __weak SEC(".maps");

/* executable -> can it splice. Entered when a socket of it is read for the first time; judged by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct program_key);
	__type(value, struct program);
} programs __weak SEC(".maps");

/* 0 -> another number whenever a verdict in `programs` may have changed: what was looked up before is looked up again. Written by the tracepoint at
 * the first splice() and by mb_late, which the agent reads after it has judged; read by the sk_msg program. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} verdicts __weak SEC(".maps");

/* pod, reason -> messages and bytes. Written by the sk_msg program, sock_ops and mb_late; read and tidied by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct accel_key);
	__type(value, struct accel_count);
} accel_counters __weak SEC(".maps");

/* netns cookie -> 1: `merbridge accelerate off POD`. Written and read by the agent alone, also by that of a later version: the shape stays. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u32);
} halted __weak SEC(".maps");

#endif
