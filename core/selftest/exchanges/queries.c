/* What the kernel says of a connection: FIONREAD, SIOCOUTQ, SIOCATMARK, TCP_INFO; and urgent data. */
#include "exchange.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <linux/sockios.h>

static int queried(const struct side *side, unsigned long request)
{
	int value = -1;

	if (ioctl(side->fd, request, &value) < 0)
		stop(side, "ioctl(%#lx): %s", request, error_name(errno));
	return value;
}

static void give_to_count(struct side *side)
{
	struct stream stream = direction(side, true);

	side_meet(side, "nothing");
	stream_send(side, side->fd, &stream, 777);
	side_meet(side, "first");
	stream_send(side, side->fd, &stream, 223);
	side_meet(side, "read");
}

static void take_counted(struct side *side)
{
	struct stream stream = direction(side, false);

	observe_number(side, "FIONREAD of an empty socket", queried(side, FIONREAD), 0);
	side_meet(side, "nothing");
	settle(side, side->fd, 777);
	observe_number(side, "FIONREAD with 777 bytes there", queried(side, FIONREAD), 777);
	stream_receive(side, side->fd, &stream, 100);
	observe_number(side, "FIONREAD when 100 are read", queried(side, FIONREAD), 677);
	side_meet(side, "first");
	settle(side, side->fd, 900);
	observe_number(side, "FIONREAD with 223 more", queried(side, FIONREAD), 900);
	observe_number(side, "SIOCATMARK without urgent data", queried(side, SIOCATMARK), 0);
	stream_receive(side, side->fd, &stream, 900);
	observe_number(side, "FIONREAD when all is read", queried(side, FIONREAD), 0);
	side_meet(side, "read");
}

static void count_unread(struct side *side)
{
	both_ways(side, give_to_count, take_counted);
}

/* An acknowledgement may come late, but it comes. */
static bool empties(const struct side *side, unsigned long request)
{
	for (int try = 0; try < 2000; try++) {
		if (queried(side, request) == 0)
			return true;
		nap(1000);
	}
	return false;
}

static void give_and_ask(struct side *side)
{
	struct stream stream = direction(side, true);

	observe(side, "SIOCOUTQ before", empties(side, SIOCOUTQ) ? "0" : "not 0", "0");
	stream_send(side, side->fd, &stream, 50000);
	side_meet(side, "read");
	observe(side, "SIOCOUTQ when the other end has read all", empties(side, SIOCOUTQ) ? "0" : "not 0", "0");
	observe(side, "SIOCOUTQNSD then", empties(side, SIOCOUTQNSD) ? "0" : "not 0", "0");
}

static void take_asked(struct side *side)
{
	struct stream stream = direction(side, false);

	stream_receive(side, side->fd, &stream, 50000);
	side_meet(side, "read");
}

static void count_unsent(struct side *side)
{
	both_ways(side, give_and_ask, take_asked);
}

static void note_connection(struct side *side, const char *when)
{
	struct tcp_info information = {0};
	socklen_t length = sizeof information;

	if (getsockopt(side->fd, IPPROTO_TCP, TCP_INFO, &information, &length) < 0)
		stop(side, "TCP_INFO: %s", error_name(errno));
	note(side, "%s: state %s, %u retransmissions under way, SO_ERROR %s, a segment holds %s", when,
	     information.tcpi_state == TCP_ESTABLISHED ? "ESTABLISHED" : "another", information.tcpi_retransmits,
	     error_name(get_option(side, side->fd, SOL_SOCKET, SO_ERROR)), information.tcpi_snd_mss > 0 ? "something" : "nothing");
	expect(side, information.tcpi_lost == 0, "TCP_INFO shows %u lost segments", information.tcpi_lost);
	note(side, "%s: SO_TYPE %d, SO_PROTOCOL %d, SO_ACCEPTCONN %d", when, get_option(side, side->fd, SOL_SOCKET, SO_TYPE),
	     get_option(side, side->fd, SOL_SOCKET, SO_PROTOCOL), get_option(side, side->fd, SOL_SOCKET, SO_ACCEPTCONN));
}

