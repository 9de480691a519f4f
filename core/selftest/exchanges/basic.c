/* Requests and responses, and streams in one direction. */
#include "exchange.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#define ROUNDS 300
#define IN_FLIGHT 64
#define SMALL_WRITES 3000
#define BULK (8 << 20)
#define BULK_PIECE (1 << 20)

static void ping_pong(struct side *side)
{
	struct stream up = stream_to(side, SERVER), down = stream_to(side, CLIENT);
	uint64_t chance = side->seed;

	for (int round = 0; round < ROUNDS; round++) {
		size_t request = 1 + random_below(&chance, 2000), response = 1 + random_below(&chance, 20000);

		if (side->role == CLIENT)
			stream_send(side, side->fd, &up, request);
		else
			stream_receive(side, side->fd, &up, request);
		if (side->role == SERVER)
			stream_send(side, side->fd, &down, response);
		else
			stream_receive(side, side->fd, &down, response);
	}
	note_stream(side, "requests", &up);
	note_stream(side, "responses", &down);
}

static void ping_pong_blocking(struct side *side)
{
	set_blocking(side, side->fd, true);
	ping_pong(side);
}

/* The client sends many requests before it reads; the responses come in the same order. */
static void pipelined(struct side *side)
{
	struct stream up = stream_to(side, SERVER), down = stream_to(side, CLIENT);

	for (int round = 0; round < ROUNDS / 10; round++)
		if (side->role == CLIENT) {
			for (int request = 0; request < IN_FLIGHT; request++)
				stream_send(side, side->fd, &up, 40 + request);
			for (int request = 0; request < IN_FLIGHT; request++)
				stream_receive(side, side->fd, &down, 100 + 3 * request);
		} else
			for (int request = 0; request < IN_FLIGHT; request++) {
				stream_receive(side, side->fd, &up, 40 + request);
				stream_send(side, side->fd, &down, 100 + 3 * request);
			}
	note_stream(side, "requests", &up);
	note_stream(side, "responses", &down);
}

static void give_small(struct side *side)
{
	struct stream stream = direction(side, true);

	for (int i = 0; i < SMALL_WRITES; i++)
		stream_send(side, side->fd, &stream, 1 + i % 100);
	note_stream(side, "sent", &stream);
}

static void take_small(struct side *side)
{
	struct stream stream = direction(side, false);

	for (int i = 0; i < SMALL_WRITES; i++)
		stream_receive(side, side->fd, &stream, 1 + i % 100);
	note_stream(side, "received", &stream);
}

static void small_writes(struct side *side)
{
	both_ways(side, give_small, take_small);
}

static void give_bulk(struct side *side)
{
	struct stream stream = direction(side, true);
	char *bytes = malloc(BULK_PIECE);

	for (int sent = 0; sent < BULK; sent += BULK_PIECE) {
		content_fill(bytes, BULK_PIECE, stream.key, stream.position);
		send_all(side, side->fd, bytes, BULK_PIECE);
		stream.position += BULK_PIECE;
	}
	free(bytes);
	note(side, "sent %llu bytes", (unsigned long long)stream.position);
}

static void take_bulk(struct side *side)
{
	struct stream stream = direction(side, false);

	stream_receive(side, side->fd, &stream, BULK);
	note_stream(side, "received", &stream);
}

static void bulk(struct side *side)
{
	both_ways(side, give_bulk, take_bulk);
}

static void bulk_blocking(struct side *side)
{
	set_blocking(side, side->fd, true);
	bulk(side);
}

static void give_for_single_bytes(struct side *side)
{
	struct stream stream = direction(side, true);

	for (int i = 0; i < 20; i++)
		stream_send(side, side->fd, &stream, 50 * (1 + i));
	note_stream(side, "sent", &stream);
}

static void take_single_bytes(struct side *side)
{
	struct stream stream = direction(side, false);

	for (int i = 0; i < 50 * 20 * 21 / 2; i++)
		stream_receive(side, side->fd, &stream, 1);
	note_stream(side, "received", &stream);
	char byte;
	char result[32];
	observe(side, "one more", outcome(result, recv(side->fd, &byte, 1, MSG_DONTWAIT)), "EAGAIN");
}

static void single_bytes(struct side *side)
{
	both_ways(side, give_for_single_bytes, take_single_bytes);
}

/* The calls that are not made for sockets. */
static void read_with_read(struct side *side, struct stream *stream, size_t left)
{
	char bytes[3000];

	while (left > 0) {
		wait_for(side->fd, POLLIN, -1);
		ssize_t got = read(side->fd, bytes, left);

		if (got <= 0)
			stop(side, "read(): %s", got == 0 ? "EOF" : error_name(errno));
		stream_check(side, stream, bytes, got);
		left -= got;
	}
}

static void read_write(struct side *side)
{
	struct stream up = stream_to(side, SERVER), down = stream_to(side, CLIENT);
	struct stream *out = side->role == CLIENT ? &up : &down, *in = side->role == CLIENT ? &down : &up;
	char bytes[3000];

	for (size_t size = 1000; size < 1050; size++) {
		if (side->role == SERVER)
			read_with_read(side, in, size);
		content_fill(bytes, size, out->key, out->position);
		ssize_t written = write(side->fd, bytes, size);
		expect(side, written == (ssize_t)size, "write() of %zu bytes gives %zd", size, written);
		out->position += size;
		if (side->role == CLIENT)
			read_with_read(side, in, size);
	}
	note_stream(side, "read", in);
}

const struct exchange basic_exchanges[] = {
    {"ping-pong", "request and response, again and again, non-blocking", EX_FAST, ping_pong, ping_pong},
    {"ping-pong-blocking", "request and response on blocking sockets", EX_FAST | EX_BLOCKING, ping_pong_blocking, ping_pong_blocking},
    {"read-write", "read() and write()", EX_FAST, read_write, read_write},
    {"pipelined", "many requests before the first response is read", EX_FAST, pipelined, pipelined},
    {"small-writes", "many small writes in one direction", EX_FAST | EX_NAGLE, small_writes, small_writes},
    {"small-writes-no-delay", "many small writes in one direction, with TCP_NODELAY", 0, small_writes, small_writes},
    {"bulk", "much data in one direction, in large writes", EX_FAST | EX_NAGLE, bulk, bulk},
    {"bulk-blocking", "much data in one direction on blocking sockets", EX_BLOCKING, bulk_blocking, bulk_blocking},
    {"single-bytes", "a reader that reads one byte at a time", EX_FAST, single_bytes, single_bytes},
    {0},
};
