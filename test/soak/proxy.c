// SPDX-License-Identifier: Apache-2.0
/*
 * A sidecar: what comes to 15001 and 15006 goes to where it was meant to, byte by byte. Inbound connections go on from 127.0.0.6 or ::6. It ends with
 * its standard input, or with the first signal.
 */
#include "soak.h"

enum { OUTBOUND = 15001, INBOUND = 15006, BUFFER = 32 * 1024 };

struct end {
	int fd;
	uint8_t data[BUFFER]; /* read from fd, not yet written to the other end */
	size_t first, last;
	bool ended, passed; /* its end was read; the other end was told */
};

struct connection {
	struct end ends[2];
	bool connecting;
	int64_t moved;
};

static struct connection *connections[MOST];

/* Where it was meant to go. */
static bool original(int fd, struct sockaddr_in6 *to)
{
	struct sockaddr_in four;
	struct sockaddr_in6 own;
	socklen_t size = sizeof(own), size4 = sizeof(four), size6 = sizeof(*to);

	if (getsockname(fd, (struct sockaddr *)&own, &size))
		return false;
	if (!IN6_IS_ADDR_V4MAPPED(&own.sin6_addr))
		return !getsockopt(fd, SOL_IPV6, 80, to, &size6);
	if (getsockopt(fd, SOL_IP, 80, &four, &size4))
		return false;
	*to = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = four.sin_port, .sin6_addr.s6_addr = {[10] = 0xff, [11] = 0xff}};
	memcpy(&to->sin6_addr.s6_addr[12], &four.sin_addr, 4);
	return true;
}

/* Through a socket of the destination's own family, as proxies do. */
static int go_on(const struct sockaddr_in6 *to, bool inbound)
{
	bool mapped = IN6_IS_ADDR_V4MAPPED(&to->sin6_addr);
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = to->sin6_port},
			   own4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000006)};
	struct sockaddr_in6 own6 = {.sin6_family = AF_INET6, .sin6_addr.s6_addr = {[15] = 6}};
	int fd = socket(mapped ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), status;

	if (fd < 0)
		return -1;
	prepare(fd);
	memcpy(&four.sin_addr, &to->sin6_addr.s6_addr[12], 4);
	if (inbound && bind(fd, mapped ? (struct sockaddr *)&own4 : (struct sockaddr *)&own6, mapped ? sizeof(own4) : sizeof(own6)))
		fprintf(stderr, "bind: %m\n");
	status = mapped ? connect(fd, (struct sockaddr *)&four, sizeof(four)) : connect(fd, (struct sockaddr *)to, sizeof(*to));
	if (!status || errno == EINPROGRESS)
		return fd;
	close(fd);
	return -1;
}

static void accept_some(int listening, bool inbound)
{
	struct sockaddr_in6 to;
	int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC), other = -1, free = 0;

	if (fd < 0)
		return;
	prepare(fd);
	while (free < MOST && connections[free])
		free++;
	if (free < MOST && original(fd, &to) && ntohs(to.sin6_port) != OUTBOUND && ntohs(to.sin6_port) != INBOUND)
		other = go_on(&to, inbound);
	if (other < 0) {
		slam(fd);
		return;
	}
	connections[free] = calloc(1, sizeof(struct connection));
	must(connections[free], "calloc");
	connections[free]->ends[0].fd = fd, connections[free]->ends[1].fd = other, connections[free]->connecting = true;
	connections[free]->moved = now();
}

/* false: the connection is broken. */
static bool move(struct end *from, struct end *to, bool readable)
{
	ssize_t done;

	if (readable && !from->ended && from->last == from->first) {
		done = recv(from->fd, from->data, 1 + chance(chance(4) ? BUFFER : 600), 0);
		if (done < 0 && !again())
			return false;
		from->ended = done == 0;
		from->first = 0, from->last = done > 0 ? done : 0;
	}
	if (from->last > from->first) {
		done = send(to->fd, from->data + from->first, from->last - from->first, MSG_NOSIGNAL);
		if (done < 0 && !again())
			return false;
		from->first += done > 0 ? done : 0;
	}
	if (from->ended && !from->passed && from->first == from->last) {
		from->passed = true;
		return !shutdown(to->fd, SHUT_WR);
	}
	return true;
}

static short wanted(const struct connection *c, int i)
{
	const struct end *own = &c->ends[i], *other = &c->ends[!i];
	bool reads = !own->ended && own->first == own->last && !c->connecting, writes = other->first < other->last || (c->connecting && i == 1);

	return (reads ? POLLIN : 0) | (writes ? POLLOUT : 0);
}

static bool step(struct connection *c, const struct pollfd *polled)
{
	int error = 0;
	socklen_t size = sizeof(error);

	if (c->connecting) {
		if (polled[0].revents & (POLLERR | POLLHUP))
			return false;
		if (!polled[1].revents)
			return now() - c->moved < IDLE;
		if (getsockopt(c->ends[1].fd, SOL_SOCKET, SO_ERROR, &error, &size) || error)
			return false;
		c->connecting = false;
		return true;
	}
	if (!polled[0].revents && !polled[1].revents)
		return now() - c->moved < IDLE;
	c->moved = now();
	return move(&c->ends[0], &c->ends[1], polled[0].revents) && move(&c->ends[1], &c->ends[0], polled[1].revents);
}

static void settle(int slot, bool well)
{
	struct connection *c = connections[slot];

	if (well && !(c->ends[0].passed && c->ends[1].passed))
		return;
	for (int i = 0; i < 2; i++)
		well ? (void)close(c->ends[i].fd) : slam(c->ends[i].fd);
	free(c);
	connections[slot] = NULL;
}

int main(void)
{
	static struct pollfd polled[3 + 2 * MOST];
	static int slots[MOST];

	chance_state = getpid();
	polled[0] = (struct pollfd){.fd = 0, .events = POLLIN};
	polled[1] = (struct pollfd){.fd = listener(OUTBOUND), .events = POLLIN};
	polled[2] = (struct pollfd){.fd = listener(INBOUND), .events = POLLIN};
	puts("ready");
	fflush(stdout);
	for (;;) {
		int count = 0;

		for (int i = 0; i < MOST; i++) {
			if (!connections[i])
				continue;
			for (int k = 0; k < 2; k++) {
				short events = wanted(connections[i], k);

				/* An end of which nothing is wanted would be told to have hung up again and again. */
				polled[3 + 2 * count + k] = (struct pollfd){.fd = events ? connections[i]->ends[k].fd : -1, .events = events};
			}
			slots[count++] = i;
		}
		must(poll(polled, 3 + 2 * count, 1000) >= 0 || errno == EINTR, "poll");
		if (polled[0].revents)
			return 0;
		for (int i = 0; i < count; i++)
			settle(slots[i], step(connections[slots[i]], &polled[3 + 2 * i]));
		if (polled[1].revents)
			accept_some(polled[1].fd, false);
		if (polled[2].revents)
			accept_some(polled[2].fd, true);
	}
}