static void information(struct side *side)
{
	struct stream up = stream_to(side, SERVER), down = stream_to(side, CLIENT);
	struct stream *out = side->role == CLIENT ? &up : &down, *in = side->role == CLIENT ? &down : &up;

	note_connection(side, "at the beginning");
	for (int round = 0; round < 10; round++) {
		stream_send(side, side->fd, out, 3000);
		stream_receive(side, side->fd, in, 3000);
	}
	note_connection(side, "after 30,000 bytes");
	note_stream(side, "received", in);
}

static void give_urgent(struct side *side)
{
	char result[32];

	send_all(side, side->fd, "0123456789", 10);
	observe(side, "send(MSG_OOB)", outcome(result, send(side->fd, "!", 1, MSG_OOB)), "1");
	send_all(side, side->fd, "abcdefghij", 10);
	side_meet(side, "sent");
	side_meet(side, "read");
}

/* Gives the number of bytes of the stream; the urgent byte is among them, or it is put into *urgent. */
static size_t read_with_urgent(struct side *side, char *stream, size_t size, char *urgent)
{
	size_t got = 0;
	ssize_t more;
	struct pollfd mark = {.fd = side->fd, .events = POLLPRI};

	while (got < size && got + (*urgent != 0) < 21) {
		if (!*urgent && poll(&mark, 1, 0) > 0)
			(void)!recv(side->fd, urgent, 1, MSG_OOB | MSG_DONTWAIT);
		more = recv(side->fd, stream + got, size - got, MSG_DONTWAIT);
		if (more > 0)
			got += more;
		else if (more == 0 || (errno != EAGAIN && errno != EINTR))
			stop(side, "recv(): %s", more == 0 ? "EOF" : error_name(errno));
		else
			nap(1000);
	}
	return got;
}

static void take_urgent(struct side *side, bool inside)
{
	char stream[64] = "", urgent = 0;
	struct pollfd one = {.fd = side->fd, .events = POLLPRI};

	set_option(side, side->fd, SOL_SOCKET, SO_OOBINLINE, inside);
	side_meet(side, "sent");
	/* Everything must be there, or the reader could run past the mark before it knows of it. */
	for (int64_t begin = now_us(); now_us() - begin < 1000000 && queried(side, FIONREAD) < 10 && poll(&one, 1, 1) <= 0;)
		;
	poll(&one, 1, 50);
	stream[read_with_urgent(side, stream, sizeof stream - 1, &urgent)] = 0;
	note(side, "difference urgent: %s", strchr(stream, '!') ? "inline" : "out of band");
	/* Where it is inline, a recv() that asks for the urgent byte may get the next byte of the stream. */
	expect(side,
	       strcmp(stream, "0123456789!abcdefghij") == 0 || (urgent == '!' && strcmp(stream, "0123456789abcdefghij") == 0) ||
		   (urgent == '0' && strcmp(stream, "123456789!abcdefghij") == 0),
	       "the stream is '%s' and the urgent byte %d", stream, urgent);
	set_option(side, side->fd, SOL_SOCKET, SO_OOBINLINE, 0);
	side_meet(side, "read");
}

static void take_outside(struct side *side)
{
	take_urgent(side, false);
}

static void urgent(struct side *side)
{
	both_ways(side, give_urgent, take_outside);
}

static void take_inside(struct side *side)
{
	take_urgent(side, true);
}

static void urgent_inline(struct side *side)
{
	both_ways(side, give_urgent, take_inside);
}

const struct exchange query_exchanges[] = {
    {"fionread", "FIONREAD: how many bytes can be read; SIOCATMARK", EX_FAST, count_unread, count_unread},
    {"siocoutq", "SIOCOUTQ: nothing is unsent when the other end has read all", EX_FAST, count_unsent, count_unsent},
    {"tcp-info", "TCP_INFO sanity, and what other options say", EX_FAST, information, information},
    {"urgent", "MSG_OOB: urgent data", EX_FAST | EX_DIFFERS_URGENT, urgent, urgent},
    {"urgent-inline", "MSG_OOB to a reader with SO_OOBINLINE", 0, urgent_inline, urgent_inline},
    {0},
};
