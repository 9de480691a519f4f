/* Readers that do not read, or not always, and buffers that hold little. */
#include "endings.h"
#include "pipes.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

#define AFTER 100000
#define WAITING (12 << 20)
#define STOPS 40
#define MOST 400000
#define TINY 4096
#define THROUGH_TINY 120000

static void expect_bounded(const struct side *side, uint64_t sent)
{
	expect(side, sent <= side->settings->bound, "%llu bytes went to a reader that does not read", (unsigned long long)sent);
	note(side, "bounded: %s", sent <= side->settings->bound ? "yes" : "no");
}

/* The reader wakes up: everything comes, the sender is woken, and the stream goes on. */
static void never_give(struct side *side)
{
	struct stream stream = stream_to(side, !side->role);
	uint64_t sent = fill_up(side, side->fd, &stream);

	expect_bounded(side, sent);
	side_swap(side, "blocked", sent);
	expect(side, wait_for(side->fd, POLLOUT, 5000), "poll() does not tell that the reader reads again");
	note(side, "poll() tells that the reader reads again");
	stream_send(side, side->fd, &stream, AFTER);
}

static void never_take(struct side *side)
{
	struct stream stream = stream_to(side, side->role);
	uint64_t sent = side_swap(side, "blocked", 0);

	stream_receive(side, side->fd, &stream, sent);
	note(side, "all that was sent is right");
	stream_receive(side, side->fd, &stream, AFTER);
	note(side, "and what came after it");
}

static void never_reads(struct side *side)
{
	both_ways(side, never_give, never_take);
}

static void blocked_give(struct side *side)
{
	struct stream stream = stream_to(side, !side->role);
	struct timeval patience = {0, 300000};
	static char bytes[65536];
	uint64_t limit = side->settings->bound + (1 << 20);
	ssize_t sent;

	set_blocking(side, side->fd, true);
	setsockopt(side->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	do {
		content_fill(bytes, sizeof bytes, stream.key, stream.position);
		sent = send(side->fd, bytes, sizeof bytes, MSG_NOSIGNAL);
		stream.position += sent > 0 ? sent : 0;
	} while (sent > 0 && stream.position < limit);
	observe(side, "a send() that waits ends in", sent < 0 ? error_name(errno) : "success", "EAGAIN");
	expect_bounded(side, stream.position);
	patience.tv_usec = 0;
	setsockopt(side->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	side_swap(side, "blocked", stream.position);
	stream_send(side, side->fd, &stream, WAITING); /* it waits in send() until the reader comes back */
	set_blocking(side, side->fd, false);
}

static void blocked_take(struct side *side)
{
	struct stream stream = stream_to(side, side->role);
	uint64_t sent = side_swap(side, "blocked", 0);

	nap(200000);
	stream_receive(side, side->fd, &stream, sent + WAITING);
	note(side, "all that was sent is right");
}

static void never_reads_blocking(struct side *side)
{
	both_ways(side, blocked_give, blocked_take);
}

static uint64_t stop_length(uint64_t *chance)
{
	return 1 + random_below(chance, MOST);
}

static void stops_give(struct side *side)
{
	struct stream stream = stream_to(side, !side->role);
	uint64_t chance = side->seed, sizes = side->seed + 1, left = 0;

	for (int i = 0; i < STOPS; i++)
		left += stop_length(&chance);
	while (left > 0) {
		uint64_t size = 1 + random_below(&sizes, MOST / 4);

		size = size < left ? size : left;
		stream_send(side, side->fd, &stream, size);
		left -= size;
	}
}

static void stops_take(struct side *side)
{
	struct stream stream = stream_to(side, side->role);
	uint64_t chance = side->seed, pauses = side->seed + 2;

	for (int i = 0; i < STOPS; i++) {
		stream_receive(side, side->fd, &stream, stop_length(&chance));
		nap(random_below(&pauses, i % 8 == 0 ? 40000 : 4000));
	}
	note_stream(side, "stream", &stream);
}

static void stop_and_go(struct side *side)
{
	both_ways(side, stops_give, stops_take);
}

/* Both directions at once, each with buffers that hold less than one piece. */
static void tiny_buffers(struct side *side)
{
	struct stream out = stream_to(side, !side->role), in = stream_to(side, side->role);
	static char bytes[16384];

	set_option(side, side->fd, SOL_SOCKET, SO_SNDBUF, TINY);
	set_option(side, side->fd, SOL_SOCKET, SO_RCVBUF, TINY);
	side_meet(side, "tiny");
	while (out.position < THROUGH_TINY || in.position < THROUGH_TINY) {
		struct pollfd one = {side->fd, POLLIN | (out.position < THROUGH_TINY ? POLLOUT : 0), 0};
		ssize_t count = THROUGH_TINY - out.position < sizeof bytes ? THROUGH_TINY - out.position : sizeof bytes;

		doing("sending %llu of %d, having received %llu", (unsigned long long)out.position, THROUGH_TINY, (unsigned long long)in.position);
		poll(&one, 1, -1);
		if (one.revents & POLLOUT) {
			content_fill(bytes, count, out.key, out.position);
			count = send(side->fd, bytes, count, MSG_NOSIGNAL);
			if (count < 0 && errno != EAGAIN)
				stop(side, "send() from a tiny buffer: %s", error_name(errno));
			out.position += count > 0 ? count : 0;
		}
		count = recv(side->fd, bytes, sizeof bytes, 0);
		if (count == 0 || (count < 0 && errno != EAGAIN))
			stop(side, "recv() to a tiny buffer: %s", count == 0 ? "EOF" : error_name(errno));
		if (count > 0)
			stream_check(side, &in, bytes, count);
	}
	note_stream(side, "stream", &in);
}

const struct exchange stall_exchanges[] = {
    {"never-reads", "a reader that never reads: the sender blocks after a bounded number of bytes", 0, never_reads, never_reads},
    {"never-reads-blocking", "a blocking sender and a reader that never reads, then does", 0, never_reads_blocking, never_reads_blocking},
    {"stop-and-go", "a reader that stops and goes on", 0, stop_and_go, stop_and_go},
    {"tiny-buffers", "SO_RCVBUF and SO_SNDBUF of 4 kB with much data in both directions", 0, tiny_buffers, tiny_buffers},
    {0},
};
