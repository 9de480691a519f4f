/* Connections whose peer has died without a word: keepalive and TCP_USER_TIMEOUT. Each half is the one that waits and the one that is dead at once,
 * on connections of their own. */
#include "endings.h"
#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <unistd.h>

#define SOME 1000
#define PATIENCE_MS 8000

static void keep_alive(const struct side *side, int fd, int probes)
{
	set_option(side, fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_option(side, fd, IPPROTO_TCP, TCP_KEEPIDLE, 1);
	set_option(side, fd, IPPROTO_TCP, TCP_KEEPINTVL, 1);
	set_option(side, fd, IPPROTO_TCP, TCP_KEEPCNT, probes);
}

static void note_time_out(const struct side *side, int fd, const char *what, int64_t begin, int64_t least)
{
	doing("waiting for %s", what);
	expect(side, wait_for(fd, 0, PATIENCE_MS), "%s does not end the connection", what);
	int64_t took = now_us() - begin;
	observe_poll(side, fd, what, "IN|OUT|ERR|HUP|RDHUP");
	observe(side, "SO_ERROR", error_name(socket_error(fd)), "ETIMEDOUT");
	expect(side, took >= least, "%s came after %lld us", what, (long long)took);
	observe_recv(side, fd, what, "EOF");
	observe_send(side, fd, what, "EPIPE");
}

/* Two connections, on which nothing was said yet: on the first one the client waits and the server is dead, on the second one it is the other way
 * round. */
static void one_dead_each(struct side *side, int *waits, int *dead)
{
	int first = another_cold(side), second = another_cold(side);

	*waits = side->role == CLIENT ? first : second;
	*dead = side->role == CLIENT ? second : first;
	wait_acknowledged(side, first);
	wait_acknowledged(side, second);
	side_meet(side, "idle");
	drop_what_arrives(side, *dead, true);
	side_meet(side, "dead");
}

/* An orphan that hears nothing would hold its 4-tuple for minutes, and stop the next connection from that port. */
static void bury(const struct side *side, int dead)
{
	drop_what_arrives(side, dead, false);
	set_linger(side, dead, 0);
	close(dead);
}

static void keepalive(struct side *side)
{
	struct stream out = stream_to(side, !side->role), in = stream_to(side, side->role);
	int waits, dead;

	keep_alive(side, side->fd, 2);
	one_dead_each(side, &waits, &dead);
	int64_t begin = now_us();
	keep_alive(side, waits, 1);
	note_time_out(side, waits, "keepalive", begin, 900000);
	side_meet(side, "timed out");
	observe_recv(side, dead, "its peer has given up", "EAGAIN");
	observe_poll(side, side->fd, "the idle connection", "OUT");
	side_meet(side, "still there");
	stream_send(side, side->fd, &out, SOME);
	stream_receive(side, side->fd, &in, SOME);
	note(side, "the idle connection goes on");
	side_meet(side, "done");
	close(waits);
	bury(side, dead);
}

static bool filter_all(int fd)
{
	struct sock_filter nothing[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
	struct sock_fprog program = {1, nothing};

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0;
}

static void filter_give(struct side *side)
{
	struct stream out = stream_to(side, !side->role);

	side_meet(side, "filtering");
	stream_send(side, side->fd, &out, SOME);
	side_meet(side, "sent");
	side_meet(side, "read");
}

/* A socket's own filter is for all that arrives at it; what it drops is sent again, and comes when the filter is gone. */
static void filter_take(struct side *side)
{
	struct stream in = stream_to(side, side->role);
	int ignored = 0;

	wait_acknowledged(side, side->fd); /* the filter would drop acknowledgements too */
	if (!filter_all(side->fd))
		stop(side, "setsockopt(SO_ATTACH_FILTER): %s", error_name(errno));
	side_meet(side, "filtering");
	side_meet(side, "sent");
	observe_recv(side, side->fd, "behind the filter", "EAGAIN");
	if (setsockopt(side->fd, SOL_SOCKET, SO_DETACH_FILTER, &ignored, sizeof ignored) < 0)
		stop(side, "setsockopt(SO_DETACH_FILTER): %s", error_name(errno));
	stream_receive(side, side->fd, &in, SOME);
	note_stream(side, "without the filter", &in);
	side_meet(side, "read");
}

static void socket_filter(struct side *side)
{
	int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (!side_agree(side, "filters", filter_all(probe)))
		skip(side, "SO_ATTACH_FILTER is not allowed here");
	close(probe);
	both_ways(side, filter_give, filter_take);
}

static void user_timeout(struct side *side)
{
	struct stream out = stream_to(side, !side->role);
	int waits, dead;

	one_dead_each(side, &waits, &dead);
	set_option(side, waits, IPPROTO_TCP, TCP_USER_TIMEOUT, 700);
	int64_t begin = now_us();
	stream_send(side, waits, &out, SOME);
	note_time_out(side, waits, "TCP_USER_TIMEOUT", begin, 500000);
	side_meet(side, "timed out");
	observe_recv(side, dead, "nothing has come through", "EAGAIN");
	side_meet(side, "done");
	close(waits);
	bury(side, dead);
}

/* Here the peer lives, and answers, but does not read. */
static void user_timeout_full(struct side *side)
{
	struct stream out = stream_to(side, !side->role);
	int first = another(side), second = another(side);
	int waits = side->role == CLIENT ? first : second, ignores = side->role == CLIENT ? second : first;

	set_option(side, waits, IPPROTO_TCP, TCP_USER_TIMEOUT, 1000);
	int64_t begin = now_us();
	uint64_t sent = fill_up(side, waits, &out);
	expect(side, sent < side->settings->bound, "a reader that does not read takes %llu bytes", (unsigned long long)sent);
	note_time_out(side, waits, "TCP_USER_TIMEOUT with a full window", begin, 800000);
	side_meet(side, "timed out");
	close(waits);
	close(ignores);
}

const struct exchange timeout_exchanges[] = {
    {"keepalive", "keepalive: an idle connection stays, one with a dead peer ends in ETIMEDOUT", 0, keepalive, keepalive},
    {"socket-filter", "SO_ATTACH_FILTER: a socket's filter drops what arrives, until it is detached", 0, socket_filter, socket_filter},
    {"user-timeout", "TCP_USER_TIMEOUT: data that nobody acknowledges ends in ETIMEDOUT", 0, user_timeout, user_timeout},
    {"user-timeout-full", "TCP_USER_TIMEOUT with a reader that never reads", 0, user_timeout_full, user_timeout_full},
    {0},
};
