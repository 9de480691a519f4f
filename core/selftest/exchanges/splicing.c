/* splice: data that goes between a socket and a pipe without passing through the program. */
#include "endings.h"
#include "pipes.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define FRAMES 60
#define LONGEST 30000
#define AMOUNT 600000
#define AT_ONCE 16384

static void send_pieces(struct side *side)
{
	struct stream stream = stream_to(side, !side->role);
	uint64_t chance = side->seed;

	while (stream.position < AMOUNT) {
		size_t size = 1 + random_below(&chance, LONGEST);

		stream_send(side, side->fd, &stream, size < AMOUNT - stream.position ? size : AMOUNT - stream.position);
	}
}

static void splice_pieces(struct side *side)
{
	struct stream stream = stream_to(side, side->role);
	struct pipe pipe = make_pipe(side);

	while (stream.position < AMOUNT)
		pipe_check(side, pipe, &stream, splice_in(side, side->fd, pipe, AT_ONCE));
	note_stream(side, "stream", &stream);
	close_pipe(pipe);
}

static void splice_reader(struct side *side)
{
	both_ways(side, send_pieces, splice_pieces);
}

static size_t frame_length(uint64_t *chance)
{
	return 1 + random_below(chance, LONGEST);
}

static void send_frames(struct side *side)
{
	struct stream stream = stream_to(side, !side->role);
	uint64_t chance = side->seed;

	for (int i = 0; i < FRAMES; i++) {
		uint64_t header[2] = {frame_length(&chance), i};

		send_all(side, side->fd, header, sizeof header);
		stream_send(side, side->fd, &stream, header[0]);
		if (i % 8 == 7) /* and from an empty queue again */
			side_meet(side, "so far");
	}
}

static void splice_frames(struct side *side)
{
	struct stream stream = stream_to(side, side->role);
	struct pipe pipe = make_pipe(side);
	uint64_t chance = side->seed;

	for (int i = 0; i < FRAMES; i++) {
		uint64_t header[2];

		receive_all(side, side->fd, header, sizeof header);
		if (header[0] != frame_length(&chance) || header[1] != (uint64_t)i)
			stop(side, "the header of frame %d is wrong", i);
		for (size_t left = header[0], got; left > 0; left -= got) {
			got = splice_in(side, side->fd, pipe, left < AT_ONCE ? left : AT_ONCE);
			pipe_check(side, pipe, &stream, got);
		}
		if (i % 8 == 7)
			side_meet(side, "so far");
	}
	note_stream(side, "stream", &stream);
	close_pipe(pipe);
}

static void splice_after_header(struct side *side)
{
	both_ways(side, send_frames, splice_frames);
}

static void send_late(struct side *side)
{
	struct stream stream = stream_to(side, !side->role);

	for (int i = 0; i < FRAMES / 4; i++) {
		nap(2000);
		stream_send(side, side->fd, &stream, AT_ONCE);
		side_meet(side, "read");
	}
}

static void splice_waiting(struct side *side)
{
	struct stream stream = stream_to(side, side->role);
	struct pipe pipe = make_pipe(side);

	set_blocking(side, side->fd, true);
	for (int i = 0; i < FRAMES / 4; i++) {
		for (size_t left = AT_ONCE; left > 0;) {
			doing("splicing from a socket that waits");
			ssize_t got = splice(side->fd, NULL, pipe.write, NULL, left, SPLICE_F_MOVE);

			if (got <= 0)
				stop(side, "splice() from a socket that waits: %s", got == 0 ? "EOF" : error_name(errno));
			pipe_check(side, pipe, &stream, got);
			left -= got;
		}
		side_meet(side, "read");
	}
	set_blocking(side, side->fd, false);
	note_stream(side, "stream", &stream);
	close_pipe(pipe);
}

static void splice_blocking(struct side *side)
{
	both_ways(side, send_late, splice_waiting);
}

static void splice_to_socket(struct side *side)
{
	struct stream stream = stream_to(side, !side->role);
	struct pipe pipe = make_pipe(side);

	for (int i = 0; i < FRAMES; i++) {
		pipe_fill(side, pipe, &stream, AT_ONCE);
		splice_out(side, pipe, side->fd, AT_ONCE, i % 3 == 0 ? SPLICE_F_MORE : 0);
		stream_send(side, side->fd, &stream, 100); /* the two ways of sending keep their order */
	}
	close_pipe(pipe);
}

static void receive_spliced(struct side *side)
{
	struct stream stream = stream_to(side, side->role);

	stream_receive(side, side->fd, &stream, FRAMES * (AT_ONCE + 100));
	note_stream(side, "stream", &stream);
}

static void splice_writer(struct side *side)
{
	both_ways(side, splice_to_socket, receive_spliced);
}

static void send_and_compare(struct side *side)
{
	struct stream there = stream_to(side, !side->role), back = there;

	for (int i = 0; i < FRAMES; i++) {
		stream_send(side, side->fd, &there, AT_ONCE);
		stream_receive(side, side->fd, &back, AT_ONCE);
	}
	note_stream(side, "stream", &back);
}

static void forward(struct side *side)
{
	struct pipe pipe = make_pipe(side);

	for (size_t left = (size_t)FRAMES * AT_ONCE, got; left > 0; left -= got) {
		got = splice_in(side, side->fd, pipe, left < AT_ONCE ? left : AT_ONCE);
		splice_out(side, pipe, side->fd, got, 0);
	}
	close_pipe(pipe);
}

static void splice_forward(struct side *side)
{
	both_ways(side, send_and_compare, forward);
}

const struct exchange splicing_exchanges[] = {
    {"splice-reader", "a reader that only splices", EX_FAST, splice_reader, splice_reader},
    {"splice-after-header", "a reader that receives a header and then splices", EX_FAST, splice_after_header, splice_after_header},
    {"splice-blocking", "splice from a blocking socket waits", EX_BLOCKING, splice_blocking, splice_blocking},
    {"splice-writer", "splice from a pipe to the socket, between calls of send()", EX_FAST, splice_writer, splice_writer},
    {"splice-forward", "splice from the socket to a pipe and back to the socket", EX_FAST, splice_forward, splice_forward},
    {0},
};
