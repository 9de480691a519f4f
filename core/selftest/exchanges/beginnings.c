/* How a connection begins: refused, before the server accepts it, with data in the SYN, as MPTCP. */
#include "endings.h"
#include "pipes.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define GREETING 3000
#define EARLY 30000
#define TALK 20
#define MESSAGE 700
#define SYN_DATA 500
#define SYN_ROUNDS 4

/* What follows any beginning: requests and responses until both directions could be accelerated, and beyond. */
static void talk(struct side *side, int fd, struct stream *out, struct stream *in)
{
	for (int i = 0; i < TALK; i++) {
		if (side->role == CLIENT)
			stream_send(side, fd, out, MESSAGE);
		stream_receive(side, fd, in, MESSAGE);
		if (side->role == SERVER)
			stream_send(side, fd, out, MESSAGE);
	}
	note_stream(side, "stream", in);
}

static int refused(const struct side *side, const struct address *nobody, bool blocking)
{
	int fd = side_socket(side), error = 0;

	set_blocking(side, fd, blocking);
	doing("connecting to a closed port");
	if (connect(fd, (const struct sockaddr *)&nobody->address, nobody->length) < 0)
		error = errno;
	if (error == EINPROGRESS) {
		expect(side, wait_for(fd, POLLOUT, 3000), "poll() does not tell that the connection is refused");
		error = socket_error(fd);
	}
	observe(side, blocking ? "blocking connect to a closed port" : "connect to a closed port", error_name(error), "ECONNREFUSED");
	set_blocking(side, fd, true);
	return fd;
}

/* Linux gives ECONNABORTED once when nobody has called connect() again since a refusal that came late. */
static void connect_after_refusal(const struct side *side, int fd)
{
	const struct address *to = &side->settings->connect;

	for (int tries = 0; tries < 2; tries++) {
		int error = connect(fd, (const struct sockaddr *)&to->address, to->length) < 0 ? errno : 0;

		note(side, "with the same socket elsewhere: connect %s", error_name(error));
		if (!error) {
			set_blocking(side, fd, false);
			return;
		}
	}
	stop(side, "a socket that was refused cannot be used again");
}

