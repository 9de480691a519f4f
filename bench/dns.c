// SPDX-License-Identifier: Apache-2.0
/*
 * The bench's DNS: a server that answers everything at once, and clients that ask as resolvers do.
 *
 *   dns answer ADDR PORT                answers, for ever: stands for the mesh's DNS proxy, or for a server
 *   dns connected ADDR PORT N           N queries, each from a connected socket of its own (glibc, Go, c-ares)
 *   dns kept ADDR PORT N                N queries from one connected socket
 *   dns fresh ADDR PORT N               N queries with sendto(), each from a socket of its own (musl)
 *   dns sendto ADDR PORT N              N queries with sendto() from one socket
 *   dns second ADDR PORT N FIRST        the same from a socket that has asked the server FIRST before
 *
 * Clients print one line per query, from the first system call to the answer: nanoseconds of CLOCK_MONOTONIC. An answer that does not come within a
 * second, that is another query's, or that does not come from the server that was asked ends the run with status 1.
 */
#include "load.h"

#include <sys/time.h>

enum { QUERY = 40, ANSWER = 72 };

struct question {
	union address server;
	int fd;	   /* of the one socket, where there is one */
	int named; /* the server is named with every query: sendto() and not connect() */
};

static int udp_socket(const union address *server)
{
	struct timeval patience = {.tv_sec = 1};
	int fd = socket(server->any.sa_family, SOCK_DGRAM, 0);

	must(fd >= 0, "socket");
	must(!setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), "SO_RCVTIMEO");
	return fd;
}

static void serve(union address own)
{
	unsigned char message[512];
	int fd = socket(own.any.sa_family, SOCK_DGRAM, 0);

	must(fd >= 0, "socket");
	must(!bind(fd, &own.any, length(&own)), "bind");
	ready();
	for (;;) {
		union address asker;
		socklen_t size = sizeof(asker);
		ssize_t got = recvfrom(fd, message, sizeof(message), 0, &asker.any, &size);

		if (got < QUERY)
			continue;
		message[2] |= 0x80; /* the bit that says "answer" */
		memset(message + got, 0, ANSWER - QUERY);
		sendto(fd, message, ANSWER, 0, &asker.any, size);
	}
}

static int same(const union address *a, const union address *b)
{
	if (a->any.sa_family != b->any.sa_family || a->v4.sin_port != b->v4.sin_port)
		return 0;
	if (a->any.sa_family == AF_INET)
		return a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
	return !memcmp(&a->v6.sin6_addr, &b->v6.sin6_addr, sizeof(a->v6.sin6_addr));
}

static void ask(int fd, const struct question *question)
{
	static unsigned short id;
	unsigned char query[QUERY] = {[2] = 1, [5] = 1}, reply[512];
	union address from;
	socklen_t size = sizeof(from);
	ssize_t got;

	query[0] = ++id >> 8;
	query[1] = id & 0xff;
	if (question->named)
		must(sendto(fd, query, QUERY, 0, &question->server.any, length(&question->server)) == QUERY, "sendto");
	else
		must(send(fd, query, QUERY, 0) == QUERY, "send");
	got = recvfrom(fd, reply, sizeof(reply), 0, &from.any, &size);
	must(got >= 0, "no answer");
	if (got == ANSWER && !memcmp(reply, query, 2) && (reply[2] & 0x80) && same(&from, &question->server))
		return;
	fputs("an answer that nobody asked for\n", stderr);
	exit(1);
}

static long long from_new_socket(void *argument)
{
	const struct question *question = argument;
	const union address *server = &question->server;
	long long start = now(), end;
	int fd = udp_socket(server);

	if (!question->named)
		must(!connect(fd, &server->any, length(server)), "connect");
	ask(fd, question);
	end = now();
	close(fd);
	return end - start;
}

static long long from_one_socket(void *argument)
{
	const struct question *question = argument;
	long long start = now();

	ask(question->fd, question);
	return now() - start;
}

static int client(const char *mode, union address server, int count, const union address *first)
{
	int connected = !strcmp(mode, "connected"), kept = !strcmp(mode, "kept"), fresh = !strcmp(mode, "fresh");
	struct question question = {.server = server, .named = !connected && !kept};

	if (first) {
		struct question earlier = {.server = *first, .named = 1};

		question.fd = udp_socket(first);
		ask(question.fd, &earlier);
	} else if (connected || fresh) {
		measure(from_new_socket, &question, count);
		return 0;
	} else {
		question.fd = udp_socket(&server);
		if (kept)
			must(!connect(question.fd, &server.any, length(&server)), "connect");
	}
	measure(from_one_socket, &question, count);
	return 0;
}

int main(int argc, char **argv)
{
	union address first;

	alarm(LIFETIME); /* nothing of the bench outlives it for long, whatever happens to its parent */
	if (argc == 4 && !strcmp(argv[1], "answer"))
		serve(address(argv[2], argv[3]));
	if (argc == 5 && (!strcmp(argv[1], "connected") || !strcmp(argv[1], "kept") || !strcmp(argv[1], "fresh") || !strcmp(argv[1], "sendto")))
		return client(argv[1], address(argv[2], argv[3]), number_of(argv[4]), NULL);
	if (argc != 6 || strcmp(argv[1], "second"))
		return 2;
	first = address(argv[5], argv[3]);
	return client(argv[1], address(argv[2], argv[3]), number_of(argv[4]), &first);
}
