// SPDX-License-Identifier: Apache-2.0
/* What the soak's programs share: content that says where it belongs, sockets that wait for nobody, chance. */
#ifndef SOAK_H
#define SOAK_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
	MOST = 1024,	      /* connections of one program at a time */
	CHUNK = 128 * 1024,   /* one read or write at most */
	USER_TIMEOUT = 15000, /* milliseconds after which a peer without an answer is gone */
	IDLE = 40000,	      /* milliseconds without a byte after which a proxy gives a connection up; longer than what is a hang */
};

static inline void must(bool well, const char *what)
{
	if (well)
		return;
	perror(what);
	exit(1);
}

/* CLOCK_MONOTONIC in milliseconds. */
static inline int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* splitmix64 */
static inline uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

static uint64_t chance_state;

/* 0 .. below - 1 */
static inline uint64_t chance(uint64_t below)
{
	chance_state++;
	return mix(chance_state) % below;
}

/* The bytes from this place of the stream on: no other place has the same neighbours. */
static inline void fill(uint8_t *to, size_t size, uint64_t seed, uint64_t at)
{
	uint64_t word = mix(seed ^ (at / 8));

	for (size_t i = 0; i < size; i++, at++) {
		if (at % 8 == 0)
			word = mix(seed ^ (at / 8));
		to[i] = word >> (at % 8 * 8);
	}
}

/* The index of the first wrong byte; `size`: none is. */
static inline size_t wrong_at(const uint8_t *data, size_t size, uint64_t seed, uint64_t at)
{
	uint64_t word = mix(seed ^ (at / 8));

	for (size_t i = 0; i < size; i++, at++) {
		if (at % 8 == 0)
			word = mix(seed ^ (at / 8));
		if (data[i] != (uint8_t)(word >> (at % 8 * 8)))
			return i;
	}
	return size;
}

/*
 * A socket that waits for nobody. Half of them gather small writes. A few are such as are never accelerated in one direction (TCP_USER_TIMEOUT),
 * so both ways are seen beside each other.
 */
static inline void prepare(int fd)
{
	int on = 1, patience = USER_TIMEOUT;

	fcntl(fd, F_SETFL, O_NONBLOCK);
	if (chance(2))
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	if (chance(12) == 0)
		setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience, sizeof(patience));
}

/* Takes both families. */
static inline int listener(uint16_t port)
{
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1, off = 0;

	must(fd >= 0, "socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	must(!setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)), "IPV6_V6ONLY");
	must(!bind(fd, (struct sockaddr *)&any, sizeof(any)), "bind");
	must(!listen(fd, MOST), "listen");
	return fd;
}

/* Closes with a reset. */
static inline void slam(int fd)
{
	struct linger at_once = {.l_onoff = 1};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	close(fd);
}

static inline bool again(void)
{
	return errno == EAGAIN || errno == EINTR;
}

#endif