/* A port of this very namespace that is bound, so that nobody else takes it, and does not listen. Gives its socket. */
static int bind_closed_port(const struct side *side, struct address *nobody)
{
	const struct address *to = &side->settings->connect;
	bool mapped = IN6_IS_ADDR_V4MAPPED(&((const struct sockaddr_in6 *)&to->address)->sin6_addr);
	int closed = socket(to->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	parse_address(to->address.ss_family == AF_INET ? "127.0.0.1:0" : mapped ? "[::ffff:127.0.0.1]:0" : "[::1]:0", nobody);
	if (bind(closed, (struct sockaddr *)&nobody->address, nobody->length) < 0 ||
	    getsockname(closed, (struct sockaddr *)&nobody->address, &nobody->length) < 0)
		stop(side, "a port that does not listen: %s", error_name(errno));
	return closed;
}

/* The sockets that were refused are used again. */
static void closed_port_client(struct side *side)
{
	struct address nobody;
	int closed = bind_closed_port(side, &nobody);

	for (int blocking = 0; blocking < 2; blocking++) {
		struct stream out = stream_to(side, SERVER), in = stream_to(side, CLIENT);
		int fd = refused(side, &nobody, blocking);

		connect_after_refusal(side, fd);
		talk(side, fd, &out, &in);
		close(fd);
	}
	close(closed);
}

static void closed_port_server(struct side *side)
{
	for (int blocking = 0; blocking < 2; blocking++) {
		struct stream out = stream_to(side, CLIENT), in = stream_to(side, SERVER);
		int fd = another_cold(side);

		talk(side, fd, &out, &in);
		close(fd);
	}
}

static void server_first(struct side *side)
{
	struct stream out = stream_to(side, !side->role), in = stream_to(side, side->role);
	int fd = another_cold(side);

	if (side->role == SERVER)
		stream_send(side, fd, &out, GREETING);
	else
		stream_receive(side, fd, &in, GREETING);
	talk(side, fd, &out, &in);
	close(fd);
}

static void early_client(struct side *side)
{
	struct stream out = stream_to(side, SERVER), in = stream_to(side, CLIENT);
	int fd = side_connect_another(side);

	stream_send(side, fd, &out, EARLY);
	side_meet(side, "sent");
	talk(side, fd, &out, &in);
	close(fd);

	out = stream_to(side, SERVER);
	fd = side_connect_another(side);
	stream_send(side, fd, &out, EARLY);
	close(fd);
	side_meet(side, "closed");

	out = stream_to(side, SERVER);
	fd = side_connect_another(side);
	stream_send(side, fd, &out, MESSAGE);
	set_linger(side, fd, 0);
	close(fd);
	side_meet(side, "reset");
}

static void early_server(struct side *side)
{
	struct stream out = stream_to(side, CLIENT), in = stream_to(side, SERVER);
	struct ending ending;

	side_meet(side, "sent");
	int fd = side_accept_another(side);
	stream_receive(side, fd, &in, EARLY);
	talk(side, fd, &out, &in);
	close(fd);
	for (int reset = 0; reset < 2; reset++) {
		side_meet(side, reset ? "reset" : "closed");
		fd = side_accept_another(side);
		in = stream_to(side, SERVER);
		ending = read_to_end(side, fd, &in);
		if (reset)
			observe_ending(side, "reset before accept()", ending, MESSAGE, "ECONNRESET");
		else
			observe_ending(side, "closed before accept()", ending, EARLY, "EOF");
		close(fd);
	}
}

static void deferred_client(struct side *side)
{
	struct stream out = stream_to(side, SERVER), in = stream_to(side, CLIENT);

	side_meet(side, "deferring");
	int fd = side_connect_another(side);
	side_meet(side, "connected");
	side_meet(side, "nothing to accept");
	stream_send(side, fd, &out, EARLY);
	talk(side, fd, &out, &in);
	close(fd);
}

static void deferred_server(struct side *side)
{
	struct stream out = stream_to(side, CLIENT), in = stream_to(side, SERVER);
	char result[32];

	set_option(side, side->listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, 5);
	side_meet(side, "deferring");
	side_meet(side, "connected");
	expect(side, !wait_for(side->listener, POLLIN, 50), "poll() tells of a connection that has sent nothing");
	int fd = accept4(side->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	observe(side, "accept without data", outcome(result, fd), "EAGAIN");
	side_meet(side, "nothing to accept");
	if (fd < 0)
		fd = side_accept_another(side);
	set_option(side, side->listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, 0);
	observe(side, "accepted", poll_now(fd) & POLLIN ? "data" : "no data", "data");
	stream_receive(side, fd, &in, EARLY);
	talk(side, fd, &out, &in);
	close(fd);
}

/* Without cookies, so that the first connection is like the last one. Where the server's kernel does not allow Fast Open, the data comes after the
 * handshake. */
static void fast_open_client(struct side *side)
{
	const struct address *to = &side->settings->connect;

	side_meet(side, "listening");
	for (int i = 0; i < SYN_ROUNDS; i++) {
		struct stream out = stream_to(side, SERVER), in = stream_to(side, CLIENT);
		struct tcp_info information = {0};
		socklen_t length = sizeof information;
		char bytes[SYN_DATA];
		int fd = side_socket(side);

		set_option(side, fd, IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1);
		content_fill(bytes, sizeof bytes, out.key, 0);
		doing("in sendto(MSG_FASTOPEN)");
		if (sendto(fd, bytes, sizeof bytes, MSG_FASTOPEN | MSG_NOSIGNAL, (const struct sockaddr *)&to->address, to->length) != SYN_DATA)
			stop(side, "sendto(MSG_FASTOPEN): %s", error_name(errno));
		out.position = SYN_DATA;
		set_option(side, fd, IPPROTO_TCP, TCP_NODELAY, 1);
		set_blocking(side, fd, false);
		talk(side, fd, &out, &in);
		getsockopt(fd, IPPROTO_TCP, TCP_INFO, &information, &length);
		note(side, "data in the SYN: %s", information.tcpi_options & TCPI_OPT_SYN_DATA ? "yes" : "no");
		close(fd);
	}
}

static void fast_open_server(struct side *side)
{
	set_option(side, side->listener, IPPROTO_TCP, TCP_FASTOPEN, 16);
	set_option(side, side->listener, IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1);
	side_meet(side, "listening");
	for (int i = 0; i < SYN_ROUNDS; i++) {
		struct stream out = stream_to(side, CLIENT), in = stream_to(side, SERVER);
		int fd = side_accept_another(side);

		stream_receive(side, fd, &in, SYN_DATA);
		talk(side, fd, &out, &in);
		close(fd);
	}
}

const struct exchange beginning_exchanges[] = {
    {"closed-port", "connect to a closed port, and then elsewhere with the same socket", EX_FAST | EX_OWN_START, closed_port_client,
     closed_port_server},
    {"server-first", "the server speaks first", EX_FAST | EX_OWN_START, server_first, server_first},
    {"data-before-accept", "data, FIN and RST before the server accepts", EX_FAST | EX_OWN_START, early_client, early_server},
    {"deferred-accept", "TCP_DEFER_ACCEPT: no connection before its data", EX_OWN_START, deferred_client, deferred_server},
    {"fast-open", "TCP Fast Open with data in the SYN", EX_FAST | EX_OWN_START, fast_open_client, fast_open_server},
    {0},
};
