// SPDX-License-Identifier: Apache-2.0
/*
 * A small HTTP/1.1 server, and clients that keep a number of connections busy. Every socket is non-blocking and waited for with epoll.
 *
 *   http serve PORT                                        answers GET /N with N bytes and keeps connections open
 *   http kept ADDR PORT CONNECTIONS BYTES MS CPU[,CPU...]  each connection asks for so many bytes, again and again
 *   http new ADDR PORT CONNECTIONS BYTES MS CPU[,CPU...]   the same, with a new connection for each request
 *
 * A client measures for MS milliseconds, or longer until some requests are answered, after an eighth of MS which does not count, and prints one line
 * of JSON: time of a request, requests a second, processor time of a request as the files CPU tell it. A failure ends with status 1.
 */
#define _GNU_SOURCE
#include "figures.h"
#include "tcp.h"

#include <signal.h>
#include <sys/uio.h>

enum { EVENTS = 64, HEAD = 2048, CHUNK = 1 << 18, CONNECTIONS = 1024, REQUEST = 128, FEWEST = 8 };

static char chunk[CHUNK];

struct connection {
	int fd;
	int head_size; /* client: of the answer's head so far; -1: all of it has come */
	long long start;
	long long left; /* bytes of the body to send or to receive */
	char head[HEAD];
};

/* Sends what is left of the body; 0: the connection has failed. What does not fit now goes when there is room. */
static int send_rest(int poll, struct connection *c, char *head, int head_size)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};

	while (head_size > 0 || c->left > 0) {
		struct iovec parts[] = {{head, head_size}, {chunk, c->left < CHUNK ? c->left : CHUNK}};
		ssize_t n = writev(c->fd, parts, 2);

		if (n < 0 && errno == EAGAIN) {
			event.events = EPOLLOUT;
			break;
		}
		if (n < head_size) /* a head always fits: the client has read all of the last answer */
			return 0;
		c->left -= n - head_size;
		head_size = 0;
	}
	if (event.events == EPOLLOUT || head_size < 0)
		return !epoll_ctl(poll, EPOLL_CTL_MOD, c->fd, &event);
	return 1;
}

