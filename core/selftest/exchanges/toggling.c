/* O_NONBLOCK comes and goes: a socket that blocks waits, whatever it was before. */
#include "endings.h"
#include "pipes.h"
#include <errno.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define ROUNDS 300
#define TURNS 15
#define MESSAGE 2000

/* As receive_all(), but a socket that blocks must never give EAGAIN. */
static void receive_as_set(const struct side *side, int fd, struct stream *stream, size_t size, bool blocking)
{
	char bytes[MESSAGE];

	doing("receiving from a socket that %s", blocking ? "blocks" : "does not block");
	while (size > 0) {
		if (!blocking)
			wait_for(fd, POLLIN, -1);
		ssize_t got = recv(fd, bytes, size < sizeof bytes ? size : sizeof bytes, 0);

		if (got < 0 && errno == EAGAIN && !blocking)
			continue;
		if (got <= 0)
			stop(side, "recv() from a socket that %s: %s", blocking ? "blocks" : "does not block", got == 0 ? "EOF" : error_name(errno));
		stream_check(side, stream, bytes, got);
		size -= got;
	}
}

static void set_by_ioctl(const struct side *side, int fd, bool blocking)
{
	int on = !blocking;

	if (ioctl(fd, FIONBIO, &on) < 0)
		stop(side, "ioctl(FIONBIO): %s", error_name(errno));
}

/* Before each message, while it waits, or when it has come. */
static void toggle(struct side *side)
{
	struct stream out = stream_to(side, !side->role), in = stream_to(side, side->role);
	uint64_t sizes = side->seed, chance = side->seed + 2 + side->role;

	for (int round = 0; round < ROUNDS; round++) {
		size_t request = 1 + random_below(&sizes, MESSAGE), response = 1 + random_below(&sizes, MESSAGE);
		bool blocking = random_below(&chance, 2), arrived = random_below(&chance, 3) == 0;

		if (side->role == CLIENT)
			stream_send(side, side->fd, &out, request);
		if (arrived)
			settle(side, side->fd, side->role == CLIENT ? response : request);
		if (round % 2)
			set_by_ioctl(side, side->fd, blocking);
		else
			set_blocking(side, side->fd, blocking);
		receive_as_set(side, side->fd, &in, side->role == CLIENT ? response : request, blocking);
		if (side->role == SERVER)
			stream_send(side, side->fd, &out, response);
	}
	set_blocking(side, side->fd, false);
	note_stream(side, "stream", &in);
}

static void turn_give(struct side *side)
{
	struct stream out = stream_to(side, !side->role);

	for (int i = 0; i < TURNS; i++) {
		stream_send(side, side->fd, &out, MESSAGE);
		side_meet(side, "queued");
		nap(i % 3 * 4000); /* so that the reader waits already, or not yet */
		stream_send(side, side->fd, &out, MESSAGE);
		side_meet(side, "read");
	}
}

/* What lies in the queue was sent to a socket that did not block; it blocks when it reads it, and waits for what comes next. */
static void turn_take(struct side *side)
{
	struct stream in = stream_to(side, side->role);

	for (int i = 0; i < TURNS; i++) {
		settle(side, side->fd, MESSAGE);
		set_blocking(side, side->fd, true);
		receive_as_set(side, side->fd, &in, MESSAGE / 2, true);
		side_meet(side, "queued");
		receive_as_set(side, side->fd, &in, MESSAGE / 2 + MESSAGE, true);
		set_blocking(side, side->fd, false);
		side_meet(side, "read");
	}
	note_stream(side, "stream", &in);
}

static void turn_blocking(struct side *side)
{
	both_ways(side, turn_give, turn_take);
}

const struct exchange toggling_exchanges[] = {
    {"toggle-nonblocking", "O_NONBLOCK toggled between messages", EX_FAST, toggle, toggle},
    {"turn-blocking", "a socket that turns to blocking with data queued, reads it and waits for more", EX_FAST, turn_blocking, turn_blocking},
    {0},
};
