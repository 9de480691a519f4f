// SPDX-License-Identifier: Apache-2.0
/*
 * One TCP connection: small exchanges, or bytes that go one way. The server serves one connection after the other.
 *
 *   stream serve PORT
 *   stream exchange ADDR PORT BYTES nodelay MS CPU[,CPU...]       BYTES there, BYTES back, again and again
 *   stream up ADDR PORT BYTES nagle|nodelay MS CPU[,CPU...]       the client writes BYTES at a time, as fast as it can
 *   stream block ADDR PORT BYTES nagle|nodelay MS CPU[,CPU...]    the same, with a socket that blocks
 *   stream down ADDR PORT BYTES nagle|nodelay MS CPU[,CPU...]     the server does
 *
 * Sockets are non-blocking and wait with epoll, as those of proxies do, but for `block`, as most programs are that only write. Each connection begins
 * with a few exchanges. A client prints one line of JSON: time of an exchange, exchanges or megabytes a second, processor time for
 * one as the files CPU tell it. What was sent one way has arrived when the time is taken. A failure ends with status 1.
 */
#include "figures.h"
#include "tcp.h"

#include <signal.h>

enum { ROUNDS = 8, BUFFER = 1 << 18 };
enum what { EXCHANGE, UP, DOWN, BLOCK };

static const char *const names[] = {"exchange", "up", "down", "block"};

/* The first bytes of a connection, sent and answered ROUNDS times. */
struct order {
	unsigned char what, no_delay;
	unsigned short rounds;
	int bytes, milliseconds;
};

struct end {
	int fd, poll;
};

static char buffer[BUFFER];

static struct end end_of(int fd, int blocks)
{
	struct end end = {.fd = fd, .poll = epoll_create1(0)};

	if (!blocks)
		non_blocking(fd);
	must(end.poll >= 0 && !watched(end.poll, fd, EPOLLIN, NULL), "epoll");
	return end;
}

static void close_end(struct end *end)
{
	close(end->poll);
	close(end->fd);
}

/* 0: it waited too long. */
static int wait_for(struct end *end, unsigned events)
{
	struct epoll_event event = {.events = events};

	if (events != EPOLLIN && epoll_ctl(end->poll, EPOLL_CTL_MOD, end->fd, &event))
		return 0;
	if (epoll_wait(end->poll, &event, 1, STUCK) != 1) {
		errno = ETIMEDOUT;
		return 0;
	}
	event.events = EPOLLIN;
	return events == EPOLLIN || !epoll_ctl(end->poll, EPOLL_CTL_MOD, end->fd, &event);
}

/* Up to `size` bytes, as soon as there are some; 0: the end; -1: failed. */
static ssize_t receive_some(struct end *end, void *to, size_t size)
{
	for (;;) {
		ssize_t n;

		if (!wait_for(end, EPOLLIN))
			return -1;
		n = read(end->fd, to, size);
		if (n >= 0 || errno != EAGAIN)
			return n;
	}
}

static int receive_all(struct end *end, void *to, size_t size)
{
	for (size_t got = 0; got < size;) {
		ssize_t n = receive_some(end, (char *)to + got, size - got);

		if (n == 0)
			errno = ECONNRESET;
		if (n <= 0)
			return 0;
		got += n;
	}
	return 1;
}

static int send_all(struct end *end, const void *from, size_t size)
{
	for (size_t sent = 0; sent < size;) {
		ssize_t n = write(end->fd, (const char *)from + sent, size - sent);

		if (n < 0 && errno == EAGAIN && wait_for(end, EPOLLOUT))
			continue;
		if (n <= 0)
			return 0;
		sent += n;
	}
	return 1;
}

/* Writes one way until the time is over; how many bytes, -1: failed. The clock is asked now and then only. */
static long long send_for(struct end *end, int bytes, int milliseconds)
{
	long long until = now() + milliseconds * 1000000LL, sent = 0;

	while (now() < until)
		for (int i = 0; i < 16; i++, sent += bytes)
			if (!send_all(end, buffer, bytes))
				return -1;
	return sent;
}