/* One request is one read here: they are small and the client waits for the answer. */
static int answer(int poll, struct connection *c)
{
	char request[HEAD], head[128];
	ssize_t n = read(c->fd, request, sizeof(request) - 1);

	if (n < 0 && errno == EAGAIN)
		return 1;
	if (n <= 0)
		return 0;
	request[n] = 0;
	if (sscanf(request, "GET /%lld", &c->left) != 1)
		return 0;
	return send_rest(poll, c, head, snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %lld\r\n\r\n", c->left));
}

static void accept_one(int poll, int listening)
{
	int fd = accept(listening, NULL, NULL);
	struct connection *c;

	if (fd < 0)
		return;
	non_blocking(fd);
	no_delay(fd, 1);
	c = calloc(1, sizeof(*c));
	must(c != NULL, "calloc");
	c->fd = fd;
	must(!watched(poll, fd, EPOLLIN, c), "epoll_ctl");
}

static void serve(const char *port)
{
	int listening = listener(port), poll = epoll_create1(0);
	struct epoll_event events[EVENTS];

	must(poll >= 0 && !watched(poll, listening, EPOLLIN, NULL), "epoll");
	for (;;) {
		int count = epoll_wait(poll, events, EVENTS, -1);

		for (int i = 0; i < count; i++) {
			struct connection *c = events[i].data.ptr;

			if (!c) {
				accept_one(poll, listening);
			} else if (!(events[i].events & EPOLLOUT ? send_rest(poll, c, NULL, -1) : answer(poll, c))) {
				close(c->fd);
				free(c);
			}
		}
	}
}

struct load {
	union address to;
	int poll, fresh;
	long long bytes, received; /* of one body; of all bodies */
	struct connection connections[CONNECTIONS];
	struct samples samples;
};

static void open_connection(struct load *load, struct connection *c)
{
	c->fd = connected(&load->to);
	non_blocking(c->fd);
	must(!watched(load->poll, c->fd, EPOLLIN, c), "epoll_ctl");
}

static void ask(struct load *load, struct connection *c)
{
	char request[REQUEST];
	int size = snprintf(request, sizeof(request), "GET /%lld HTTP/1.1\r\nHost: bench\r\n\r\n", load->bytes);

	c->start = now();
	c->head_size = 0;
	if (load->fresh)
		open_connection(load, c);
	must(write(c->fd, request, size) == size, "write");
}

/* The answer's head is complete, or more of it has to come; returns how many of the bytes belong to it. */
static int take_head(struct load *load, struct connection *c, int n)
{
	int before = c->head_size, room = HEAD - 1 - before, taken = n < room ? n : room;
	char *end, *length;

	memcpy(c->head + before, chunk, taken);
	c->head[before + taken] = 0;
	c->head_size += taken;
	end = strstr(c->head, "\r\n\r\n");
	if (!end) {
		errno = EMSGSIZE;
		must(taken < room, "the head of the answer");
		return taken;
	}
	length = strcasestr(c->head, "\r\ncontent-length:");
	if (strncmp(c->head, "HTTP/1.1 200", 12) || !length || atoll(length + 17) != load->bytes) {
		fprintf(stderr, "not a good answer: %.200s\n", c->head);
		exit(1);
	}
	c->head_size = -1;
	c->left = load->bytes;
	return end + 4 - c->head - before;
}

static void receive(struct load *load, struct connection *c)
{
	ssize_t n = read(c->fd, chunk, sizeof(chunk));
	int head = 0;

	if (n < 0 && errno == EAGAIN)
		return;
	if (n == 0)
		errno = ECONNRESET;
	must(n > 0, "read");
	if (c->head_size >= 0)
		head = take_head(load, c, n);
	if (c->head_size >= 0)
		return;
	c->left -= n - head;
	load->received += n - head;
	if (c->left > 0)
		return;
	errno = EPROTO;
	must(c->left == 0, "more than the answer");
	add_sample(&load->samples, now() - c->start);
	if (load->fresh)
		close(c->fd);
	ask(load, c);
}

static void keep_busy(struct load *load, long long until)
{
	struct epoll_event events[EVENTS];

	while (now() < until) {
		int count = epoll_wait(load->poll, events, EVENTS, STUCK);

		errno = ETIMEDOUT;
		must(count > 0, "no answer");
		for (int i = 0; i < count; i++)
			receive(load, events[i].data.ptr);
	}
}

static int client(char **argv)
{
	static struct load load;
	int count = number_of(argv[4]), milliseconds = number_of(argv[6]);
	long long start, cpu;

	load.fresh = !strcmp(argv[1], "new");
	load.to = address(argv[2], argv[3]);
	load.bytes = atoll(argv[5]);
	load.poll = epoll_create1(0);
	if (count > CONNECTIONS || load.bytes < 1 || (!load.fresh && strcmp(argv[1], "kept")))
		return 2;
	for (int i = 0; i < count; i++) {
		if (!load.fresh)
			open_connection(&load, &load.connections[i]);
		ask(&load, &load.connections[i]);
	}
	keep_busy(&load, now() + (load.fresh ? milliseconds / 8 : WARM) * 1000000LL);
	load.samples.count = load.received = 0;
	start = now();
	cpu = processor_time(argv[7]);
	do
		keep_busy(&load, start + milliseconds * 1000000LL);
	while (load.samples.count < FEWEST && (milliseconds += 10));
	cpu = processor_time(argv[7]) - cpu;
	report(&load.samples, (double)load.received / load.bytes, now() - start, cpu);
	return 0;
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN); /* a client that has measured enough goes away with answers under way */
	alarm(LIFETIME);	  /* nothing of the bench outlives it for long, whatever happens to its parent */
	memset(chunk, 'x', sizeof(chunk));
	if (argc == 3 && !strcmp(argv[1], "serve"))
		serve(argv[2]);
	return argc == 8 ? client(argv) : 2;
}
