/* Threads of one process that share the socket. */
#include "exchange.h"
#include <errno.h>
#include <pthread.h>

#define ROUNDS 10
#define LONG (12 << 20) /* more than send and receive buffer hold */
#define SHARE 300000	/* bytes of each sending thread */

struct reader {
	struct side *side;
	struct stream stream;
};

static void *read_blocking(void *argument)
{
	struct reader *reader = argument;
	char bytes[4000];

	for (int round = 0; round < ROUNDS; round++)
		for (size_t left = 500; left > 0;) {
			ssize_t got = recv(reader->side->fd, bytes, left, 0);

			if (got <= 0)
				stop(reader->side, "a blocking recv() gives %s in round %d", got == 0 ? "EOF" : error_name(errno), round);
			stream_check(reader->side, &reader->stream, bytes, got);
			left -= got;
		}
	return NULL;
}

/* Here the reader waits for the response while the request is sent in another thread. */
static void give_while_reading(struct side *side)
{
	struct stream requests = direction(side, true);
	struct reader reader = {side, direction(side, false)};
	pthread_t thread;

	set_blocking(side, side->fd, true);
	if (pthread_create(&thread, NULL, read_blocking, &reader) != 0)
		stop(side, "pthread_create() failed");
	for (int round = 0; round < ROUNDS; round++) {
		nap(2000);
		stream_send(side, side->fd, &requests, 100);
		side_meet(side, "answered");
	}
	pthread_join(thread, NULL);
	set_blocking(side, side->fd, false);
	note_stream(side, "responses", &reader.stream);
}

static void take_and_answer(struct side *side)
{
	struct stream requests = direction(side, false), responses = direction(side, true);

	for (int round = 0; round < ROUNDS; round++) {
		stream_receive(side, side->fd, &requests, 100);
		nap(1000);
		stream_send(side, side->fd, &responses, 500);
		side_meet(side, "answered");
	}
	note_stream(side, "requests", &requests);
}

static void reader_waits(struct side *side)
{
	both_ways(side, give_while_reading, take_and_answer);
}

/* The writer fills its send buffer and waits for room, again and again: what wakes it up must not wake up the reader with nothing to read. */
static void give_long(struct side *side)
{
	struct stream stream = direction(side, true);
	struct reader reader = {side, direction(side, false)};
	pthread_t thread;

	set_blocking(side, side->fd, true);
	if (pthread_create(&thread, NULL, read_blocking, &reader) != 0)
		stop(side, "pthread_create() failed");
	stream_send(side, side->fd, &stream, LONG);
	doing("waiting for the reader");
	pthread_join(thread, NULL);
	set_blocking(side, side->fd, false);
	note_stream(side, "responses", &reader.stream);
}

static void take_long(struct side *side)
{
	struct stream stream = direction(side, false), responses = direction(side, true);

	for (int round = 0; round < ROUNDS; round++) {
		nap(3000);
		stream_receive(side, side->fd, &stream, LONG / ROUNDS);
	}
	stream_receive(side, side->fd, &stream, LONG - stream.position);
	for (int round = 0; round < ROUNDS; round++)
		stream_send(side, side->fd, &responses, 500);
	note_stream(side, "received", &stream);
}

static void reader_waits_long(struct side *side)
{
	both_ways(side, give_long, take_long);
}

/* TCP keeps the order of one thread's bytes. A message of one thread may be cut where the send buffer is full, so each byte says whose it is. */
struct sender {
	const struct side *side;
	uint64_t key;
	char mark;
};

static void mark_bytes(char *bytes, size_t size, char mark)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = (bytes[i] & 0x7f) | mark;
}

static void *send_share(void *argument)
{
	struct sender *sender = argument;
	uint64_t chance = sender->key;
	char bytes[3000];

	for (size_t sent = 0; sent < SHARE;) {
		size_t size = 1 + random_below(&chance, sizeof bytes);

		if (size > SHARE - sent)
			size = SHARE - sent;
		content_fill(bytes, size, sender->key, sent);
		mark_bytes(bytes, size, sender->mark);
		send_all(sender->side, sender->side->fd, bytes, size);
		sent += size;
	}
	return NULL;
}

static void give_in_two_threads(struct side *side)
{
	uint64_t key = direction(side, true).key;
	struct sender senders[2] = {{side, key, 0}, {side, key + 1, (char)0x80}};
	pthread_t threads[2];

	doing("sending in two threads");
	for (int i = 0; i < 2; i++)
		if (pthread_create(&threads[i], NULL, send_share, &senders[i]) != 0)
			stop(side, "pthread_create() failed");
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	note(side, "sent %d bytes in each of two threads", SHARE);
}

static void take_from_two_threads(struct side *side)
{
	uint64_t key = direction(side, false).key;
	size_t got[2] = {0, 0};
	char bytes[5000], right;

	while (got[0] + got[1] < 2 * SHARE) {
		size_t left = 2 * SHARE - got[0] - got[1], size = left < sizeof bytes ? left : sizeof bytes;

		receive_all(side, side->fd, bytes, size);
		for (size_t i = 0; i < size; i++) {
			int whose = (bytes[i] & 0x80) != 0;

			content_fill(&right, 1, key + whose, got[whose]);
			if ((right & 0x7f) != (bytes[i] & 0x7f))
				stop(side, "byte %zu of thread %d is wrong", got[whose], whose);
			got[whose]++;
		}
	}
	note(side, "received %zu bytes of one thread and %zu of the other, each in its order", got[0], got[1]);
}

static void two_senders(struct side *side)
{
	both_ways(side, give_in_two_threads, take_from_two_threads);
}

static void two_senders_blocking(struct side *side)
{
	set_blocking(side, side->fd, true);
	two_senders(side);
}

const struct exchange thread_exchanges[] = {
    {"reader-waits", "a blocking reader waits while another thread writes", EX_FAST | EX_BLOCKING, reader_waits, reader_waits},
    {"reader-waits-full", "a blocking reader waits while another thread fills the connection", EX_FAST | EX_BLOCKING, reader_waits_long,
     reader_waits_long},
    {"two-senders", "two threads that send on one socket", EX_FAST, two_senders, two_senders},
    {"two-senders-blocking", "two threads that send on one blocking socket", EX_BLOCKING, two_senders_blocking, two_senders_blocking},
    {0},
};
