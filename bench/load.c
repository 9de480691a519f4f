// SPDX-License-Identifier: Apache-2.0
/*
 * The bench's TCP servers and clients. In C, because what is measured are microseconds.
 *
 *   load accept PORT              accepts and closes, for ever: stands for a proxy or a server where only connect() is measured
 *   load serve PORT               answers every HTTP/1.1 request with 100 bytes and keeps connections open
 *   load connect ADDR PORT N      N times connect() and close
 *   load keep ADDR PORT N         N requests on one connection
 *   load new ADDR PORT N          N requests, each on a connection of its own
 *
 * Servers take IPv4 and IPv6. Clients print one line per measurement: nanoseconds of CLOCK_MONOTONIC. Servers print "ready" when they listen. A
 * failure ends with status 1.
 */
#include "tcp.h"

#include <sys/epoll.h>

enum { EVENTS = 64 };

static const char request[] = "GET / HTTP/1.1\r\nHost: bench\r\n\r\n";
static const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n";

static void accept_and_close(const char *port)
{
	int fd = listener(port);

	for (;;) {
		int peer = accept(fd, NULL, NULL);

		must(peer >= 0 || errno == ECONNABORTED, "accept");
		if (peer >= 0)
			close(peer);
	}
}

/* One request is one read here: they are small and the client waits for the answer. */
static void answer(int fd, const char *response, size_t size)
{
	char buffer[4096];

	if (read(fd, buffer, sizeof(buffer)) <= 0 || write(fd, response, size) != (ssize_t)size)
		close(fd);
}

static void serve(const char *port)
{
	int listening = listener(port), poll = epoll_create1(0);
	struct epoll_event event = {.events = EPOLLIN, .data.fd = listening}, events[EVENTS];
	char response[sizeof(head) - 1 + 100];

	must(poll >= 0 && !epoll_ctl(poll, EPOLL_CTL_ADD, listening, &event), "epoll");
	memcpy(response, head, sizeof(head) - 1);
	memset(response + sizeof(head) - 1, 'x', 100);
	for (;;) {
		int count = epoll_wait(poll, events, EVENTS, -1);

		for (int i = 0; i < count; i++) {
			if (events[i].data.fd != listening) {
				answer(events[i].data.fd, response, sizeof(response));
				continue;
			}
			event.data.fd = accept(listening, NULL, NULL);
			if (event.data.fd >= 0)
				must(!epoll_ctl(poll, EPOLL_CTL_ADD, event.data.fd, &event), "epoll_ctl");
		}
	}
}

/* Closes with RST, so that no TIME_WAIT sockets pile up from round to round. */
static void reset(int fd)
{
	struct linger now = {.l_onoff = 1};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

static long long measure_connect(void *to)
{
	const union address *a = to;
	int fd = tcp_socket(a->any.sa_family);
	long long start = now(), end;

	must(!connect(fd, &a->any, length(a)), "connect");
	end = now();
	reset(fd);
	return end - start;
}

static void exchange(int fd)
{
	char buffer[8192];
	size_t got = 0;
	char *body = NULL;

	must(write(fd, request, sizeof(request) - 1) == sizeof(request) - 1, "write");
	while (!body || got < (size_t)(body - buffer) + 4 + 100) {
		ssize_t n = read(fd, buffer + got, sizeof(buffer) - 1 - got);

		if (n == 0)
			errno = ECONNRESET;
		must(n > 0, "read");
		got += n;
		buffer[got] = 0;
		body = strstr(buffer, "\r\n\r\n");
	}
	if (strncmp(buffer, "HTTP/1.1 200", 12)) {
		fprintf(stderr, "not a good answer: %.60s\n", buffer);
		exit(1);
	}
}

static long long measure_new(void *to)
{
	long long start = now(), end;
	int fd = connected(to);

	exchange(fd);
	end = now();
	close(fd);
	return end - start;
}

static long long measure_kept(void *fd)
{
	long long start = now();

	exchange(*(int *)fd);
	return now() - start;
}

static int client(const char *mode, union address to, int count)
{
	int kept;

	if (!strcmp(mode, "connect")) {
		measure(measure_connect, &to, count);
	} else if (!strcmp(mode, "new")) {
		measure(measure_new, &to, count);
	} else if (!strcmp(mode, "keep")) {
		kept = connected(&to);
		measure(measure_kept, &kept, count);
	} else {
		return 2;
	}
	return 0;
}

int main(int argc, char **argv)
{
	alarm(LIFETIME); /* nothing of the bench outlives it for long, whatever happens to its parent */
	if (argc == 3 && !strcmp(argv[1], "accept"))
		accept_and_close(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "serve"))
		serve(argv[2]);
	return argc == 5 ? client(argv[1], address(argv[2], argv[3]), number_of(argv[4])) : 2;
}
