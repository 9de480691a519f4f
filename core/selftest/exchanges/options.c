/* Socket options: low water mark, time-outs, cork, no delay. */
#include "exchange.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/time.h>

#define LOW 10
#define TIMEOUT_US 100000
/* The kernel holds data back for 200 ms at most: what was looked at later than this says nothing. */
#define HELD_US 150000
#define TRIES 10

static void give_low_water(struct side *side)
{
	struct stream stream = direction(side, true);

	side_meet(side, "set");
	stream_send(side, side->fd, &stream, LOW - 6);
	side_meet(side, "looked");
	stream_send(side, side->fd, &stream, 6);
	side_meet(side, "read");
}

static void take_low_water(struct side *side)
{
	struct stream stream = direction(side, false);
	char bits[64];
	struct pollfd one = {.fd = side->fd, .events = POLLIN};

	set_option(side, side->fd, SOL_SOCKET, SO_RCVLOWAT, LOW);
	observe_number(side, "SO_RCVLOWAT", get_option(side, side->fd, SOL_SOCKET, SO_RCVLOWAT), LOW);
	side_meet(side, "set");
	settle(side, side->fd, LOW - 6);
	poll(&one, 1, 0);
	observe(side, "poll below the mark", poll_bits(bits, one.revents), "none");
	side_meet(side, "looked");
	poll(&one, 1, 2000);
	observe(side, "poll at the mark", poll_bits(bits, one.revents), "IN");
	stream_receive(side, side->fd, &stream, LOW);
	set_option(side, side->fd, SOL_SOCKET, SO_RCVLOWAT, 1);
	side_meet(side, "read");
}

static void low_water(struct side *side)
{
	both_ways(side, give_low_water, take_low_water);
}

static void give_low_water_late(struct side *side)
{
	struct stream stream = direction(side, true);

	side_meet(side, "set");
	nap(10000);
	stream_send(side, side->fd, &stream, LOW - 6);
	nap(20000);
	stream_send(side, side->fd, &stream, 6);
	nap(20000);
	stream_send(side, side->fd, &stream, LOW);
	side_meet(side, "read");
}

/* A reader that comes late finds the first bytes and takes them; plain TCP then wakes it only when LOW more are there. So more follow. */
static void take_low_water_blocking(struct side *side)
{
	struct stream stream = direction(side, false);
	char bytes[100], result[32];

	set_option(side, side->fd, SOL_SOCKET, SO_RCVLOWAT, LOW);
	set_blocking(side, side->fd, true);
	side_meet(side, "set");
	doing("in a blocking recv() that waits for %d bytes", LOW);
	ssize_t got = recv(side->fd, bytes, sizeof bytes, 0);
	observe(side, "recv(100) with SO_RCVLOWAT", got >= LOW ? "as many or more" : outcome(result, got), "as many or more");
	if (got > 0)
		stream_check(side, &stream, bytes, got);
	set_option(side, side->fd, SOL_SOCKET, SO_RCVLOWAT, 1);
	set_blocking(side, side->fd, false);
	stream_receive(side, side->fd, &stream, 2 * LOW - stream.position);
	side_meet(side, "read");
}

static void low_water_blocking(struct side *side)
{
	both_ways(side, give_low_water_late, take_low_water_blocking);
}

static void set_timeout(const struct side *side, int name, int us)
{
	struct timeval timeout = {us / 1000000, us % 1000000};

	if (setsockopt(side->fd, SOL_SOCKET, name, &timeout, sizeof timeout) < 0)
		stop(side, "setsockopt() of a time-out: %s", error_name(errno));
}

/* Only the order of magnitude: a busy machine may be late. */
static void note_waited(const struct side *side, int64_t begin)
{
	int64_t us = now_us() - begin;

	observe(side, "it waited",
		us < TIMEOUT_US * 9 / 10 ? "too short"
		: us < 30 * TIMEOUT_US	 ? "as long as it should"
					 : "too long",
		"as long as it should");
}

static void give_after_timeout(struct side *side)
{
	struct stream stream = direction(side, true);

	side_meet(side, "timed out");
	stream_send(side, side->fd, &stream, 40);
	side_meet(side, "read");
}

static void take_with_timeout(struct side *side)
{
	struct stream stream = direction(side, false);
	char bytes[100], result[32];
	int64_t begin = now_us();

	set_timeout(side, SO_RCVTIMEO, TIMEOUT_US);
	set_blocking(side, side->fd, true);
	observe(side, "recv() with nothing to come", outcome(result, recv(side->fd, bytes, sizeof bytes, 0)), "EAGAIN");
	note_waited(side, begin);
	side_meet(side, "timed out");
	set_timeout(side, SO_RCVTIMEO, 5000000);
	ssize_t got = recv(side->fd, bytes, sizeof bytes, 0);
	observe(side, "recv() when it comes in time", outcome(result, got), "40");
	if (got > 0)
		stream_check(side, &stream, bytes, got);
	set_timeout(side, SO_RCVTIMEO, TIMEOUT_US);
	begin = now_us();
	side_meet(side, "read");
	observe(side, "recv(MSG_WAITALL) with nothing to come", outcome(result, recv(side->fd, bytes, sizeof bytes, MSG_WAITALL)), "EAGAIN");
	set_timeout(side, SO_RCVTIMEO, 0);
	set_blocking(side, side->fd, false);
}

static void receive_timeout(struct side *side)
{
	both_ways(side, give_after_timeout, take_with_timeout);
}

