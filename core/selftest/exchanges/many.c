/* Many connections: at once, one after the other, and in many threads. */
#include "endings.h"
#include "pipes.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define BATCH 200
#define ROUNDS 4
#define MESSAGE 100
#define SPARE_FILES 64
#define PER_SOURCE 20000 /* fewer than the ports of one address */
#define CHURN 500
#define THREADS 16
#define THREAD_ROUNDS 60

/* How many connections this half's limit of open files allows. */
static unsigned allowed(const struct side *side)
{
	struct rlimit files;
	rlim_t wanted = (rlim_t)side->settings->connections + SPARE_FILES;

	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		stop(side, "getrlimit(): %s", error_name(errno));
	if (files.rlim_cur < wanted) {
		struct rlimit more = {wanted, files.rlim_max > wanted ? files.rlim_max : wanted};

		if (setrlimit(RLIMIT_NOFILE, &more) < 0) {
			more = (struct rlimit){files.rlim_max, files.rlim_max};
			setrlimit(RLIMIT_NOFILE, &more);
		}
		getrlimit(RLIMIT_NOFILE, &files);
	}
	return files.rlim_cur < wanted ? (unsigned)files.rlim_cur - SPARE_FILES : side->settings->connections;
}

/* More than one address has ports for come from several of 127.0.0.0/8, when the server is there. */
static int connect_one(struct side *side, unsigned index)
{
	const struct address *to = &side->settings->connect;
	const struct sockaddr_in *server = (const struct sockaddr_in *)&to->address;

	if (side->settings->connections <= PER_SOURCE || side->settings->bind.length > 0 || to->address.ss_family != AF_INET ||
	    ntohl(server->sin_addr.s_addr) >> 24 != 127)
		return side_connect_another(side);
	struct sockaddr_in source = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f010001 + index / PER_SOURCE)};
	int fd = side_socket(side);
	if (bind(fd, (struct sockaddr *)&source, sizeof source) < 0 || connect(fd, (const struct sockaddr *)&to->address, to->length) < 0)
		stop(side, "connection %u: %s", index, error_name(errno));
	set_blocking(side, fd, false);
	return fd;
}

/* The content belongs to one connection, round and direction: `index` is the client's, which the server learns from the first message. */
static uint64_t message_key(const struct side *side, unsigned index, int round, enum role reader)
{
	return stream_to(side, reader).key + ((uint64_t)index << 8) + round;
}

static void send_message(const struct side *side, int fd, unsigned index, int round)
{
	char bytes[MESSAGE];

	content_fill(bytes, sizeof bytes, message_key(side, index, round, !side->role), 0);
	memcpy(bytes, &index, sizeof index);
	send_all(side, fd, bytes, sizeof bytes);
}

static unsigned receive_message(const struct side *side, int fd, int round)
{
	char bytes[MESSAGE], expected[MESSAGE];
	unsigned index;

	receive_all(side, fd, bytes, sizeof bytes);
	memcpy(&index, bytes, sizeof index);
	content_fill(expected, sizeof expected, message_key(side, index, round, side->role), 0);
	if (memcmp(bytes + sizeof index, expected + sizeof index, MESSAGE - sizeof index) != 0)
		stop(side, "round %d: a message of connection %u is wrong", round, index);
	return index;
}

struct connection {
	int fd;
	unsigned index;
};

static void establish(struct side *side, struct connection *all, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		doing("establishing connection %u", i);
		all[i].index = i;
		all[i].fd = side->role == CLIENT ? connect_one(side, i) : side_accept_another(side);
		set_option(side, all[i].fd, IPPROTO_TCP, TCP_NODELAY, 1);
		if (i % BATCH == BATCH - 1)
			side_meet(side, "batch");
	}
	side_meet(side, "established");
}

static void exchange_on_each(struct side *side, struct connection *all, unsigned count, int round)
{
	if (side->role == CLIENT)
		for (unsigned i = 0; i < count; i++)
			send_message(side, all[i].fd, all[i].index, round);
	for (unsigned i = 0; i < count; i++) {
		doing("receiving on connection %u of %u in round %d", i, count, round);
		unsigned index = receive_message(side, all[i].fd, round);

		if (side->role == SERVER && round == 0)
			all[i].index = index;
		if (index != all[i].index)
			stop(side, "connection %u received a message of connection %u", all[i].index, index);
		if (side->role == SERVER)
			send_message(side, all[i].fd, index, round);
	}
}

