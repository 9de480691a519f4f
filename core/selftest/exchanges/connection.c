/* Addresses and connections. */
#include "exchange.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WARM_UP_ROUNDS 4
#define WARM_UP_SIZE 64

/* "10.0.0.1:80", "[fd00::1]:80", "[::ffff:10.0.0.1]:80"; the port may be missing. */
bool parse_address(const char *text, struct address *to)
{
	char host[64];
	const char *begin = text[0] == '[' ? text + 1 : text;
	const char *end = text[0] == '[' ? strchr(text, ']') : strchr(text, ':');
	bool six = text[0] == '[' || (end && strchr(end + 1, ':'));

	if (six && text[0] != '[')
		end = NULL; /* an IPv6 address without a port */
	size_t length = end ? (size_t)(end - begin) : strlen(begin);
	const char *colon = end ? strchr(end, ':') : NULL;
	long port = colon ? strtol(colon + 1, NULL, 10) : 0;

	if (length >= sizeof host || (text[0] == '[' && !end) || port < 0 || port > 65535)
		return false;
	memcpy(host, begin, length);
	host[length] = 0;
	memset(to, 0, sizeof *to);
	if (six) {
		struct sockaddr_in6 *address = (struct sockaddr_in6 *)&to->address;

		address->sin6_family = AF_INET6;
		address->sin6_port = htons(port);
		to->length = sizeof *address;
		return inet_pton(AF_INET6, host, &address->sin6_addr) == 1;
	}
	struct sockaddr_in *address = (struct sockaddr_in *)&to->address;

	address->sin_family = AF_INET;
	address->sin_port = htons(port);
	to->length = sizeof *address;
	return inet_pton(AF_INET, host, &address->sin_addr) == 1;
}

int listen_at(const struct address *address)
{
	int on = 1, fd = socket(address->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(fd, (const struct sockaddr *)&address->address, address->length) < 0 || listen(fd, 4096) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

void set_blocking(const struct side *side, int fd, bool blocking)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK) < 0)
		stop(side, "fcntl(): %s", error_name(errno));
}

void set_option(const struct side *side, int fd, int level, int name, int value)
{
	if (setsockopt(fd, level, name, &value, sizeof value) < 0)
		stop(side, "setsockopt(%d, %d) to %d: %s", level, name, value, error_name(errno));
}

int get_option(const struct side *side, int fd, int level, int name)
{
	int value = 0;
	socklen_t length = sizeof value;

	if (getsockopt(fd, level, name, &value, &length) < 0)
		stop(side, "getsockopt(%d, %d): %s", level, name, error_name(errno));
	return value;
}

int side_socket(const struct side *side)
{
	const struct address *source = &side->settings->bind;
	int on = 1, fd = socket(side->settings->connect.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		stop(side, "socket(): %s", error_name(errno));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (source->length > 0 && bind(fd, (const struct sockaddr *)&source->address, source->length) < 0)
		stop(side, "bind() to the address of --bind: %s", error_name(errno));
	return fd;
}

int side_connect_another(struct side *side)
{
	const struct address *to = &side->settings->connect;
	int fd = side_socket(side);

	doing("connecting");
	if (connect(fd, (const struct sockaddr *)&to->address, to->length) < 0)
		stop(side, "connect(): %s", error_name(errno));
	set_blocking(side, fd, false);
	return fd;
}

int side_accept_another(struct side *side)
{
	for (;;) {
		doing("waiting for a connection");
		wait_for(side->listener, POLLIN, -1);
		int fd = accept4(side->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0)
			return fd;
		if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
			stop(side, "accept(): %s", error_name(errno));
	}
}

/*
 * With --gate, whoever runs the exchange counts what is not the exchange's own: the client says "using" before a connection is warmed up and "warm"
 * behind it, and goes on when it reads a byte. One byte between the two ends the warm-up.
 */
static bool has_gate(const struct side *side)
{
	return side->settings->gate && side->role == CLIENT;
}

static void pass_gate(const struct side *side, const char *word)
{
	char byte;

	if (!has_gate(side))
		return;
	dprintf(STDERR_FILENO, "%s\n", word);
	doing("waiting for its standard input");
	if (read(STDIN_FILENO, &byte, 1) < 0)
		stop(side, "standard input: %s", error_name(errno));
}

static bool is_long_enough(const struct side *side, int64_t end)
{
	char byte;

	if (has_gate(side) && wait_for(STDIN_FILENO, POLLIN, 0))
		return read(STDIN_FILENO, &byte, 1) >= 0;
	return now_us() >= end;
}

void warm_up(struct side *side, int fd)
{
	char bytes[WARM_UP_SIZE];

	pass_gate(side, "using");
	doing("warming up");
	for (int round = 0; round < WARM_UP_ROUNDS; round++) {
		memset(bytes, 'a' + round, sizeof bytes);
		if (side->role == CLIENT)
			send_all(side, fd, bytes, sizeof bytes);
		receive_all(side, fd, bytes, sizeof bytes);
		if (bytes[0] != 'a' + round)
			stop(side, "another connection's bytes at the beginning of this one");
		if (side->role == SERVER)
			send_all(side, fd, bytes, sizeof bytes);
	}
	side_meet(side, "warm");
}

/* What lies between the halves may look for a while before it does what it does. */
void keep_warm(struct side *side, int fd)
{
	int64_t end = now_us() + side->settings->warm * 1000LL;
	char bytes[WARM_UP_SIZE];

	for (char more = side->settings->warm > 0; more;) {
		if (side->role == CLIENT) {
			memset(bytes, is_long_enough(side, end) ? 'e' : 'm', sizeof bytes);
			send_all(side, fd, bytes, sizeof bytes);
		}
		receive_all(side, fd, bytes, sizeof bytes);
		if (side->role == SERVER)
			send_all(side, fd, bytes, sizeof bytes);
		more = bytes[0] == 'm';
		nap(1000);
	}
	pass_gate(side, "warm");
	side_meet(side, "still warm");
}
