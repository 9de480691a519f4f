/* shutdown() of each half of a connection, with data in flight, from each side. */
#include "endings.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define SOME 3000
#define ANSWER 2000
#define LATE 500
#define MUCH (2 << 20)
#define MORE 200000

static size_t size; /* of the data in flight in this exchange */

static void write_give(struct side *side)
{
	struct stream there = stream_to(side, !side->role), back = stream_to(side, side->role);
	int fd = another(side);

	stream_send(side, fd, &there, size);
	shutdown(fd, SHUT_WR);
	observe_send(side, fd, "after SHUT_WR", "EPIPE");
	side_meet(side, "shut");
	observe_ending(side, "stream", read_to_end(side, fd, &back), ANSWER, "EOF");
	observe_poll(side, fd, "when both halves are shut", "IN|OUT|HUP|RDHUP");
	close(fd);
}

static void write_take(struct side *side)
{
	struct stream there = stream_to(side, side->role), back = stream_to(side, !side->role);
	int fd = another(side);

	if (size <= SOME) { /* it lies in the queue, with the FIN behind it, before it is read */
		side_meet(side, "shut");
		expect(side, wait_for(fd, POLLRDHUP, 3000), "no FIN came");
		observe_poll(side, fd, "before reading", "IN|OUT|RDHUP");
	}
	observe_ending(side, "stream", read_to_end(side, fd, &there), size, "EOF");
	if (size > SOME)
		side_meet(side, "shut");
	observe_poll(side, fd, "after the FIN", "IN|OUT|RDHUP");
	stream_send(side, fd, &back, ANSWER);
	shutdown(fd, SHUT_WR);
	expect(side, wait_for_end(fd), "POLLHUP does not come when both halves are shut");
	observe_poll(side, fd, "when both halves are shut", "IN|OUT|HUP|RDHUP");
	close(fd);
}

static void shutdown_write(struct side *side)
{
	size = SOME;
	both_ways(side, write_give, write_take);
}

static void shutdown_write_large(struct side *side)
{
	size = MUCH;
	both_ways(side, write_give, write_take);
}

/* On Linux SHUT_RD does not stop what arrives: it can still be read, and EOF stands in for waiting. */
static uint64_t read_through_eof(const struct side *side, int fd, struct stream *stream, uint64_t wanted)
{
	char bytes[65536];
	int64_t end = now_us() + 5000000;
	uint64_t begin = stream->position;

	while (stream->position - begin < wanted && now_us() < end) {
		ssize_t got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);

		if (got > 0)
			stream_check(side, stream, bytes, got);
		else if (got < 0 && errno != EAGAIN)
			stop(side, "recv() after SHUT_RD: %s", error_name(errno));
		else
			nap(500);
	}
	return stream->position - begin;
}

static void read_give(struct side *side)
{
	struct stream there = stream_to(side, !side->role), back = stream_to(side, side->role);
	int fd = another(side);

	stream_send(side, fd, &there, SOME);
	side_meet(side, "shut");
	stream_send(side, fd, &there, LATE);
	stream_send(side, fd, &there, MORE);
	stream_receive(side, fd, &back, ANSWER);
	note(side, "the answer came");
	side_meet(side, "answered");
	close(fd);
}

static void read_take(struct side *side)
{
	struct stream there = stream_to(side, side->role), back = stream_to(side, !side->role);
	int fd = another(side);

	settle(side, fd, SOME);
	shutdown(fd, SHUT_RD);
	observe_poll(side, fd, "after SHUT_RD", "IN|OUT|RDHUP");
	stream_receive(side, fd, &there, SOME);
	observe_recv(side, fd, "with an empty queue", "EOF");
	side_meet(side, "shut");
	uint64_t late = read_through_eof(side, fd, &there, LATE + MORE);
	observe_number(side, "bytes sent after SHUT_RD that can be read", late, LATE + MORE);
	stream_send(side, fd, &back, ANSWER);
	side_meet(side, "answered");
	close(fd);
}

static void shutdown_read(struct side *side)
{
	both_ways(side, read_give, read_take);
}