static void give_with_timeout(struct side *side)
{
	struct stream stream = direction(side, true);
	char bytes[4096], result[32];
	ssize_t sent;
	int64_t begin;

	fill_up(side, side->fd, &stream);
	set_timeout(side, SO_SNDTIMEO, TIMEOUT_US);
	set_blocking(side, side->fd, true);
	do {
		begin = now_us();
		content_fill(bytes, sizeof bytes, stream.key, stream.position);
		sent = send(side->fd, bytes, sizeof bytes, MSG_NOSIGNAL);
		stream.position += sent > 0 ? sent : 0;
	} while (sent > 0 && stream.position < side->settings->bound);
	observe(side, "a blocking send() into a full connection", outcome(result, sent), "EAGAIN");
	note_waited(side, begin);
	set_timeout(side, SO_SNDTIMEO, 0);
	set_blocking(side, side->fd, false);
	side_swap(side, "full", stream.position);
	side_meet(side, "read");
}

static void take_all_of_it(struct side *side)
{
	struct stream stream = direction(side, false);

	stream_receive(side, side->fd, &stream, side_swap(side, "full", 0));
	note(side, "every byte was right");
	side_meet(side, "read");
}

static void send_timeout(struct side *side)
{
	both_ways(side, give_with_timeout, take_all_of_it);
}

/* Gives what the reader saw before the sender let go: 0 is nothing. Both halves come here together. */
static uint64_t held_back(struct side *side, struct stream *stream, bool giving, int flags)
{
	char bytes[100];

	for (int try = 0; try < TRIES; try++) {
		int64_t begin = now_us();
		ssize_t seen = 0;

		if (giving) {
			if (!flags)
				set_option(side, side->fd, IPPROTO_TCP, TCP_CORK, 1);
			content_fill(bytes, 40, stream->key, stream->position);
			if (send(side->fd, bytes, 40, flags) != 40)
				stop(side, "send() of 40 bytes did not send them");
			stream->position += 40;
		}
		int64_t began = side_swap(side, "held", giving ? (uint64_t)begin : 0);
		if (!giving) {
			nap(5000);
			seen = recv(side->fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
		}
		bool late = !giving && now_us() - began > HELD_US;
		uint64_t told = side_swap(side, "looked", late ? 1000 : seen < 0 ? 0 : seen);
		if (giving) {
			stream_send(side, side->fd, stream, 10);
			set_option(side, side->fd, IPPROTO_TCP, TCP_CORK, 0);
		} else
			stream_receive(side, side->fd, stream, 50);
		side_meet(side, "let go");
		if (!late && told != 1000)
			return giving ? told : (uint64_t)(seen < 0 ? 0 : seen);
	}
	stop(side, "this machine is too busy: %d times it took longer than %d ms to look", TRIES, HELD_US / 1000);
}

static void one_cork(struct side *side, bool giving)
{
	struct stream stream = direction(side, giving);
	uint64_t seen = held_back(side, &stream, giving, 0);

	note(side, "before the uncork: %llu bytes", (unsigned long long)seen);
	expect(side, seen == 0, "%llu bytes were there before the sender took TCP_CORK away", (unsigned long long)seen);
}

static void give_cork(struct side *side)
{
	one_cork(side, true);
}

static void take_cork(struct side *side)
{
	one_cork(side, false);
}

static void cork(struct side *side)
{
	both_ways(side, give_cork, take_cork);
}

static void one_more(struct side *side, bool giving)
{
	struct stream stream = direction(side, giving);
	uint64_t seen = held_back(side, &stream, giving, MSG_MORE);

	note(side, "difference more: %s", seen == 0 ? "held back" : "early");
	expect(side, seen == 0 || seen == 40, "%llu bytes of a message of 40 were there", (unsigned long long)seen);
}

static void give_more(struct side *side)
{
	one_more(side, true);
}

static void take_more(struct side *side)
{
	one_more(side, false);
}

static void more(struct side *side)
{
	both_ways(side, give_more, take_more);
}

static void no_delay(struct side *side)
{
	struct stream up = stream_to(side, SERVER), down = stream_to(side, CLIENT);

	for (int on = 0; on < 2; on++) {
		set_option(side, side->fd, IPPROTO_TCP, TCP_NODELAY, on);
		note(side, "TCP_NODELAY: %d", get_option(side, side->fd, IPPROTO_TCP, TCP_NODELAY));
		side_meet(side, "set");
		for (int round = 0; round < 10; round++) {
			struct stream *first = side->role == CLIENT ? &up : &down, *second = side->role == CLIENT ? &down : &up;

			stream_send(side, side->fd, first, 1 + round);
			stream_send(side, side->fd, first, 20);
			stream_receive(side, side->fd, second, 21 + round);
		}
	}
	note_stream(side, "requests", &up);
	note_stream(side, "responses", &down);
}

const struct exchange option_exchanges[] = {
    {"low-water", "SO_RCVLOWAT: read back, and poll honours it", EX_FAST, low_water, low_water},
    {"low-water-blocking", "SO_RCVLOWAT: a blocking recv() honours it", EX_FAST | EX_BLOCKING, low_water_blocking, low_water_blocking},
    {"receive-timeout", "SO_RCVTIMEO: EAGAIN after the time, data before it", EX_BLOCKING, receive_timeout, receive_timeout},
    {"send-timeout", "SO_SNDTIMEO: EAGAIN after the time, when the connection is full", EX_BLOCKING, send_timeout, send_timeout},
    {"cork", "TCP_CORK: the reader sees nothing until the uncork", EX_FAST, cork, cork},
    {"more", "MSG_MORE: nothing is lost; the reader may see it early", EX_DIFFERS_MORE, more, more},
    {"no-delay", "TCP_NODELAY: read back, and small messages with and without it", EX_NAGLE, no_delay, no_delay},
    {0},
};
