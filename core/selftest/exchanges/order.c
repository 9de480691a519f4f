/* What may change at one end between two messages while the first one is unread: the second must not overtake it. */
#include "exchange.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#define ROUNDS 20
#define MARK 8
#define MARK_ROUNDS 2
#define SOON 2000 /* ms in which a reader must be told */
#define QUIET 100 /* ms in which it may be */

static const int parts[] = {3, 4, 2}; /* bytes: the last one reaches the mark */

/* Two messages in a row; the reader changes itself before the first one and back before the second. */
static void give_two(struct side *side)
{
	struct stream stream = direction(side, true);

	for (int round = 0; round < ROUNDS; round++) {
		side_meet(side, "changed");
		stream_send(side, side->fd, &stream, 70);
		side_meet(side, "changed back");
		stream_send(side, side->fd, &stream, 50);
		side_meet(side, "read");
	}
}

static void take_two(struct side *side, void (*change)(struct side *, bool))
{
	struct stream stream = direction(side, false);

	for (int round = 0; round < ROUNDS; round++) {
		change(side, round % 2 == 0);
		side_meet(side, "changed");
		settle(side, side->fd, 70);
		change(side, round % 2 != 0);
		side_meet(side, "changed back");
		change(side, false); /* the second message may be under way */
		stream_receive(side, side->fd, &stream, 120);
		side_meet(side, "read");
	}
	note_stream(side, "received", &stream);
}

static void change_blocking(struct side *side, bool on)
{
	set_blocking(side, side->fd, on);
}

static void take_blocking(struct side *side)
{
	take_two(side, change_blocking);
}

static void order_blocking(struct side *side)
{
	both_ways(side, give_two, take_blocking);
}

static void change_lowat(struct side *side, bool on)
{
	set_option(side, side->fd, SOL_SOCKET, SO_RCVLOWAT, on ? 10 : 1);
}

static void take_lowat(struct side *side)
{
	take_two(side, change_lowat);
}

static void order_lowat(struct side *side)
{
	both_ways(side, give_two, take_lowat);
}

static void give_parts(struct side *side)
{
	struct stream stream = direction(side, true);

	for (int round = 0; round < MARK_ROUNDS; round++) {
		for (size_t part = 0; part < sizeof parts / sizeof *parts; part++) {
			side_meet(side, "next part");
			stream_send(side, side->fd, &stream, parts[part]);
		}
		side_meet(side, "read");
	}
}

static bool is_told(int epoll, int milliseconds)
{
	struct epoll_event event;

	return epoll_wait(epoll, &event, 1, milliseconds) == 1;
}

/* The reader is told of a first message, and then wants to hear of the next ones only when there are MARK bytes. */
static void take_at_mark(struct side *side)
{
	struct stream stream = direction(side, false);
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, side->fd, &event) < 0)
		stop(side, "epoll: %s", error_name(errno));
	for (int round = 0; round < MARK_ROUNDS; round++) {
		side_meet(side, "next part");
		expect(side, is_told(epoll, SOON), "%d bytes are not told of", parts[0]);
		set_option(side, side->fd, SOL_SOCKET, SO_RCVLOWAT, parts[0]);
		note(side, "difference low-water: a mark that is reached already: %s", is_told(epoll, QUIET) ? "told" : "not told");
		set_option(side, side->fd, SOL_SOCKET, SO_RCVLOWAT, MARK);
		note(side, "difference low-water: below the mark poll shows %s", wait_for(side->fd, POLLIN, 0) ? "IN" : "nothing");
		side_meet(side, "next part");
		is_told(epoll, QUIET);
		side_meet(side, "next part");
		expect(side, is_told(epoll, SOON), "%d bytes are not told of when %d are the mark", parts[0] + parts[1] + parts[2], MARK);
		set_option(side, side->fd, SOL_SOCKET, SO_RCVLOWAT, 1);
		stream_receive(side, side->fd, &stream, parts[0] + parts[1] + parts[2]);
		side_meet(side, "read");
	}
	note_stream(side, "received", &stream);
	close(epoll);
}

static void low_water_later(struct side *side)
{
	both_ways(side, give_parts, take_at_mark);
}

/* The sender holds the first message back with TCP_CORK, and the second follows at once when it lets go. */
static void give_corked(struct side *side)
{
	struct stream stream = direction(side, true);

	for (int round = 0; round < ROUNDS; round++) {
		set_option(side, side->fd, IPPROTO_TCP, TCP_CORK, 1);
		stream_send(side, side->fd, &stream, 70);
		if (round % 2 == 0)
			set_option(side, side->fd, IPPROTO_TCP, TCP_CORK, 0);
		stream_send(side, side->fd, &stream, 50);
		set_option(side, side->fd, IPPROTO_TCP, TCP_CORK, 0);
		stream_send(side, side->fd, &stream, 30);
		side_meet(side, "sent");
		side_meet(side, "read");
	}
}

static void take_corked(struct side *side)
{
	struct stream stream = direction(side, false);

	for (int round = 0; round < ROUNDS; round++) {
		side_meet(side, "sent");
		stream_receive(side, side->fd, &stream, 150);
		side_meet(side, "read");
	}
	note_stream(side, "received", &stream);
}

static void order_cork(struct side *side)
{
	both_ways(side, give_corked, take_corked);
}

/* Large and small messages, with a reader that is always a little behind: part of the stream may wait on one path while the rest takes another. */
static void give_behind(struct side *side)
{
	struct stream stream = direction(side, true);
	uint64_t chance = side->seed;

	for (int message = 0; message < 400; message++)
		stream_send(side, side->fd, &stream, 1 + random_below(&chance, message % 7 == 0 ? 60000 : 600));
	side_swap(side, "all sent", stream.position);
}

static void take_behind(struct side *side)
{
	struct stream stream = direction(side, false);
	uint64_t chance = side->seed, bytes = 0;

	for (int message = 0; message < 400; message++)
		bytes += 1 + random_below(&chance, message % 7 == 0 ? 60000 : 600);
	while (stream.position < bytes) {
		uint64_t left = bytes - stream.position, size = 1 + random_below(&chance, 9000);

		if (random_below(&chance, 50) == 0)
			nap(500);
		set_option(side, side->fd, SOL_SOCKET, SO_RCVLOWAT, random_below(&chance, 10) == 0 ? 2 : 1);
		set_option(side, side->fd, SOL_SOCKET, SO_RCVLOWAT, 1);
		stream_receive(side, side->fd, &stream, size < left ? size : left);
	}
	expect(side, side_swap(side, "all sent", 0) == bytes, "another number of bytes was sent");
	note_stream(side, "received", &stream);
}

static void order_behind(struct side *side)
{
	both_ways(side, give_behind, take_behind);
}

const struct exchange order_exchanges[] = {
    {"order-blocking", "a reader turns to blocking, or from it, with data unread: the next message stays behind it", EX_FAST, order_blocking,
     order_blocking},
    {"order-low-water", "a reader sets SO_RCVLOWAT, or clears it, with data unread: the next message stays behind it", EX_FAST, order_lowat,
     order_lowat},
    {"low-water-later", "a reader sets SO_RCVLOWAT with data unread, and is told when there is enough", EX_DIFFERS_LOW_WATER, low_water_later,
     low_water_later},
    {"order-cork", "a sender holds data back with TCP_CORK: the next message stays behind it", EX_FAST, order_cork, order_cork},
    {"order-behind", "a reader that is always a little behind", EX_FAST, order_behind, order_behind},
    {0},
};