static void both_give(struct side *side)
{
	struct stream there = stream_to(side, !side->role), back = stream_to(side, side->role);
	int fd = another(side);

	settle(side, fd, ANSWER);
	stream_send(side, fd, &there, size);
	shutdown(fd, SHUT_RDWR);
	observe_send(side, fd, "after SHUT_RDWR", "EPIPE");
	observe_ending(side, "stream", read_to_end(side, fd, &back), ANSWER, "EOF");
	side_meet(side, "shut");
	side_meet(side, "late");
	expect(side, wait_for_end(fd), "the connection does not end");
	observe_recv(side, fd, "in the end", "ECONNRESET");
	close(fd);
}

static void both_take(struct side *side)
{
	struct stream there = stream_to(side, side->role), back = stream_to(side, !side->role);
	int fd = another(side);

	stream_send(side, fd, &back, ANSWER);
	observe_ending(side, "stream", read_to_end(side, fd, &there), size, "EOF");
	side_meet(side, "shut");
	observe_poll(side, fd, "after the FIN", "IN|OUT|RDHUP");
	observe_send(side, fd, "to a peer that has shut both", "1");
	expect(side, wait_for_end(fd), "data for a peer that has shut both is not refused");
	observe_poll(side, fd, "after the RST", "IN|OUT|ERR|HUP|RDHUP");
	observe(side, "SO_ERROR", error_name(socket_error(fd)), "EPIPE");
	observe_send(side, fd, "in the end", "EPIPE");
	side_meet(side, "late");
	close(fd);
}

static void shutdown_both(struct side *side)
{
	size = SOME;
	both_ways(side, both_give, both_take);
}

static void shutdown_both_large(struct side *side)
{
	size = MUCH;
	both_ways(side, both_give, both_take);
}

static void observe_state(const struct side *side, int fd, const char *when, const char *expected)
{
	const char *state = "";

	for (int tries = 0; tries < 500; tries++) {
		state = tcp_state_name(tcp_state(fd));
		if (strcmp(state, expected) == 0)
			break;
		nap(2000);
	}
	observe(side, when, state, expected);
}

static void states_give(struct side *side)
{
	int fd = another(side);

	observe_state(side, fd, "TCP_INFO before", "ESTABLISHED");
	side_meet(side, "seen");
	shutdown(fd, SHUT_WR);
	observe_state(side, fd, "TCP_INFO after its SHUT_WR", "FIN_WAIT2");
	side_meet(side, "half");
	side_meet(side, "whole");
	observe_state(side, fd, "TCP_INFO after both", "CLOSE");
	close(fd);
}

static void states_take(struct side *side)
{
	int fd = another(side);

	observe_state(side, fd, "TCP_INFO before", "ESTABLISHED");
	side_meet(side, "seen");
	observe_state(side, fd, "TCP_INFO after the peer's SHUT_WR", "CLOSE_WAIT");
	side_meet(side, "half");
	shutdown(fd, SHUT_WR);
	observe_state(side, fd, "TCP_INFO after both", "CLOSE");
	side_meet(side, "whole");
	close(fd);
}

static void tcp_info_states(struct side *side)
{
	both_ways(side, states_give, states_take);
}

const struct exchange shutdown_exchanges[] = {
    {"shutdown-write", "SHUT_WR with data in flight, and an answer after it", EX_FAST, shutdown_write, shutdown_write},
    {"shutdown-write-large", "SHUT_WR behind more data than the queues hold", 0, shutdown_write_large, shutdown_write_large},
    {"shutdown-read", "SHUT_RD with data in flight, and more that comes after it", 0, shutdown_read, shutdown_read},
    {"shutdown-both", "SHUT_RDWR with data in flight in both directions", EX_FAST, shutdown_both, shutdown_both},
    {"shutdown-both-large", "SHUT_RDWR behind more data than the queues hold", 0, shutdown_both_large, shutdown_both_large},
    {"tcp-info-states", "TCP_INFO's state after each half-close", EX_FAST, tcp_info_states, tcp_info_states},
    {0},
};
