/* How a program waits until it may read or write: poll, select, epoll. */
#include "exchange.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <unistd.h>

#define SOON 2000 /* ms in which a wake-up must come */
#define ROUNDS 12

static void ready_now(struct side *side, const char *when, const char *wanted)
{
	struct pollfd one = {.fd = side->fd, .events = POLLIN | POLLOUT | POLLPRI | POLLRDHUP};
	char bits[64], what[64];

	poll(&one, 1, 0);
	snprintf(what, sizeof what, "poll %s", when);
	observe(side, what, poll_bits(bits, one.revents), wanted);
}

static void give_poll(struct side *side)
{
	struct stream stream = direction(side, true);

	side_meet(side, "looked at an empty socket");
	stream_send(side, side->fd, &stream, 300);
	side_meet(side, "read");
	for (int round = 0; round < ROUNDS; round++) {
		side_meet(side, "about to wait");
		nap(round % 3 * 1000);
		stream_send(side, side->fd, &stream, 100);
	}
}

static void take_poll(struct side *side)
{
	struct stream stream = direction(side, false);

	ready_now(side, "of an empty socket", "OUT");
	side_meet(side, "looked at an empty socket");
	settle(side, side->fd, 300);
	ready_now(side, "with 300 bytes there", "IN|OUT");
	stream_receive(side, side->fd, &stream, 200);
	ready_now(side, "with 100 bytes there", "IN|OUT");
	stream_receive(side, side->fd, &stream, 100);
	ready_now(side, "when all is read", "OUT");
	side_meet(side, "read");
	for (int round = 0; round < ROUNDS; round++) {
		side_meet(side, "about to wait");
		expect(side, wait_for(side->fd, POLLIN, SOON), "poll() did not wake up in round %d", round);
		stream_receive(side, side->fd, &stream, 100);
	}
	note_stream(side, "received", &stream);
}

static void exchange_poll(struct side *side)
{
	both_ways(side, give_poll, take_poll);
}

static void select_now(struct side *side, const char *when, int milliseconds, const char *wanted)
{
	char what[64], shown[64];
	fd_set read, write;
	struct timeval timeout = {milliseconds / 1000, milliseconds % 1000 * 1000};

	FD_ZERO(&read);
	FD_ZERO(&write);
	FD_SET(side->fd, &read);
	if (milliseconds == 0)
		FD_SET(side->fd, &write);
	int found = select(side->fd + 1, &read, &write, NULL, &timeout);
	snprintf(what, sizeof what, "select %s", when);
	snprintf(shown, sizeof shown, "%d,%s%s", found, FD_ISSET(side->fd, &read) ? " read" : "", FD_ISSET(side->fd, &write) ? " write" : "");
	observe(side, what, shown, wanted);
}

static void take_select(struct side *side)
{
	struct stream stream = direction(side, false);

	select_now(side, "of an empty socket", 0, "1, write");
	side_meet(side, "looked at an empty socket");
	settle(side, side->fd, 300);
	select_now(side, "with 300 bytes there", 0, "2, read write");
	stream_receive(side, side->fd, &stream, 300);
	select_now(side, "when all is read", 0, "1, write");
	side_meet(side, "read");
	for (int round = 0; round < ROUNDS; round++) {
		side_meet(side, "about to wait");
		select_now(side, "that waits", SOON, "1, read");
		stream_receive(side, side->fd, &stream, 100);
	}
	note_stream(side, "received", &stream);
}

static void exchange_select(struct side *side)
{
	both_ways(side, give_poll, take_select);
}

static int watch(const struct side *side, unsigned events)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = {.events = events};

	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, side->fd, &event) < 0)
		stop(side, "epoll: %s", error_name(errno));
	return epoll;
}

static unsigned watched(int epoll, int milliseconds)
{
	struct epoll_event event = {0};

	return epoll_wait(epoll, &event, 1, milliseconds) > 0 ? event.events : 0;
}

static void note_watched(struct side *side, int epoll, int milliseconds, const char *when, const char *wanted)
{
	char bits[64], what[64];

	snprintf(what, sizeof what, "epoll %s", when);
	observe(side, what, poll_bits(bits, watched(epoll, milliseconds)), wanted);
}

static void give_epoll(struct side *side)
{
	struct stream stream = direction(side, true);

	side_meet(side, "looked at an empty socket");
	stream_send(side, side->fd, &stream, 300);
	side_meet(side, "seen");
	stream_send(side, side->fd, &stream, 200);
	side_meet(side, "read");
	for (int round = 0; round < ROUNDS; round++) {
		side_meet(side, "about to wait");
		nap(round % 3 * 1000);
		stream_send(side, side->fd, &stream, 100);
	}
}

