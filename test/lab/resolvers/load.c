/*
 * Many DNS queries at once: load connected|unconnected|mmsg SOCKETS ROUNDS SERVER...
 *
 *     connected    SOCKETS sockets for each server, each connected to it
 *     unconnected  SOCKETS sockets, each of which asks all servers, with sendto() and recvfrom()
 *     mmsg         the same with sendmmsg() and recvmmsg()
 *
 * Servers are IPv4, IPv6 or mapped addresses; where one is not IPv4, the sockets are IPv6. All queries of a round have the same id, as musl does
 * it, but the name tells the server, the socket and the round. Nothing waits for an answer until all are sent. Prints one line of JSON; `proxied`
 * are the answers of the proxy of server.py.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { MAX_SERVERS = 16, MAX_SOCKETS = 256, MAX_ROUNDS = 2048, SIZE = 512, PROXY = 53, QUIET_MS = 2000, TOTAL_MS = 30000 };

static struct sockaddr_storage servers[MAX_SERVERS];
static int server_count, socket_count, rounds, family = AF_INET, connected, many;
static int sockets[MAX_SOCKETS];
static unsigned char seen[MAX_SERVERS][MAX_SOCKETS][MAX_ROUNDS];
static struct {
	int sent, answered, proxied, twice, stranger, mixed, errors, lastError;
} count;

static socklen_t length_of(void)
{
	return family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

static void read_servers(char **texts)
{
	for (int i = 0; i < server_count; i++)
		if (strchr(texts[i], ':'))
			family = AF_INET6;
	for (int i = 0; i < server_count; i++) {
		struct sockaddr_in *v4 = (void *)&servers[i];
		struct sockaddr_in6 *v6 = (void *)&servers[i];
		char text[64];
		servers[i].ss_family = family;
		v4->sin_port = htons(53); /* at the same place in both */
		snprintf(text, sizeof(text), "%s%s", family == AF_INET6 && !strchr(texts[i], ':') ? "::ffff:" : "", texts[i]);
		if (inet_pton(family, text, family == AF_INET ? (void *)&v4->sin_addr : (void *)&v6->sin6_addr) != 1)
			exit(2);
	}
}

static int same(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	const struct sockaddr_in *a4 = (const void *)a, *b4 = (const void *)b;
	const struct sockaddr_in6 *a6 = (const void *)a, *b6 = (const void *)b;
	if (a->ss_family != b->ss_family || a4->sin_port != b4->sin_port)
		return 0;
	return family == AF_INET ? a4->sin_addr.s_addr == b4->sin_addr.s_addr : !memcmp(&a6->sin6_addr, &b6->sin6_addr, 16);
}

static void fail(void)
{
	count.errors++;
	count.lastError = errno;
}

