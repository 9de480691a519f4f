/* SPDX-License-Identifier: Apache-2.0 */
/* What the bench's programs share: addresses of both families, the clock, what they print. */
#ifndef MERBRIDGE_BENCH_LOAD_H
#define MERBRIDGE_BENCH_LOAD_H

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Measurements of one run at most; those that come before them and are not counted; seconds that a program lives at most. */
enum { LIMIT = 1000000, WARM_UP = 20, LIFETIME = 900 };

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6; /* also of IPv4 in the mapped form */
};

static inline void must(int good, const char *what)
{
	if (good)
		return;
	perror(what);
	exit(1);
}

static inline socklen_t length(const union address *a)
{
	return a->any.sa_family == AF_INET ? sizeof(a->v4) : sizeof(a->v6);
}

/* "10.0.0.1" is an address of an IPv4 socket, "fd00::1" and "::ffff:10.0.0.1" are of an IPv6 socket. */
static inline union address address(const char *host, const char *port)
{
	union address a = {.any.sa_family = strchr(host, ':') ? AF_INET6 : AF_INET};
	void *bytes = a.any.sa_family == AF_INET ? (void *)&a.v4.sin_addr : (void *)&a.v6.sin6_addr;

	a.v4.sin_port = htons(atoi(port)); /* the same place in both */
	must(inet_pton(a.any.sa_family, host, bytes) == 1, "address");
	return a;
}

static inline long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Runs it `count` times after the warm-up, and prints one line for each: nanoseconds. */
static inline void measure(long long (*once)(void *), void *argument, int count)
{
	long long *times = calloc(count + WARM_UP, sizeof(*times));

	must(times != NULL, "calloc");
	for (int i = 0; i < count + WARM_UP; i++)
		times[i] = once(argument);
	for (int i = WARM_UP; i < count + WARM_UP; i++)
		printf("%lld\n", times[i]);
	free(times);
}

static inline int number_of(const char *text)
{
	int count = atoi(text);

	if (count < 1 || count > LIMIT)
		exit(2);
	return count;
}

static inline void ready(void)
{
	puts("ready");
	fflush(stdout);
}

#endif
