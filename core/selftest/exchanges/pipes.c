#include "pipes.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#define PIECE 16384
#define IDLE_TRIES 500

struct pipe make_pipe(const struct side *side)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		stop(side, "pipe2(): %s", error_name(errno));
	return (struct pipe){ends[0], ends[1]};
}

void close_pipe(struct pipe pipe)
{
	close(pipe.read);
	close(pipe.write);
}

size_t splice_in(const struct side *side, int fd, struct pipe pipe, size_t most)
{
	doing("splicing from the socket");
	for (int tries = 0; tries < IDLE_TRIES; tries++) {
		ssize_t got = splice(fd, NULL, pipe.write, NULL, most, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

		if (got > 0)
			return got;
		if (got == 0)
			stop(side, "splice() from the socket gives EOF before the end");
		if (errno != EAGAIN && errno != EINTR)
			stop(side, "splice() from the socket: %s", error_name(errno));
		if (wait_for(fd, POLLIN, 1000) && tries > 10)
			nap(1000);
	}
	stop(side, "splice() from the socket gives nothing, though poll() says that there is something");
}

void splice_out(const struct side *side, struct pipe pipe, int fd, size_t size, unsigned flags)
{
	doing("splicing to the socket");
	while (size > 0) {
		ssize_t put = splice(pipe.read, NULL, fd, NULL, size, SPLICE_F_MOVE | SPLICE_F_NONBLOCK | flags);

		if (put == 0 || (put < 0 && errno != EAGAIN && errno != EINTR))
			stop(side, "splice() to the socket: %s", put == 0 ? "nothing" : error_name(errno));
		if (put < 0)
			wait_for(fd, POLLOUT, -1);
		else
			size -= put;
	}
}

void pipe_check(const struct side *side, struct pipe pipe, struct stream *stream, size_t size)
{
	char bytes[PIECE];

	while (size > 0) {
		ssize_t got = read(pipe.read, bytes, size < sizeof bytes ? size : sizeof bytes);

		if (got <= 0)
			stop(side, "read() from a pipe: %s", got == 0 ? "EOF" : error_name(errno));
		stream_check(side, stream, bytes, got);
		size -= got;
	}
}

void pipe_fill(const struct side *side, struct pipe pipe, struct stream *stream, size_t size)
{
	char bytes[PIECE];

	content_fill(bytes, size, stream->key, stream->position);
	stream->position += size;
	if (write(pipe.write, bytes, size) != (ssize_t)size)
		stop(side, "write() to a pipe: %s", error_name(errno));
}
