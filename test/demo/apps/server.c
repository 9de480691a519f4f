// SPDX-License-Identifier: Apache-2.0
/*
 * The app in the server pod: answers each request with the source address that it saw, in a body of 100 bytes, and keeps connections open.
 *
 *   server PORT ADDRESS...
 */
#define _GNU_SOURCE
#include "../../../bench/figures.h"
#include "../../../bench/tcp.h"

#include <signal.h>

enum { EVENTS = 64, REQUEST = 8192, BODY = 100 };

struct connection {
	int fd, listening, size, answer_size;
	char request[REQUEST], answer[256];
};

static struct connection *watch(int poll, int fd, int listening)
{
	struct connection *c = calloc(1, sizeof(*c));

	must(c != NULL, "calloc");
	non_blocking(fd);
	c->fd = fd;
	c->listening = listening;
	must(!watched(poll, fd, EPOLLIN, c), "epoll_ctl");
	return c;
}

static void listen_at(int poll, const char *host, const char *port)
{
	union address at = address(host, port);
	int fd = tcp_socket(at.any.sa_family), on = 1;

	must(!setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), "SO_REUSEADDR");
	if (at.any.sa_family == AF_INET6)
		must(!setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)), "IPV6_V6ONLY");
	must(!bind(fd, &at.any, length(&at)) && !listen(fd, 1024), "listen");
	watch(poll, fd, 1);
}

static void accept_one(int poll, int listening)
{
	union address from = {0};
	socklen_t size = sizeof(from);
	int fd = accept(listening, &from.any, &size);
	char source[INET6_ADDRSTRLEN] = "", body[BODY + 1];
	struct connection *c;

	if (fd < 0)
		return;
	no_delay(fd, 1);
	c = watch(poll, fd, 0);
	inet_ntop(from.any.sa_family, from.any.sa_family == AF_INET ? (void *)&from.v4.sin_addr : (void *)&from.v6.sin6_addr, source, sizeof(source));
	memset(body, ' ', BODY);
	body[BODY] = 0;
	body[snprintf(body, sizeof(body), "{\"source\":\"%s\"}", source)] = ' ';
	c->answer_size =
	    snprintf(c->answer, sizeof(c->answer), "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", BODY, body);
}

/* 0: the connection has ended. One request at a time: clients wait for the answer. */
static int answer(struct connection *c)
{
	ssize_t n = read(c->fd, c->request + c->size, REQUEST - 1 - c->size);

	if (n < 0 && errno == EAGAIN)
		return 1;
	if (n <= 0)
		return 0;
	c->size += n;
	c->request[c->size] = 0;
	if (!strstr(c->request, "\r\n\r\n"))
		return c->size < REQUEST - 1;
	c->size = 0;
	return write(c->fd, c->answer, c->answer_size) == c->answer_size;
}

int main(int argc, char **argv)
{
	int poll = epoll_create1(0);
	struct epoll_event events[EVENTS];

	if (argc < 3)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	must(poll >= 0, "epoll");
	for (int i = 2; i < argc; i++)
		listen_at(poll, argv[i], argv[1]);
	for (;;) {
		int count = epoll_wait(poll, events, EVENTS, -1);

		for (int i = 0; i < count; i++) {
			struct connection *c = events[i].data.ptr;

			if (c->listening) {
				accept_one(poll, c->fd);
			} else if (!answer(c)) {
				close(c->fd);
				free(c);
			}
		}
	}
}
