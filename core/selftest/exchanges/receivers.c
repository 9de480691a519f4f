/* Threads of one process that receive from one socket. */
#include "exchange.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define SHARE 300000
#define SMALL_SHARE 2000

/* Two readers share the bytes in any way: no byte is lost or doubled, which their counts show. */
static struct {
	struct side *side;
	atomic_size_t got, counts[256];
} shared;

static void *read_share(void *argument)
{
	unsigned char bytes[3000];

	(void)argument;
	while (atomic_load(&shared.got) < SHARE) {
		if (!wait_for(shared.side->fd, POLLIN, 20))
			continue;
		ssize_t got = recv(shared.side->fd, bytes, sizeof bytes, MSG_DONTWAIT);

		if (got == 0 || (got < 0 && errno != EAGAIN))
			stop(shared.side, "recv(): %s", got == 0 ? "EOF" : error_name(errno));
		for (ssize_t i = 0; i < got; i++)
			shared.counts[bytes[i]]++;
		if (got > 0)
			atomic_fetch_add(&shared.got, got);
	}
	return NULL;
}

static void give_to_two_threads(struct side *side)
{
	struct stream stream = direction(side, true);
	uint64_t chance = side->seed;

	while (stream.position < SHARE) {
		size_t size = 1 + random_below(&chance, 4000);

		stream_send(side, side->fd, &stream, size < SHARE - stream.position ? size : SHARE - stream.position);
	}
	side_meet(side, "read");
}

static void take_in_two_threads(struct side *side)
{
	struct stream stream = direction(side, false);
	static char right[SHARE];
	size_t counts[256] = {0}, wrong = 0;
	pthread_t threads[2];

	memset(&shared, 0, sizeof shared);
	shared.side = side;
	doing("receiving in two threads");
	for (int i = 0; i < 2; i++)
		if (pthread_create(&threads[i], NULL, read_share, NULL) != 0)
			stop(side, "pthread_create() failed");
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	content_fill(right, SHARE, stream.key, 0);
	for (size_t i = 0; i < SHARE; i++)
		counts[(unsigned char)right[i]]++;
	for (int i = 0; i < 256; i++)
		wrong += counts[i] != shared.counts[i];
	note(side, "received %zu bytes in two threads", atomic_load(&shared.got));
	expect(side, wrong == 0, "%zu values came more or less often than they were sent", wrong);
	side_meet(side, "read");
}

/* Data wakes both threads, one of them takes it, and the other one has to go on waiting. */
static void *read_share_blocking(void *argument)
{
	char bytes[3000];

	(void)argument;
	while (atomic_load(&shared.got) < SMALL_SHARE) {
		ssize_t got = recv(shared.side->fd, bytes, sizeof bytes, 0);

		if (got <= 0)
			stop(shared.side, "a blocking recv() gives %s", got == 0 ? "EOF" : error_name(errno));
		atomic_fetch_add(&shared.got, got);
	}
	return NULL;
}

static void give_to_two_blocking(struct side *side)
{
	struct stream stream = direction(side, true);

	while (stream.position < SMALL_SHARE) {
		nap(1000);
		stream_send(side, side->fd, &stream, 100);
	}
	side_meet(side, "all sent");
	stream_send(side, side->fd, &stream, 1);
	side_meet(side, "read");
}

static void take_in_two_blocking(struct side *side)
{
	pthread_t threads[2];
	char byte;

	set_blocking(side, side->fd, true);
	memset(&shared, 0, sizeof shared);
	shared.side = side;
	for (int i = 0; i < 2; i++)
		if (pthread_create(&threads[i], NULL, read_share_blocking, NULL) != 0)
			stop(side, "pthread_create() failed");
	while (atomic_load(&shared.got) < SMALL_SHARE)
		nap(1000);
	side_meet(side, "all sent"); /* one more byte ends the thread that still waits */
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	if (atomic_load(&shared.got) == SMALL_SHARE)
		receive_all(side, side->fd, &byte, 1);
	set_blocking(side, side->fd, false);
	note(side, "received %d bytes in two threads", SMALL_SHARE);
	side_meet(side, "read");
}

static void two_receivers_blocking(struct side *side)
{
	both_ways(side, give_to_two_blocking, take_in_two_blocking);
}

static void two_receivers(struct side *side)
{
	both_ways(side, give_to_two_threads, take_in_two_threads);
}

const struct exchange receiver_exchanges[] = {
    {"two-receivers", "two threads that receive from one socket", EX_FAST, two_receivers, two_receivers},
    {"two-receivers-blocking", "two threads that receive from one blocking socket", EX_FAST | EX_BLOCKING, two_receivers_blocking,
     two_receivers_blocking},
    {0},
};
