/* Both halves send and receive at once: sizes, delays and switches by chance, every byte checked. --scale decides how many messages. */
#include "exchange.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>

#define MESSAGES 10000 /* in each direction */
#define MESSAGES_SMALL 1500
#define LARGEST 100000

/* One direction, as both halves know it: the sizes of its messages follow from the seed. */
struct flow {
	struct stream stream;
	uint64_t chance;
	unsigned messages;
	size_t left; /* of the message that is under way */
};

/* Small ones are as likely as large ones: the number of digits is what is even. */
static size_t next_size(uint64_t *chance)
{
	size_t limit = 10;

	for (uint64_t digits = random_below(chance, 5); digits > 0; digits--)
		limit *= 10;
	return 1 + random_below(chance, limit < LARGEST ? limit : LARGEST);
}

static struct flow flow_to(const struct side *side, enum role reader, unsigned messages)
{
	return (struct flow){.stream = stream_to(side, reader), .chance = side->seed * 3 + reader, .messages = messages};
}

static uint64_t bytes_of(struct flow flow)
{
	uint64_t bytes = 0;

	for (; flow.messages > 0; flow.messages--)
		bytes += next_size(&flow.chance);
	return bytes;
}

/* Gives what is to be sent next, 0 at the end. */
static size_t next_piece(struct flow *flow)
{
	if (flow->left == 0 && flow->messages > 0) {
		flow->messages--;
		flow->left = next_size(&flow->chance);
	}
	return flow->left;
}

static bool send_some(const struct side *side, struct flow *flow)
{
	static char bytes[LARGEST];
	size_t size = next_piece(flow);

	content_fill(bytes, size, flow->stream.key, flow->stream.position);
	ssize_t sent = send(side->fd, bytes, size, MSG_NOSIGNAL);
	if (sent < 0 && errno != EAGAIN)
		stop(side, "send(): %s", error_name(errno));
	if (sent <= 0)
		return false;
	flow->stream.position += sent;
	flow->left -= sent;
	return true;
}

static void receive_some(const struct side *side, struct stream *stream, size_t size)
{
	static char bytes[LARGEST];
	ssize_t got = recv(side->fd, bytes, size, 0);

	if (got < 0 && errno == EAGAIN)
		return;
	if (got < 0)
		stop(side, "recv(): %s", error_name(errno));
	if (got == 0)
		stop(side, "the stream ended at byte %llu", (unsigned long long)stream->position);
	stream_check(side, stream, bytes, got);
}

/* Things that a program may do at any moment, and after which the next bytes may have to take another way than those before. */
static void switch_something(const struct side *side, uint64_t *chance, bool *corked, bool *low)
{
	if (*corked || random_below(chance, 20) == 0) {
		*corked = !*corked;
		set_option(side, side->fd, IPPROTO_TCP, TCP_CORK, *corked);
	}
	if (*low || random_below(chance, 40) == 0) {
		*low = !*low;
		set_option(side, side->fd, SOL_SOCKET, SO_RCVLOWAT, *low ? 2 : 1);
	}
}

static void full_duplex(struct side *side, bool switching)
{
	unsigned messages = MESSAGES * side->settings->scale / side->settings->part;
	struct flow out = flow_to(side, 1 - side->role, messages), in = flow_to(side, side->role, messages);
	uint64_t expected = bytes_of(in), chance = side->seed * 7 + side->role;
	bool corked = false, low = false;

	while (next_piece(&out) > 0 || in.stream.position < expected) {
		struct pollfd one = {.fd = side->fd, .events = POLLIN | (next_piece(&out) > 0 ? POLLOUT : 0)};

		if (switching)
			switch_something(side, &chance, &corked, &low);
		doing("at byte %llu of %llu in, %u messages to send", (unsigned long long)in.stream.position, (unsigned long long)expected,
		      out.messages);
		poll(&one, 1, corked || low ? 1 : -1);
		if (random_below(&chance, 100) == 0)
			nap(random_below(&chance, 300));
		if (one.revents & POLLOUT)
			for (uint64_t more = random_below(&chance, 4); send_some(side, &out) && more > 0 && next_piece(&out) > 0; more--)
				;
		if (one.revents & POLLIN)
			receive_some(side, &in.stream, 1 + random_below(&chance, LARGEST));
	}
	set_option(side, side->fd, IPPROTO_TCP, TCP_CORK, 0);
	set_option(side, side->fd, SOL_SOCKET, SO_RCVLOWAT, 1);
	note(side, "sent %u messages, %llu bytes", messages, (unsigned long long)out.stream.position);
	note_stream(side, "received", &in.stream);
}

static void duplex_poll(struct side *side)
{
	full_duplex(side, false);
}

static void duplex_switching(struct side *side)
{
	full_duplex(side, true);
}

static void *send_all_messages(void *argument)
{
	struct side *side = argument;
	struct flow out = flow_to(side, 1 - side->role, MESSAGES_SMALL * side->settings->scale);
	uint64_t chance = side->seed * 5 + side->role;

	while (next_piece(&out) > 0) {
		if (random_below(&chance, 100) == 0)
			nap(random_below(&chance, 300));
		send_some(side, &out);
	}
	return NULL;
}

/* A thread writes and another one reads, as Java's programs do. */
static void duplex_threads(struct side *side)
{
	struct flow in = flow_to(side, side->role, MESSAGES_SMALL * side->settings->scale);
	uint64_t expected = bytes_of(in), chance = side->seed * 11 + side->role;
	pthread_t writer;

	set_blocking(side, side->fd, true);
	if (pthread_create(&writer, NULL, send_all_messages, side) != 0)
		stop(side, "pthread_create() failed");
	doing("reading and writing in two threads");
	while (in.stream.position < expected) {
		char bytes[LARGEST];
		ssize_t got = recv(side->fd, bytes, 1 + random_below(&chance, LARGEST), 0);

		if (got <= 0)
			stop(side, "a blocking recv() gives %s", got == 0 ? "EOF" : error_name(errno));
		stream_check(side, &in.stream, bytes, got);
	}
	pthread_join(writer, NULL);
	note_stream(side, "received", &in.stream);
}

const struct exchange duplex_exchanges[] = {
    {"full-duplex", "both ends send and receive at once: random sizes and delays, checksums", EX_NAGLE, duplex_poll, duplex_poll},
    {"full-duplex-switching", "the same, while TCP_CORK and SO_RCVLOWAT are set and cleared at random moments", EX_NAGLE, duplex_switching,
     duplex_switching},
    {"full-duplex-blocking", "a thread that writes and one that reads at both ends, blocking", EX_BLOCKING, duplex_threads, duplex_threads},
    {0},
};
