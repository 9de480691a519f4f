/* Reading, writing and waiting as most exchanges need it. */
#include "exchange.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>

#define SETTLE_LIMIT (256 * 1024)

int64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void nap(unsigned microseconds)
{
	struct timespec pause = {microseconds / 1000000, (long)(microseconds % 1000000) * 1000};

	while (nanosleep(&pause, &pause) < 0 && errno == EINTR)
		;
}

bool wait_for(int fd, short events, int milliseconds)
{
	struct pollfd one = {.fd = fd, .events = events};
	int64_t end = now_us() + (int64_t)milliseconds * 1000;
	int found;

	do {
		int64_t left = (end - now_us()) / 1000;

		found = poll(&one, 1, milliseconds < 0 ? -1 : left > 0 ? (int)left : 0);
	} while (found < 0 && errno == EINTR);
	return found > 0;
}

void send_all(const struct side *side, int fd, const void *from, size_t size)
{
	const char *bytes = from;

	while (size > 0) {
		ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);

		if (sent < 0 && errno == EAGAIN) {
			wait_for(fd, POLLOUT, -1);
			continue;
		}
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			stop(side, "send() of %zu bytes: %s", size, error_name(errno));
		bytes += sent;
		size -= sent;
	}
}

void receive_all(const struct side *side, int fd, void *to, size_t size)
{
	char *bytes = to;

	while (size > 0) {
		ssize_t got = recv(fd, bytes, size, 0);

		if (got < 0 && errno == EAGAIN) {
			wait_for(fd, POLLIN, -1);
			continue;
		}
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			stop(side, "recv() with %zu bytes to come: %s", size, error_name(errno));
		if (got == 0)
			stop(side, "the stream ended with %zu bytes to come", size);
		bytes += got;
		size -= got;
	}
}

/* By MSG_PEEK, because FIONREAD is what some exchanges are about; but where the bytes came on two paths, MSG_PEEK shows those of the first alone. */
void settle(const struct side *side, int fd, size_t bytes)
{
	static char seen[SETTLE_LIMIT];

	if (bytes > SETTLE_LIMIT)
		stop(side, "settle() is for at most %d bytes", SETTLE_LIMIT);
	doing("waiting for %zu bytes to arrive", bytes);
	for (;;) {
		ssize_t found = recv(fd, seen, bytes, MSG_PEEK | MSG_DONTWAIT);

		int queued = 0;

		if (found == (ssize_t)bytes || (ioctl(fd, FIONREAD, &queued) == 0 && queued >= (int)bytes))
			return;
		if (found == 0 || (found < 0 && errno != EAGAIN && errno != EINTR))
			stop(side, "recv(MSG_PEEK) gives %s while %zu bytes are to come", found == 0 ? "EOF" : error_name(errno), bytes);
		nap(200);
	}
}

/* Full is what stays full: a window that is still opening makes room once more. */
uint64_t fill_up(struct side *side, int fd, struct stream *stream)
{
	char bytes[16384];
	uint64_t begin = stream->position;
	bool full;

	doing("filling the connection");
	do {
		content_fill(bytes, sizeof bytes, stream->key, stream->position);
		ssize_t sent = send(fd, bytes, sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent < 0 && errno != EAGAIN && errno != EINTR)
			stop(side, "send() into a connection that nobody reads: %s", error_name(errno));
		full = sent < 0;
		if (sent > 0) {
			stream->sum = checksum(stream->sum, bytes, sent);
			stream->position += sent;
		}
		if (stream->position - begin > side->settings->bound)
			stop(side, "more than %llu bytes are under way to a reader that does not read", (unsigned long long)side->settings->bound);
	} while (!full || wait_for(fd, POLLOUT, 100));
	return stream->position - begin;
}
