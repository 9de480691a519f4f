// SPDX-License-Identifier: Apache-2.0
/*
 * The bench's servers and clients. In C, because what is measured are microseconds.
 *
 *   load accept PORT            accepts and closes, for ever: stands for a proxy or a server where only connect() is measured
 *   load serve PORT             answers every HTTP/1.1 request with 100 bytes and keeps connections open
 *   load connect ADDR PORT N    N times connect() and close
 *   load keep ADDR PORT N       N requests on one connection
 *   load new ADDR PORT N        N requests, each on a connection of its own
 *
 * Clients print one line per measurement: nanoseconds of CLOCK_MONOTONIC. Servers print "ready" when they listen. A failure ends with
 * status 1.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LIMIT = 1000000, EVENTS = 64, WARM_UP = 20 };

static const char request[] = "GET / HTTP/1.1\r\nHost: bench\r\n\r\n";
static const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n";

static void must(int good, const char *what)
{
	if (good)
		return;
	perror(what);
	exit(1);
}

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static struct sockaddr_in address(const char *host, const char *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};

	must(inet_pton(AF_INET, host, &a.sin_addr) == 1, "address");
	return a;
}

static int tcp_socket(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	must(fd >= 0, "socket");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

static int listener(const char *port)
{
	struct sockaddr_in a = address("0.0.0.0", port);
	int fd = tcp_socket(), on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	must(!bind(fd, (struct sockaddr *)&a, sizeof(a)), "bind");
	must(!listen(fd, 1024), "listen");
	puts("ready");
	fflush(stdout);
	return fd;
}

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
static void answer(int fd, const char *response, size_t length)
{
	char buffer[4096];

	if (read(fd, buffer, sizeof(buffer)) <= 0 || write(fd, response, length) != (ssize_t)length)
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
		int ready = epoll_wait(poll, events, EVENTS, -1);

		for (int i = 0; i < ready; i++) {
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

static long long measure_connect(const struct sockaddr_in *to)
{
	int fd = tcp_socket();
	long long start = now(), end;

	must(!connect(fd, (const struct sockaddr *)to, sizeof(*to)), "connect");
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

static int connected(const struct sockaddr_in *to)
{
	int fd = tcp_socket();

	must(!connect(fd, (const struct sockaddr *)to, sizeof(*to)), "connect");
	return fd;
}

static long long measure_new(const struct sockaddr_in *to)
{
	long long start = now(), end;
	int fd = connected(to);

	exchange(fd);
	end = now();
	close(fd);
	return end - start;
}

static long long measure_kept(int fd)
{
	long long start = now();

	exchange(fd);
	return now() - start;
}

static void client(const char *mode, const struct sockaddr_in to, int count)
{
	long long *times = calloc(count + WARM_UP, sizeof(*times));
	int keep = strcmp(mode, "keep") ? -1 : connected(&to);

	must(times != NULL, "calloc");
	for (int i = 0; i < count + WARM_UP; i++)
		times[i] = keep >= 0 ? measure_kept(keep) : strcmp(mode, "new") ? measure_connect(&to) : measure_new(&to);
	for (int i = WARM_UP; i < count + WARM_UP; i++)
		printf("%lld\n", times[i]);
}

int main(int argc, char **argv)
{
	alarm(600); /* nothing of the bench outlives it for long, whatever happens to its parent */
	if (argc == 3 && !strcmp(argv[1], "accept"))
		accept_and_close(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "serve"))
		serve(argv[2]);
	if (argc != 5 || atoi(argv[4]) < 1 || atoi(argv[4]) > LIMIT)
		return 2;
	client(argv[1], address(argv[2], argv[3]), atoi(argv[4]));
	return 0;
}
