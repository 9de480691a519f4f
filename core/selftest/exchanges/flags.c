/* Flags of recv() and send(). */
#include "exchange.h"
#include <errno.h>
#include <poll.h>
#include <string.h>

/* Sends that many bytes each time that the other half comes to the meeting. */
static void give_pieces(struct side *side, const unsigned *pieces)
{
	struct stream stream = direction(side, true);

	for (; *pieces > 0; pieces++) {
		side_meet(side, "next piece");
		stream_send(side, side->fd, &stream, *pieces);
	}
}

static void note_recv(struct side *side, const char *what, size_t size, int flags, struct stream *stream, bool taken, const char *wanted)
{
	char bytes[4096] = "", result[32];
	ssize_t got = recv(side->fd, bytes, size, flags);

	observe(side, what, outcome(result, got), wanted);
	if (got <= 0)
		return;
	size_t right = content_right(bytes, got, stream->key, stream->position);
	expect(side, right == (size_t)got, "%s: the byte at %zu is wrong", what, right);
	if (taken)
		stream->position += got;
}

static void give_peek(struct side *side)
{
	give_pieces(side, (const unsigned[]){500, 300, 0});
}

static void take_peek(struct side *side)
{
	struct stream stream = direction(side, false);

	note_recv(side, "peek at nothing", 100, MSG_PEEK, &stream, false, "EAGAIN");
	side_meet(side, "next piece");
	settle(side, side->fd, 500);
	note_recv(side, "peek at 100 of 500", 100, MSG_PEEK, &stream, false, "100");
	note_recv(side, "peek again", 100, MSG_PEEK, &stream, false, "100");
	note_recv(side, "peek at more than there is", 4096, MSG_PEEK, &stream, false, "500");
	note_recv(side, "read 200", 200, 0, &stream, true, "200");
	note_recv(side, "peek behind it", 4096, MSG_PEEK, &stream, false, "300");
	side_meet(side, "next piece");
	settle(side, side->fd, 600);
	note_recv(side, "peek over two messages", 4096, MSG_PEEK, &stream, false, "600");
	note_recv(side, "read all", 4096, 0, &stream, true, "600");
	note_recv(side, "peek at nothing", 100, MSG_PEEK, &stream, false, "EAGAIN");
}

static void peek(struct side *side)
{
	both_ways(side, give_peek, take_peek);
}

static void take_peek_offset(struct side *side)
{
	struct stream stream = direction(side, false), ahead = stream;

	set_option(side, side->fd, SOL_SOCKET, SO_PEEK_OFF, 0);
	side_meet(side, "next piece");
	expect(side, wait_for(side->fd, POLLIN, 2000), "500 bytes did not come");
	note_recv(side, "peek at 100", 100, MSG_PEEK, &ahead, true, "100");
	note_recv(side, "peek at the next 100", 100, MSG_PEEK, &ahead, true, "100");
	note_recv(side, "peek at the rest", 4096, MSG_PEEK, &ahead, true, "300");
	observe_number(side, "the offset", get_option(side, side->fd, SOL_SOCKET, SO_PEEK_OFF), 500);
	note_recv(side, "read 150", 150, 0, &stream, true, "150");
	observe_number(side, "the offset", get_option(side, side->fd, SOL_SOCKET, SO_PEEK_OFF), 350);
	set_option(side, side->fd, SOL_SOCKET, SO_PEEK_OFF, -1);
	note_recv(side, "peek without an offset", 4096, MSG_PEEK, &stream, false, "350");
	side_meet(side, "next piece");
	settle(side, side->fd, 650);
	note_recv(side, "read all", 4096, 0, &stream, true, "650");
}

static void peek_offset(struct side *side)
{
	int none = -1;

	if (!side_agree(side, "peek offset", setsockopt(side->fd, SOL_SOCKET, SO_PEEK_OFF, &none, sizeof none) == 0))
		skip(side, "this kernel has no SO_PEEK_OFF for TCP");
	both_ways(side, give_peek, take_peek_offset);
}

/* The pieces come while the reader waits. */
static void give_late(struct side *side)
{
	struct stream stream = direction(side, true);

	for (int round = 0; round < 2; round++) {
		side_meet(side, "reading");
		stream_send(side, side->fd, &stream, 40);
		nap(20000);
		stream_send(side, side->fd, &stream, 60);
		side_meet(side, "read");
	}
}

static void take_waitall(struct side *side)
{
	struct stream stream = direction(side, false);

	set_blocking(side, side->fd, true);
	for (int round = 0; round < 2; round++) {
		side_meet(side, "reading");
		doing("in recv(MSG_WAITALL)");
		note_recv(side, "recv(100, MSG_WAITALL)", 100, MSG_WAITALL, &stream, true, "100");
		side_meet(side, "read");
	}
	set_blocking(side, side->fd, false);
}

static void waitall(struct side *side)
{
	both_ways(side, give_late, take_waitall);
}

static void give_one(struct side *side)
{
	give_pieces(side, (const unsigned[]){40, 60, 0});
}

