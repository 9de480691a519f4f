/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whose socket is it? iptables' `-m owner` compares the credentials of the socket's *file* (sk_socket->file->f_cred), which are those of the
 * process that made the socket, not of the one that connects. Where kernel memory may not be read, the caller's own ids are the fallback.
 */
#ifndef MERBRIDGE_OWNER_H
#define MERBRIDGE_OWNER_H

#include "kernel.bpf.h"

struct owner {
	__u32 uid;
	__u32 gid;
	__u32 known; /* 0: a socket without a file (the kernel's own): no owner rule matches it, as with iptables */
};

static __always_inline int read_file_owner(void *sk, struct owner *owner)
{
	struct sock *sock = address_of(sk);
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

	if (!can(ABILITY_KERNEL_READS) || read_file_owner(sk, &owner)) {
		__u64 ids = bpf_get_current_uid_gid();

		owner.uid = (__u32)ids;
		owner.gid = ids >> 32;
		owner.known = 1;
	}
	return owner;
}

#endif