static void take_epoll(struct side *side, unsigned events)
{
	struct stream stream = direction(side, false);
	int epoll = watch(side, EPOLLIN | EPOLLRDHUP | events);
	char byte;

	note_watched(side, epoll, 0, "of an empty socket", "none");
	side_meet(side, "looked at an empty socket");
	note_watched(side, epoll, SOON, "that waits for 300 bytes", "IN");
	settle(side, side->fd, 300);
	note_watched(side, epoll, 0, "again, nothing read", events & EPOLLET ? "none" : "IN");
	side_meet(side, "seen");
	settle(side, side->fd, 500);
	note_watched(side, epoll, SOON, "after 200 more", "IN");
	stream_receive(side, side->fd, &stream, 100);
	note_watched(side, epoll, 0, "when 100 are read", events & EPOLLET ? "none" : "IN");
	stream_receive(side, side->fd, &stream, 400);
	expect(side, recv(side->fd, &byte, 1, 0) < 0 && errno == EAGAIN, "recv() of an empty socket");
	note_watched(side, epoll, 0, "when all is read", "none");
	side_meet(side, "read");
	for (int round = 0; round < ROUNDS; round++) {
		side_meet(side, "about to wait");
		expect(side, watched(epoll, SOON) == EPOLLIN, "epoll_wait() did not wake up in round %d", round);
		stream_receive(side, side->fd, &stream, 100);
		expect(side, recv(side->fd, &byte, 1, 0) < 0 && errno == EAGAIN, "recv() of an empty socket");
	}
	note_stream(side, "received", &stream);
	close(epoll);
}

static void take_level(struct side *side)
{
	take_epoll(side, 0);
}

static void epoll_level(struct side *side)
{
	both_ways(side, give_epoll, take_level);
}

static void take_edge(struct side *side)
{
	take_epoll(side, EPOLLET);
}

static void epoll_edge(struct side *side)
{
	both_ways(side, give_epoll, take_edge);
}

static void take_one_shot(struct side *side)
{
	struct stream stream = direction(side, false);
	struct epoll_event again = {.events = EPOLLIN | EPOLLONESHOT};
	int epoll = watch(side, EPOLLIN | EPOLLONESHOT);

	side_meet(side, "looked at an empty socket");
	note_watched(side, epoll, SOON, "that waits for 300 bytes", "IN");
	side_meet(side, "seen");
	settle(side, side->fd, 500);
	note_watched(side, epoll, 0, "not armed again", "none");
	epoll_ctl(epoll, EPOLL_CTL_MOD, side->fd, &again);
	note_watched(side, epoll, 0, "armed again", "IN");
	stream_receive(side, side->fd, &stream, 500);
	side_meet(side, "read");
	for (int round = 0; round < ROUNDS; round++) {
		epoll_ctl(epoll, EPOLL_CTL_MOD, side->fd, &again);
		side_meet(side, "about to wait");
		expect(side, watched(epoll, SOON) == EPOLLIN, "epoll_wait() did not wake up in round %d", round);
		stream_receive(side, side->fd, &stream, 100);
	}
	note_stream(side, "received", &stream);
	close(epoll);
}

static void epoll_one_shot(struct side *side)
{
	both_ways(side, give_epoll, take_one_shot);
}

/* A writer that has filled its send buffer is woken up by a reader that makes room. */
static void give_until_full(struct side *side, unsigned events)
{
	struct stream stream = direction(side, true);
	int epoll = watch(side, EPOLLOUT | events);

	note_watched(side, epoll, 0, "of an empty send buffer", "OUT");
	uint64_t sent = fill_up(side, side->fd, &stream);
	watched(epoll, 0); /* what came while it was being filled */
	note_watched(side, epoll, 0, "of a full send buffer", "none");
	side_swap(side, "full", sent);
	note_watched(side, epoll, SOON, "when the other end reads", "OUT");
	side_meet(side, "read");
	stream_send(side, side->fd, &stream, 1000);
	close(epoll);
}

static void take_what_fills(struct side *side)
{
	struct stream stream = direction(side, false);
	uint64_t bytes = side_swap(side, "full", 0);

	doing("reading what filled the connection");
	stream_receive(side, side->fd, &stream, bytes);
	side_meet(side, "read");
	stream_receive(side, side->fd, &stream, 1000);
	note(side, "every byte was right");
}

static void give_level(struct side *side)
{
	give_until_full(side, 0);
}

static void epoll_level_out(struct side *side)
{
	both_ways(side, give_level, take_what_fills);
}

static void give_edge(struct side *side)
{
	give_until_full(side, EPOLLET);
}

static void epoll_edge_out(struct side *side)
{
	both_ways(side, give_edge, take_what_fills);
}

const struct exchange waiting_exchanges[] = {
    {"poll", "poll: what it shows, and that it wakes up", EX_FAST, exchange_poll, exchange_poll},
    {"select", "select: what it shows, and that it wakes up", EX_FAST, exchange_select, exchange_select},
    {"epoll-level", "epoll, level-triggered", EX_FAST, epoll_level, epoll_level},
    {"epoll-edge", "epoll, edge-triggered", EX_FAST, epoll_edge, epoll_edge},
    {"epoll-one-shot", "epoll with EPOLLONESHOT", 0, epoll_one_shot, epoll_one_shot},
    {"epoll-level-out", "epoll, level-triggered: EPOLLOUT after a full send buffer", 0, epoll_level_out, epoll_level_out},
    {"epoll-edge-out", "epoll, edge-triggered: EPOLLOUT after a full send buffer", 0, epoll_edge_out, epoll_edge_out},
    {0},
};
