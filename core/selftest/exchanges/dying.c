/* Ends that nobody has ordered: a process that is killed, a peer that is gone without a word. */
#include "endings.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOME 16000
#define UNREAD 1000
#define ENOUGH (1 << 20)

static void send_and_wait(struct side *side, int fd, int channel)
{
	struct stream stream = stream_to(side, !side->role);

	stream_send(side, fd, &stream, SOME);
	if (send(channel, "", 1, MSG_NOSIGNAL) == 1)
		pause();
}

static void leave_unread(struct side *side, int fd, int channel)
{
	settle(side, fd, UNREAD);
	send_and_wait(side, fd, channel);
}

static void send_for_ever(struct side *side, int fd, int channel)
{
	struct stream stream = stream_to(side, !side->role);

	if (send(channel, "", 1, MSG_NOSIGNAL) == 1)
		for (;;)
			stream_send(side, fd, &stream, SOME);
}

/* A process of which only a signal makes an end holds the socket alone. */
static void kill_while(struct side *side, void (*work)(struct side *, int, int))
{
	int channel, fd = another(side);
	pid_t pid = start_process(side, work, fd, &channel);
	char byte;

	close(fd);
	if (recv(channel, &byte, 1, 0) != 1)
		stop(side, "the process that is to be killed ended by itself");
	side_meet(side, "arrived");
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	close(channel);
	side_meet(side, "killed");
}

static void killed_give(struct side *side)
{
	kill_while(side, send_and_wait);
	kill_while(side, send_for_ever);
}

static void killed_take(struct side *side)
{
	struct stream stream = stream_to(side, side->role);
	int fd = another(side);

	settle(side, fd, SOME);
	side_meet(side, "arrived");
	side_meet(side, "killed");
	expect(side, wait_for(fd, POLLRDHUP, 3000), "no FIN came");
	observe_poll(side, fd, "after the kill", "IN|OUT|RDHUP");
	struct ending ending = read_to_end(side, fd, &stream);
	observe_ending(side, "stream", ending, SOME, "EOF");
	close(fd);

	stream = stream_to(side, side->role);
	fd = another(side);
	stream_receive(side, fd, &stream, ENOUGH);
	side_meet(side, "arrived");
	side_meet(side, "killed");
	ending = read_to_end(side, fd, &stream);
	observe(side, "killed while it sends: what came is right, then", ending_name(ending), "EOF");
	close(fd);
}

static void peer_killed(struct side *side)
{
	both_ways(side, killed_give, killed_take);
}

static void killed_unread_give(struct side *side)
{
	kill_while(side, leave_unread);
}

static void killed_unread_take(struct side *side)
{
	struct stream stream = stream_to(side, side->role), unread = stream_to(side, !side->role);
	int fd = another(side);

	stream_send(side, fd, &unread, UNREAD);
	settle(side, fd, SOME);
	side_meet(side, "arrived");
	side_meet(side, "killed");
	expect(side, wait_for(fd, POLLRDHUP, 3000), "the end of the peer does not wake poll()");
	stream_receive(side, fd, &stream, SOME);
	note(side, "%d bytes right", SOME);
	expect_end_unread(side, fd);
	close(fd);
}

static void killed_unread(struct side *side)
{
	both_ways(side, killed_unread_give, killed_unread_take);
}

static bool can_vanish(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
	bool can = fd >= 0 && setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof on) == 0;

	close(fd);
	return can;
}

static void vanish(struct side *side)
{
	int fd = another(side);

	wait_acknowledged(side, fd); /* or what comes late would be answered with a RST */
	side_meet(side, "idle");
	set_option(side, fd, IPPROTO_TCP, TCP_REPAIR, 1); /* in this mode close() tells the peer nothing */
	close(fd);
	side_meet(side, "vanished");
}

static void meet_nobody(struct side *side)
{
	int fd = another(side);

	wait_acknowledged(side, fd);
	side_meet(side, "idle");
	side_meet(side, "vanished");
	expect(side, !wait_for(fd, POLLIN, 50), "a peer that is gone without a word is noticed");
	observe_poll(side, fd, "nothing is known", "OUT");
	observe_recv(side, fd, "nothing is known", "EAGAIN");
	observe_send(side, fd, "nothing is known", "1");
	expect(side, wait_for_end(fd), "no RST answers the first byte");
	observe_poll(side, fd, "after the RST", "IN|OUT|ERR|HUP|RDHUP");
	observe(side, "SO_ERROR", error_name(socket_error(fd)), "ECONNRESET");
	observe_send(side, fd, "in the end", "EPIPE");
	close(fd);
}

static void half_open(struct side *side)
{
	if (!side_agree(side, "can vanish", can_vanish()))
		skip(side, "TCP_REPAIR is not allowed here, and a peer cannot vanish without it");
	both_ways(side, vanish, meet_nobody);
}

const struct exchange dying_exchanges[] = {
    {"peer-killed", "peer killed with data in flight, and while it sends", EX_FAST, peer_killed, peer_killed},
    {"peer-killed-unread", "peer killed with unread data", EX_FAST | EX_DIFFERS_CLOSE_UNREAD, killed_unread, killed_unread},
    {"half-open", "half-open: the peer is gone without a word, the next byte brings RST", 0, half_open, half_open},
    {0},
};
