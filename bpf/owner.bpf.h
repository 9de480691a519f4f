/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whose socket is it? iptables' `-m owner` compares the credentials of the socket's *file* (sk_socket->file->f_cred), which are those of the
 * process that made the socket, not of the one that connects. They are read with CO-RE; where the kernel does not let us (no CAP_PERFMON,
 * lockdown), the caller's own ids are the fallback.
 */
#ifndef MERBRIDGE_OWNER_H
#define MERBRIDGE_OWNER_H

#include "common.bpf.h"

/* The few kernel fields that are read; offsets are relocated at load. */
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

struct sock {
	struct socket *sk_socket;
};
#pragma clang attribute pop

struct owner {
	__u32 uid;
	__u32 gid;
	__u32 known; /* 0: a socket without a file (the kernel's own): no owner rule matches it, as with iptables */
};

/*
 * The verifier forbids arithmetic on a socket pointer, so it takes a way through a map. A program can be preempted between the store and the
 * load by another one on this CPU; the comparison with the register shows that, and the second value is one the compiler cannot fold back.
 */
static __always_inline __u64 address_of(void *sk)
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
			return number;
	}
	return 0;
}

static __always_inline int read_file_owner(void *sk, struct owner *owner)
{
	struct sock *sock = (struct sock *)address_of(sk);
	struct socket *socket = 0;
	struct file *file = 0;
	const struct cred *cred = 0;

	if (!sock || bpf_core_read(&socket, sizeof(socket), &sock->sk_socket))
		return -1;
	if (!socket)
		return 0;
	if (bpf_core_read(&file, sizeof(file), &socket->file))
		return -1;
	if (!file)
		return 0;
	if (bpf_core_read(&cred, sizeof(cred), &file->f_cred) || !cred)
		return -1;
	if (bpf_core_read(&owner->uid, sizeof(owner->uid), &cred->fsuid.val) || bpf_core_read(&owner->gid, sizeof(owner->gid), &cred->fsgid.val))
		return -1;
	owner->known = 1;
	return 0;
}

static __always_inline struct owner socket_owner(void *sk)
{
	struct owner owner = {};

	if (read_file_owner(sk, &owner)) {
		__u64 ids = bpf_get_current_uid_gid();

		owner.uid = (__u32)ids;
		owner.gid = ids >> 32;
		owner.known = 1;
	}
	return owner;
}

#endif
