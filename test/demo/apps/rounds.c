// SPDX-License-Identifier: Apache-2.0
/*
 * An app of the client pod that keeps a few connections open for all of its life, and measures in rounds. Every socket is non-blocking.
 *
 *   rounds ADDRESS PORT CONNECTIONS
 *
 * Each line of its input is a number of milliseconds: so long it asks on every connection, again as soon as the answer is there. Each line of its
 * output is what that gave: {"requests", "ns": how long it took, "p50": of one request, "ports": of its connections, which are the same ones in every
 * round}.
 */
#define _GNU_SOURCE
#include "../../../bench/figures.h"
#include "../../../bench/tcp.h"

enum { MOST = 64, ANSWER = 4096, BODY = 100 };

static const char request[] = "GET / HTTP/1.1\r\nHost: demo\r\n\r\n";

struct connection {
	int fd, size;
	long long start;
	char answer[ANSWER];
};

static struct connection connections[MOST];
static struct samples samples;

static void ask(struct connection *c)
{
	c->size = 0;
	c->start = now();
	must(write(c->fd, request, sizeof(request) - 1) == sizeof(request) - 1, "write");
}

/* 1: the answer is there. */
static int receive(struct connection *c)
{
	ssize_t n = read(c->fd, c->answer + c->size, ANSWER - 1 - c->size);
	char *end;

	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n == 0)
		errno = ECONNRESET;
	must(n > 0, "read");
	c->size += n;
	c->answer[c->size] = 0;
	end = strstr(c->answer, "\r\n\r\n");
	if (!end || c->size < end - c->answer + 4 + BODY) {
		errno = EMSGSIZE;
		must(c->size < ANSWER - 1, "answer");
		return 0;
	}
	errno = EPROTO;
	must(!strncmp(c->answer, "HTTP/1.1 200", 12) && c->size == end - c->answer + 4 + BODY, "not a good answer");
	add_sample(&samples, now() - c->start);
	return 1;
}

/* Ends when every answer is there, so that nothing is under way between rounds. */
static void run(int poll, int count, int milliseconds)
{
	long long start = now(), until = start + milliseconds * 1000000LL;
	struct epoll_event events[MOST];
	int busy = count;

	samples.count = 0;
	for (int i = 0; i < count; i++)
		ask(&connections[i]);
	while (busy > 0) {
		int ready = epoll_wait(poll, events, MOST, STUCK);

		errno = ETIMEDOUT;
		must(ready > 0, "no answer");
		for (int i = 0; i < ready; i++) {
			if (!receive(events[i].data.ptr))
				continue;
			if (now() < until)
				ask(events[i].data.ptr);
			else
				busy--;
		}
	}
	until = now();
	qsort(samples.times, samples.count, sizeof(samples.times[0]), by_value);
	printf("{\"requests\": %d, \"ns\": %lld, \"p50\": %lld, \"ports\": [", samples.count, until - start, rank(&samples, 0.5));
	for (int i = 0; i < count; i++) {
		union address local;
		socklen_t size = sizeof(local);

		must(!getsockname(connections[i].fd, &local.any, &size), "getsockname");
		printf("%s%d", i ? ", " : "", ntohs(local.v4.sin_port));
	}
	printf("]}\n");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	int poll = epoll_create1(0), count = argc == 4 ? number_of(argv[3]) : 0;
	char line[32];

	if (count < 1 || count > MOST)
		return 2;
	alarm(LIFETIME); /* it does not outlive the demo for long, whatever happens to that */
	for (int i = 0; i < count; i++) {
		union address to = address(argv[1], argv[2]);

		connections[i].fd = connected(&to);
		non_blocking(connections[i].fd);
		must(!watched(poll, connections[i].fd, EPOLLIN, &connections[i]), "epoll_ctl");
	}
	while (fgets(line, sizeof(line), stdin))
		run(poll, count, number_of(line));
	return 0;
}