static void open_sockets(void)
{
	for (int k = 0; k < socket_count; k++) {
		int bytes = 8 << 20;
		sockets[k] = socket(family, SOCK_DGRAM | SOCK_NONBLOCK, 0);
		setsockopt(sockets[k], SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
		setsockopt(sockets[k], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
		if (connected && connect(sockets[k], (void *)&servers[k % server_count], length_of()))
			fail();
	}
}

static size_t query(unsigned char *out, int server, int k, int round)
{
	static const unsigned char header[] = {0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, end[] = {4, 'l', 'o', 'a', 'd', 0, 0, 1, 0, 1};
	char label[32];
	int length = snprintf(label, sizeof(label), "s%d-k%d-r%d", server, k, round);
	memcpy(out, header, sizeof(header));
	out[0] = round >> 8;
	out[1] = round;
	out[sizeof(header)] = length;
	memcpy(out + sizeof(header) + 1, label, length);
	memcpy(out + sizeof(header) + 1 + length, end, sizeof(end));
	return sizeof(header) + 1 + length + sizeof(end);
}

/* One datagram; the answer must come from the server that its question names, to the socket that asked. */
static void take(const unsigned char *data, int length, const struct sockaddr_storage *from, int k)
{
	int server, asker, round, known = 0;
	char label[64] = "";
	for (int i = 0; i < server_count; i++)
		known |= same(from, &servers[i]);
	if (!known) {
		count.stranger++;
		return;
	}
	if (length > 13 && data[12] < sizeof(label) && length > 13 + data[12])
		memcpy(label, data + 13, data[12]);
	if (sscanf(label, "s%d-k%d-r%d", &server, &asker, &round) != 3 || server < 0 || server >= server_count || round < 0 || round >= rounds ||
	    asker != k || !same(from, &servers[server]) || (data[0] << 8 | data[1]) != round || (data[3] & 15))
		count.mixed++;
	else if (seen[server][k][round]++)
		count.twice++;
	else
		count.answered++, count.proxied += data[length - 2] == PROXY;
}

static int receive(int k)
{
	unsigned char data[16][SIZE];
	struct sockaddr_storage from[16];
	int got = 0;
	if (many) {
		struct mmsghdr messages[16] = {0};
		struct iovec parts[16];
		for (int i = 0; i < 16; i++) {
			parts[i] = (struct iovec){data[i], SIZE};
			messages[i].msg_hdr = (struct msghdr){.msg_name = &from[i], .msg_namelen = sizeof(from[i]), .msg_iov = &parts[i], .msg_iovlen = 1};
		}
		got = recvmmsg(sockets[k], messages, 16, 0, NULL);
		for (int i = 0; i < got; i++)
			take(data[i], messages[i].msg_len, &from[i], k);
	} else {
		socklen_t size = sizeof(from[0]);
		int length = recvfrom(sockets[k], data[0], SIZE, 0, (void *)&from[0], &size);
		if (length >= 0)
			take(data[0], length, &from[0], k), got = 1;
		else
			got = -1;
	}
	if (got < 0 && errno != EAGAIN)
		fail();
	return got > 0;
}

static void ask(int k, int round)
{
	unsigned char data[MAX_SERVERS][SIZE];
	struct mmsghdr messages[MAX_SERVERS] = {0};
	struct iovec parts[MAX_SERVERS];
	int n = 0;
	for (int s = 0; s < server_count; s++) {
		if (connected && s != k % server_count)
			continue;
		parts[n] = (struct iovec){data[s], query(data[s], s, k, round)};
		messages[n].msg_hdr = (struct msghdr){.msg_iov = &parts[n], .msg_iovlen = 1};
		if (!connected)
			messages[n].msg_hdr.msg_name = &servers[s], messages[n].msg_hdr.msg_namelen = length_of();
		n++;
	}
	int sent = many ? sendmmsg(sockets[k], messages, n, 0) : 0;
	for (int i = 0; !many && i < n; i++)
		if (sendmsg(sockets[k], &messages[i].msg_hdr, 0) >= 0)
			sent++;
	if (sent < n)
		fail();
	count.sent += n;
}

static long now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

int main(int argc, char **argv)
{
	if (argc < 5)
		return 2;
	connected = !strcmp(argv[1], "connected");
	many = !strcmp(argv[1], "mmsg");
	server_count = argc - 4;
	socket_count = atoi(argv[2]) * (connected ? server_count : 1);
	rounds = atoi(argv[3]);
	if (server_count > MAX_SERVERS || socket_count > MAX_SOCKETS || rounds > MAX_ROUNDS)
		return 2;
	read_servers(argv + 4);
	open_sockets();
	long start = now(), last;
	for (int round = 0; round < rounds; round++)
		for (int k = 0; k < socket_count; k++)
			ask(k, round);
	for (last = now(); now() - last < QUIET_MS && now() - start < TOTAL_MS && count.answered < count.sent;) {
		struct pollfd ready[MAX_SOCKETS];
		for (int k = 0; k < socket_count; k++)
			ready[k] = (struct pollfd){.fd = sockets[k], .events = POLLIN};
		poll(ready, socket_count, 100);
		for (int k = 0; k < socket_count; k++)
			while (ready[k].revents && receive(k))
				last = now();
	}
	printf("{\"sent\": %d, \"answered\": %d, \"proxied\": %d, \"twice\": %d, \"stranger\": %d, \"mixed\": %d, \"errors\": %d, \"lastError\": %d, \"ms\": %ld}\n", count.sent,
	       count.answered, count.proxied, count.twice, count.stranger, count.mixed, count.errors, count.lastError, now() - start);
	return 0;
}
