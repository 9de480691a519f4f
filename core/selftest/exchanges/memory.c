/* Bytes that wait to be read: what the kernel charges for them, and how many there may be. And two connections that cannot be told apart by
 * addresses. */
#include "exchange.h"
#include <errno.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif
#define WAITING 65536
#define PIECE 65536
#define QUIET_MS 100 /* the receiver's window is full when nothing more could be sent for so long */
#define PAIRED_US 150000
#define PAIRED_SIZE 500

static void charged_client(struct side *side)
{
	struct stream up = stream_to(side, SERVER);

	stream_send(side, side->fd, &up, WAITING);
	side_meet(side, "sent");
	side_meet(side, "read");
}

static void charged_server(struct side *side)
{
	struct stream up = stream_to(side, SERVER);
	uint32_t memory[SK_MEMINFO_VARS] = {0};
	socklen_t length = sizeof memory;

	side_meet(side, "sent");
	settle(side, side->fd, WAITING);
	if (getsockopt(side->fd, SOL_SOCKET, SO_MEMINFO, memory, &length) < 0)
		stop(side, "SO_MEMINFO: %s", error_name(errno));
	note(side, "charged to the receiver: %s", memory[SK_MEMINFO_RMEM_ALLOC] >= WAITING ? "yes" : "no");
	stream_receive(side, side->fd, &up, WAITING);
	side_meet(side, "read");
}

/* Sends as long as it is let, and until twice the bound is reached. Gives how much it was. */
static uint64_t fill(struct side *side, struct stream *up)
{
	static char piece[PIECE];
	uint64_t begin = up->position;

	while (up->position - begin < 2 * side->settings->bound && wait_for(side->fd, POLLOUT, QUIET_MS)) {
		content_fill(piece, sizeof piece, up->key, up->position);
		ssize_t sent = send(side->fd, piece, sizeof piece, MSG_NOSIGNAL);

		if (sent < 0 && errno != EAGAIN && errno != EINTR)
			stop(side, "send(): %s", error_name(errno));
		if (sent > 0)
			stream_check(side, up, piece, sent);
	}
	return up->position - begin;
}

static void unread_client(struct side *side)
{
	struct stream up = stream_to(side, SERVER);
	uint64_t sent = fill(side, &up);

	note(side, "the sender was held back: %s", sent <= side->settings->bound ? "yes" : "no");
	expect(side, sent <= side->settings->bound, "%llu bytes were taken", (unsigned long long)sent);
	side_swap(side, "filled", sent);
	note(side, "woken when there is room: %s", wait_for(side->fd, POLLOUT, 5000) ? "yes" : "no");
	side_meet(side, "read");
}

static void unread_server(struct side *side)
{
	struct stream up = stream_to(side, SERVER);
	uint64_t sent = side_swap(side, "filled", 0);

	while (up.position < sent) {
		uint64_t left = sent - up.position;

		stream_receive(side, side->fd, &up, left < PIECE ? left : PIECE);
	}
	note(side, "all of it was read, and it was right");
	side_meet(side, "read");
}

/*
 * Goes on for so long that another run of it at the same time, with the same addresses and ports in another network namespace, meets this one. How
 * many rounds that are is not noted. The client says before each of them whether it comes.
 */
static void paired_client(struct side *side)
{
	struct stream up = stream_to(side, SERVER), down = stream_to(side, CLIENT);
	int64_t begin = now_us();

	while (now_us() - begin < PAIRED_US) {
		side_swap(side, "more", true);
		stream_send(side, side->fd, &up, PAIRED_SIZE);
		stream_receive(side, side->fd, &down, PAIRED_SIZE);
	}
	side_swap(side, "more", false);
	note(side, "its own bytes alone");
}

static void paired_server(struct side *side)
{
	struct stream up = stream_to(side, SERVER), down = stream_to(side, CLIENT);

	while (side_swap(side, "more", 0)) {
		stream_receive(side, side->fd, &up, PAIRED_SIZE);
		stream_send(side, side->fd, &down, PAIRED_SIZE);
	}
	note(side, "its own bytes alone");
}

const struct exchange memory_exchanges[] = {
    {"charged", "bytes that wait are charged to the socket that shall read them", 0, charged_client, charged_server},
    {"unread", "a reader that does not read for a while: the sender is held back, and woken", EX_FAST, unread_client, unread_server},
    {"paired", "requests and responses for a while, beside a connection with the same addresses and ports", 0, paired_client, paired_server},
    {0},
};