/* The server's FIN comes first: its TIME_WAIT takes no port from the client. A RST, which leaves none, may be lost among so many. */
static void close_each(struct side *side, struct connection *all, unsigned count)
{
	unsigned right = 0;
	char byte;

	for (unsigned i = 0; i < count; i++)
		if (side->role == SERVER)
			shutdown(all[i].fd, SHUT_WR);
	for (unsigned i = 0; i < count; i++) {
		doing("waiting for the end of connection %u", i);
		wait_for(all[i].fd, POLLIN, -1);
		right += recv(all[i].fd, &byte, 1, 0) == 0;
		close(all[i].fd);
	}
	observe_number(side, "connections that ended in EOF", right, count);
}

static void many_connections(struct side *side)
{
	unsigned mine = allowed(side), theirs = side_swap(side, "allowed", mine), count = mine < theirs ? mine : theirs;
	struct connection *all = calloc(count, sizeof *all);

	if (!all)
		stop(side, "no memory");
	alarm(side->settings->timeout + count / 250);
	establish(side, all, count);
	note(side, "%u connections", count);
	for (int round = 0; round < ROUNDS; round++)
		exchange_on_each(side, all, count, round);
	note(side, "%d exchanges on each", ROUNDS);
	close_each(side, all, count);
	free(all);
}

/* Both halves close in turn, so TIME_WAIT is at both. */
static void churn(struct side *side)
{
	unsigned count = CHURN * side->settings->scale;

	alarm(side->settings->timeout + count / 250);
	for (unsigned i = 0; i < count; i++) {
		int fd = another_cold(side);
		bool first = (i % 2 == 0) == (side->role == CLIENT);
		char byte;

		if (side->role == CLIENT)
			send_message(side, fd, i, 0);
		unsigned index = receive_message(side, fd, 0);
		if (index != i)
			stop(side, "connection %u received a message of connection %u", i, index);
		if (side->role == SERVER)
			send_message(side, fd, i, 0);
		if (!first) {
			wait_for(fd, POLLIN, -1);
			if (recv(fd, &byte, 1, 0) != 0)
				stop(side, "connection %u does not end in EOF", i);
		}
		close(fd);
	}
	note(side, "%u connections, one exchange on each", count);
}

struct thread {
	struct side *side;
	pthread_t thread;
	int fd;
	unsigned index;
	uint64_t sum;
};

static void *thread_exchange(void *argument)
{
	struct thread *thread = argument;
	struct stream up = stream_to(thread->side, SERVER), down = stream_to(thread->side, CLIENT);
	uint64_t chance = thread->side->seed + thread->index;

	up.key += thread->index;
	down.key += thread->index;
	for (int round = 0; round < THREAD_ROUNDS; round++) {
		size_t request = 1 + random_below(&chance, 3000), response = 1 + random_below(&chance, 9000);

		if (thread->side->role == CLIENT) {
			stream_send(thread->side, thread->fd, &up, request);
			stream_receive(thread->side, thread->fd, &down, response);
		} else {
			stream_receive(thread->side, thread->fd, &up, request);
			stream_send(thread->side, thread->fd, &down, response);
		}
	}
	thread->sum = up.sum ^ down.sum;
	return NULL;
}

static void threads(struct side *side)
{
	struct thread all[THREADS];
	uint64_t sum = 0;

	for (unsigned i = 0; i < THREADS; i++)
		all[i] = (struct thread){.side = side, .fd = another(side), .index = i};
	for (unsigned i = 0; i < THREADS; i++)
		if (pthread_create(&all[i].thread, NULL, thread_exchange, &all[i]) != 0)
			stop(side, "pthread_create() failed");
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(all[i].thread, NULL);
		close(all[i].fd);
		sum = sum * 31 + all[i].sum;
	}
	note(side, "%d threads, sum %016llx", THREADS, (unsigned long long)sum);
}

const struct exchange many_exchanges[] = {
    {"many-connections", "10,000 connections: all established, exchanges on each, all closed", EX_OWN_START, many_connections, many_connections},
    {"churn", "connection churn: connect, one exchange, close, again and again", EX_OWN_START, churn, churn},
    {"threads", "many threads, each with a connection of its own, at once", EX_FAST, threads, threads},
    {0},
};