static void take_waitall_non_blocking(struct side *side)
{
	struct stream stream = direction(side, false);

	note_recv(side, "MSG_WAITALL with nothing there", 100, MSG_WAITALL, &stream, true, "EAGAIN");
	side_meet(side, "next piece");
	settle(side, side->fd, 40);
	note_recv(side, "MSG_WAITALL for 100 with 40 there", 100, MSG_WAITALL, &stream, true, "40");
	side_meet(side, "next piece");
	settle(side, side->fd, 60);
	note_recv(side, "MSG_WAITALL for 50 with 60 there", 50, MSG_WAITALL, &stream, true, "50");
	note_recv(side, "MSG_WAITALL for 100 with 10 there", 100, MSG_WAITALL, &stream, true, "10");
}

static void waitall_non_blocking(struct side *side)
{
	both_ways(side, give_one, take_waitall_non_blocking);
}

static void take_dontwait(struct side *side)
{
	struct stream stream = direction(side, false);

	set_blocking(side, side->fd, true);
	note_recv(side, "MSG_DONTWAIT with nothing there", 100, MSG_DONTWAIT, &stream, true, "EAGAIN");
	side_meet(side, "next piece");
	settle(side, side->fd, 40);
	note_recv(side, "MSG_DONTWAIT for 100 with 40 there", 100, MSG_DONTWAIT, &stream, true, "40");
	note_recv(side, "MSG_DONTWAIT with nothing there", 100, MSG_DONTWAIT, &stream, true, "EAGAIN");
	side_meet(side, "next piece");
	note_recv(side, "a blocking read", 100, 0, &stream, true, "60");
	set_blocking(side, side->fd, false);
}

static void dontwait(struct side *side)
{
	both_ways(side, give_one, take_dontwait);
}

static void give_trunc(struct side *side)
{
	give_pieces(side, (const unsigned[]){1000, 0});
}

/* TCP throws such bytes away and leaves the buffer alone; what was redirected is read as without the flag, which needs a buffer. */
static void take_trunc(struct side *side)
{
	struct stream stream = direction(side, false);
	char bytes[100], result[32];
	ssize_t got;

	memset(bytes, '-', sizeof bytes);
	side_meet(side, "next piece");
	settle(side, side->fd, 1000);
	observe(side, "recv(100, MSG_TRUNC)", outcome(result, recv(side->fd, bytes, sizeof bytes, MSG_TRUNC)), "100");
	bool untouched = bytes[0] == '-' && memcmp(bytes, bytes + 1, sizeof bytes - 1) == 0;
	note(side, "difference trunc: the buffer is %s", untouched ? "untouched" : "written to");
	stream.position += 100;
	got = recv(side->fd, NULL, 500, MSG_TRUNC);
	note(side, "difference trunc: without a buffer: %s", outcome(result, got));
	expect(side, untouched ? got == 500 : got < 0 && errno == EFAULT, "recv(500, MSG_TRUNC) without a buffer gives %s", outcome(result, got));
	stream.position += got > 0 ? got : 0;
	stream_receive(side, side->fd, &stream, 1000 - stream.position);
	note_recv(side, "read once more", 100, 0, &stream, true, "EAGAIN");
}

static void discard(struct side *side)
{
	both_ways(side, give_trunc, take_trunc);
}

static void give_nothing(struct side *side)
{
	struct stream stream = direction(side, true);
	char result[32];

	side_meet(side, "next piece");
	observe(side, "send() of no bytes", outcome(result, send(side->fd, "", 0, 0)), "0");
	side_meet(side, "looked");
	side_meet(side, "next piece");
	stream_send(side, side->fd, &stream, 40);
}

static void take_nothing(struct side *side)
{
	struct stream stream = direction(side, false);
	char byte, result[32];

	side_meet(side, "next piece");
	expect(side, !wait_for(side->fd, POLLIN, 20), "poll() shows something after a send() of no bytes");
	note_recv(side, "recv() after a send() of no bytes", 100, 0, &stream, true, "EAGAIN");
	ssize_t empty = recv(side->fd, &byte, 0, 0);
	note(side, "difference empty: recv() of no bytes with nothing there: %s", outcome(result, empty));
	expect(side, empty == 0 || errno == EAGAIN, "recv() of no bytes gives %s", outcome(result, empty));
	side_meet(side, "looked");
	side_meet(side, "next piece");
	settle(side, side->fd, 40);
	note_recv(side, "recv() of no bytes with 40 there", 0, 0, &stream, true, "0");
	note_recv(side, "read", 100, 0, &stream, true, "40");
}

static void nothing(struct side *side)
{
	both_ways(side, give_nothing, take_nothing);
}

const struct exchange flag_exchanges[] = {
    {"peek", "MSG_PEEK: at a part, at more than there is, over two messages", EX_FAST, peek, peek},
    {"peek-offset", "MSG_PEEK with SO_PEEK_OFF", 0, peek_offset, peek_offset},
    {"waitall", "MSG_WAITALL on a blocking socket: all bytes, however they come", EX_FAST | EX_BLOCKING, waitall, waitall},
    {"waitall-non-blocking", "MSG_WAITALL on a non-blocking socket: what is there", EX_FAST, waitall_non_blocking, waitall_non_blocking},
    {"dontwait", "MSG_DONTWAIT on a blocking socket", EX_FAST | EX_BLOCKING, dontwait, dontwait},
    {"trunc", "MSG_TRUNC: throws bytes of a stream away", EX_FAST | EX_DIFFERS_TRUNC, discard, discard},
    {"zero-length", "send() and recv() of no bytes", EX_FAST | EX_DIFFERS_EMPTY, nothing, nothing},
    {0},
};