/* Until the other side has no more; -1: failed. */
static long long receive_until_end(struct end *end)
{
	long long got = 0;

	for (;;) {
		ssize_t n = receive_some(end, buffer, sizeof(buffer));

		if (n <= 0)
			return n < 0 ? -1 : got;
		got += n;
	}
}

static void serve_one(struct end *end)
{
	struct order order;
	long long count;

	do
		if (!receive_all(end, &order, sizeof(order)) || !send_all(end, &order, sizeof(order)))
			return;
	while (order.rounds > 1);
	if (order.bytes < 1 || order.bytes > BUFFER)
		return;
	no_delay(end->fd, order.no_delay);
	if (order.what == EXCHANGE) {
		while (receive_all(end, buffer, order.bytes) && send_all(end, buffer, order.bytes))
			;
	} else if (order.what == UP) {
		count = receive_until_end(end);
		send_all(end, &count, sizeof(count));
	} else {
		send_for(end, order.bytes, order.milliseconds);
	}
}

static void serve(const char *port)
{
	int listening = listener(port);

	for (;;) {
		int fd = accept(listening, NULL, NULL);
		struct end end;

		if (fd < 0)
			continue;
		no_delay(fd, 1);
		end = end_of(fd, 0);
		serve_one(&end);
		close_end(&end);
	}
}

static void exchange(struct end *end, int bytes)
{
	must(send_all(end, buffer, bytes), "send");
	must(receive_all(end, buffer, bytes), "receive");
}

static void measure_exchanges(struct end *end, const struct order *order, const char *processors)
{
	static struct samples samples;
	long long start = now(), warm = start + WARM * 1000000LL, cpu, before, after;

	while (now() < warm)
		exchange(end, order->bytes);
	cpu = processor_time(processors);
	start = before = now();
	do {
		exchange(end, order->bytes);
		after = now();
		add_sample(&samples, after - before);
		before = after;
	} while (after - start < order->milliseconds * 1000000LL);
	report(&samples, samples.count, after - start, processor_time(processors) - cpu);
}

/* The server tells how many bytes have arrived. */
static long long upload(struct end *end, const struct order *order)
{
	long long sent, arrived;

	no_delay(end->fd, order->no_delay);
	sent = send_for(end, order->bytes, order->milliseconds);
	must(sent > 0 && !shutdown(end->fd, SHUT_WR), "send");
	must(receive_all(end, &arrived, sizeof(arrived)), "the server's count");
	if (arrived != sent) {
		fprintf(stderr, "%lld bytes were sent and %lld have arrived\n", sent, arrived);
		exit(1);
	}
	return sent;
}

static int client(int what, char **argv)
{
	struct order order = {.what = what == BLOCK ? UP : what,
			      .no_delay = !strcmp(argv[5], "nodelay"),
			      .bytes = number_of(argv[4]),
			      .milliseconds = number_of(argv[6])},
		     echo;
	union address to = address(argv[2], argv[3]);
	struct end end = end_of(connected(&to), what == BLOCK);
	long long start, cpu, bytes;

	if (order.bytes > BUFFER)
		return 2;
	for (order.rounds = ROUNDS; order.rounds > 0; order.rounds--) {
		must(send_all(&end, &order, sizeof(order)), "send");
		must(receive_all(&end, &echo, sizeof(echo)), "the first answers");
	}
	if (what == EXCHANGE) {
		measure_exchanges(&end, &order, argv[7]);
		return 0;
	}
	cpu = processor_time(argv[7]);
	start = now();
	bytes = order.what == UP ? upload(&end, &order) : receive_until_end(&end);
	must(bytes > 0, "bytes of the other side");
	report(NULL, bytes / 1e6, now() - start, processor_time(argv[7]) - cpu);
	return 0;
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN); /* a client that has measured enough goes away with answers under way */
	alarm(LIFETIME);	  /* nothing of the bench outlives it for long, whatever happens to its parent */
	if (argc == 3 && !strcmp(argv[1], "serve"))
		serve(argv[2]);
	for (int what = EXCHANGE; argc == 8 && what <= BLOCK; what++)
		if (!strcmp(argv[1], names[what]))
			return client(what, argv);
	return 2;
}
