/* The same 4-tuple again, or the same socket: no byte of the former connection may show up in the next one. */
#include "endings.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define ROUNDS 100
#define WAIT_ROUNDS 30
#define TALK 4
#define MESSAGE 300
#define LEFT 16000
#define SOCKET_ROUNDS 3

static int connect_from(struct side *side, const struct address *source)
{
	const struct address *to = &side->settings->connect;
	int error = 0;

	/* The former socket may need a moment until it is gone. */
	for (int tries = 0; tries < 400; tries++) {
		int on = 1, fd = socket(to->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
		if (bind(fd, (const struct sockaddr *)&source->address, source->length) == 0 &&
		    connect(fd, (const struct sockaddr *)&to->address, to->length) == 0) {
			set_option(side, fd, IPPROTO_TCP, TCP_NODELAY, 1);
			set_blocking(side, fd, false);
			return fd;
		}
		error = errno;
		close(fd);
		if (error != EADDRINUSE && error != EADDRNOTAVAIL)
			break;
		nap(5000);
	}
	stop(side, "connect() from the same port again: %s", error_name(error));
}

static uint64_t source_port(int fd)
{
	struct address peer = {.length = sizeof peer.address};

	getpeername(fd, (struct sockaddr *)&peer.address, &peer.length);
	return ((struct sockaddr_in *)&peer.address)->sin_port;
}

/* Each round has content of its own. */
static void talk(struct side *side, int fd, int round, struct stream *out, struct stream *in)
{
	*out = stream_to(side, !side->role);
	*in = stream_to(side, side->role);
	out->key += round;
	in->key += round;
	for (int i = 0; i < TALK; i++) {
		if (side->role == CLIENT)
			stream_send(side, fd, out, MESSAGE);
		stream_receive(side, fd, in, MESSAGE);
		if (side->role == SERVER)
			stream_send(side, fd, out, MESSAGE);
	}
}

/* `end` ends the connection of one round; the server's old socket stays open until the next round is over. */
static void again_and_again(struct side *side, int rounds, void (*end)(struct side *, int fd, struct stream *out, struct stream *in))
{
	struct address source = {.length = sizeof source.address};
	struct stream out, in;
	int fd = another_cold(side), former = -1;
	uint64_t port = side->role == SERVER ? source_port(fd) : 0;

	if (side->role == CLIENT)
		getsockname(fd, (struct sockaddr *)&source.address, &source.length);
	for (int round = 0; round < rounds; round++) {
		if (round > 0)
			fd = side->role == CLIENT ? connect_from(side, &source) : side_accept_another(side);
		if (side->role == SERVER && source_port(fd) != port)
			stop(side, "the client's port is another one");
		talk(side, fd, round, &out, &in);
		if (former >= 0)
			close(former);
		former = side->role == SERVER ? fd : -1;
		end(side, fd, &out, &in);
	}
	if (former >= 0)
		close(former);
	note(side, "%d connections of one 4-tuple, each with its own bytes", rounds);
}

/* Data lies unread, and in flight, in both directions when the client resets the connection. */
static void end_hard(struct side *side, int fd, struct stream *out, struct stream *in)
{
	(void)in;
	stream_send(side, fd, out, LEFT);
	settle(side, fd, LEFT);
	side_meet(side, "left");
	if (side->role == CLIENT) {
		set_linger(side, fd, 0);
		close(fd);
	}
}

static void reuse(struct side *side)
{
	again_and_again(side, ROUNDS, end_hard);
}

/* The server closes first: the next connection finds its TIME_WAIT. */
static void end_in_order(struct side *side, int fd, struct stream *out, struct stream *in)
{
	struct ending ending;

	(void)out;
	if (side->role == SERVER)
		shutdown(fd, SHUT_WR);
	ending = read_to_end(side, fd, in);
	expect(side, ending.bytes == 0 && ending.error == 0, "the connection ends in %s after %llu bytes", ending_name(ending),
	       (unsigned long long)ending.bytes);
	if (side->role == CLIENT)
		close(fd);
	side_meet(side, "closed");
}

static void reuse_time_wait(struct side *side)
{
	again_and_again(side, WAIT_ROUNDS, end_in_order);
}

/* connect() to AF_UNSPEC: the connection is reset, and the socket may have another one. */
static void disconnect(const struct side *side, int fd)
{
	const struct sockaddr nowhere = {.sa_family = AF_UNSPEC};

	if (connect(fd, &nowhere, sizeof nowhere) < 0)
		stop(side, "connect() to AF_UNSPEC: %s", error_name(errno));
}

/* Bytes that were read in no connection: all that comes of them, and what stands behind. */
static struct ending drain(struct side *side, int fd, struct stream *in)
{
	char bytes[4096];
	uint64_t begin = in->position;
	ssize_t got;

	while ((got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
		stream_check(side, in, bytes, got);
	return (struct ending){in->position - begin, got == 0 ? 0 : errno};
}

static int with_unread(struct side *side, size_t bytes)
{
	struct stream out = stream_to(side, !side->role);
	int fd = another(side);

	stream_send(side, fd, &out, bytes);
	if (bytes > 0)
		settle(side, fd, bytes);
	side_meet(side, "unread");
	return fd;
}

static void disconnect_give(struct side *side)
{
	for (size_t bytes = 0; bytes <= LEFT; bytes += LEFT) {
		struct stream in = stream_to(side, side->role);
		int fd = with_unread(side, bytes);

		side_meet(side, "disconnected");
		expect(side, wait_for_end(fd), "no RST came");
		observe_poll(side, fd, "after the RST", "IN|OUT|ERR|HUP|RDHUP");
		observe_ending(side, "stream", read_to_end(side, fd, &in), bytes, "ECONNRESET");
		observe_recv(side, fd, "in the end", "EOF");
		close(fd);
	}
}

static void take_nothing_left(struct side *side)
{
	int fd = with_unread(side, 0);

	disconnect(side, fd);
	observe_poll(side, fd, "disconnected", "OUT|ERR|HUP");
	observe_recv(side, fd, "disconnected", "ECONNRESET");
	observe_recv(side, fd, "and again", "ENOTCONN");
	observe_send(side, fd, "disconnected", "EPIPE");
	observe_poll(side, fd, "in the end", "OUT|HUP");
	side_meet(side, "disconnected");
	close(fd);
}

/* TCP throws away what is unread. */
static void disconnect_take(struct side *side)
{
	struct stream in = stream_to(side, side->role);
	char bits[64];

	take_nothing_left(side);
	int fd = with_unread(side, LEFT);
	disconnect(side, fd);
	note(side, "difference disconnect: poll shows %s", poll_bits(bits, poll_now(fd)));
	struct ending left = drain(side, fd, &in);
	note(side, "difference disconnect: %llu bytes, then %s", (unsigned long long)left.bytes, ending_name(left));
	expect(side, left.bytes == 0 ? left.error == ECONNRESET : left.bytes == LEFT && left.error == EAGAIN,
	       "%llu bytes of a connection that was ended, then %s", (unsigned long long)left.bytes, ending_name(left));
	socket_error(fd); /* takes the error, where recv() has not */
	observe_poll(side, fd, "in the end", "OUT|HUP");
	side_meet(side, "disconnected");
	close(fd);
}

static void disconnecting(struct side *side)
{
	both_ways(side, disconnect_give, disconnect_take);
}

static int try_connect(const struct side *side, int fd)
{
	const struct address *to = &side->settings->connect;

	return connect(fd, (const struct sockaddr *)&to->address, to->length) < 0 ? errno : 0;
}

/* Never with bytes of the former connection: what can still be read of them is read before. */
static void connect_anew(struct side *side, int fd, bool unread, struct stream *in)
{
	disconnect(side, fd);
	set_blocking(side, fd, true);
	int error = try_connect(side, fd);
	if (unread) {
		note(side, "difference disconnect: connect() gives %s", error_name(error));
		expect(side, error == 0 || error == EAGAIN || error == EPERM, "connect() gives %s", error_name(error));
	}
	if (unread && error) {
		struct ending left = drain(side, fd, in);

		expect(side, left.bytes == LEFT, "%llu bytes were left", (unsigned long long)left.bytes);
		error = try_connect(side, fd);
	}
	if (error)
		stop(side, "connect() of a socket that was disconnected: %s", error_name(error));
	set_blocking(side, fd, false);
}

/* Each round ends in another way: with nothing unread; with unread bytes; the server resets the connection before. */
static void same_socket(struct side *side)
{
	struct stream out, in;
	int fd = another(side);

	for (int round = 0; round < SOCKET_ROUNDS; round++) {
		talk(side, fd, round, &out, &in);
		if (round > 0) {
			stream_send(side, fd, &out, LEFT);
			settle(side, fd, LEFT);
		}
		side_meet(side, "left");
		if (side->role == CLIENT) {
			if (round == SOCKET_ROUNDS - 1)
				expect(side, wait_for_end(fd), "no RST came");
			connect_anew(side, fd, round > 0, &in);
		} else {
			if (round == SOCKET_ROUNDS - 1)
				set_linger(side, fd, 0);
			else
				expect(side, wait_for_end(fd), "no RST came");
			close(fd);
			fd = side_accept_another(side);
		}
		warm(side, fd);
	}
	talk(side, fd, SOCKET_ROUNDS, &out, &in);
	close(fd);
	note(side, "%d connections of one socket, each with its own bytes", SOCKET_ROUNDS + 1);
}

const struct exchange reuse_exchanges[] = {
    {"reuse", "reuse of a 4-tuple at once after SO_LINGER 0, with unread data in both directions", EX_OWN_START, reuse, reuse},
    {"reuse-time-wait", "reuse of a 4-tuple out of TIME_WAIT", EX_OWN_START, reuse_time_wait, reuse_time_wait},
    {"disconnect", "connect() to AF_UNSPEC, with unread data in both directions and without", EX_FAST | EX_DIFFERS_DISCONNECT, disconnecting,
     disconnecting},
    {"same-socket", "a socket that is disconnected with unread data, and connected again", EX_FAST | EX_DIFFERS_DISCONNECT, same_socket, same_socket},
    {0},
};
