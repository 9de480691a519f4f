/* SPDX-License-Identifier: Apache-2.0 */
/* TCP sockets of both families, for the bench's programs. */
#ifndef MERBRIDGE_BENCH_TCP_H
#define MERBRIDGE_BENCH_TCP_H

#include "load.h"

#include <netinet/tcp.h>

static inline void no_delay(int fd, int on)
{
	must(!setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), "TCP_NODELAY");
}

static inline int tcp_socket(int family)
{
	int fd = socket(family, SOCK_STREAM, 0);

	must(fd >= 0, "socket");
	no_delay(fd, 1);
	return fd;
}

/* Says "ready" as soon as it listens. */
static inline int listener(const char *port)
{
	union address a = address("::", port);
	int fd = tcp_socket(AF_INET6), on = 1, off = 0;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	must(!setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)), "IPV6_V6ONLY");
	must(!bind(fd, &a.any, length(&a)), "bind");
	must(!listen(fd, 1024), "listen");
	ready();
	return fd;
}

static inline int connected(const union address *to)
{
	int fd = tcp_socket(to->any.sa_family);

	must(!connect(fd, &to->any, length(to)), "connect");
	return fd;
}

#endif
