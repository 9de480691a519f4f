#include "endings.h"
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

#define PIECE 65536

int another_cold(struct side *side)
{
	int fd = side->role == CLIENT ? side_connect_another(side) : side_accept_another(side);

	set_option(side, fd, IPPROTO_TCP, TCP_NODELAY, 1);
	return fd;
}

void warm(struct side *side, int fd)
{
	warm_up(side, fd);
	if (side->settings->gate)
		keep_warm(side, fd);
}

int another(struct side *side)
{
	int fd = another_cold(side);

	warm(side, fd);
	return fd;
}

struct ending read_to_end(const struct side *side, int fd, struct stream *stream)
{
	char bytes[PIECE];
	uint64_t begin = stream->position;

	doing("reading to the end of the stream");
	for (;;) {
		ssize_t got = recv(fd, bytes, sizeof bytes, 0);

		if (got > 0)
			stream_check(side, stream, bytes, got);
		else if (got < 0 && errno == EAGAIN)
			wait_for(fd, POLLIN, -1);
		else if (got == 0 || errno != EINTR)
			return (struct ending){stream->position - begin, got == 0 ? 0 : errno};
	}
}

const char *ending_name(struct ending ending)
{
	return ending.error ? error_name(ending.error) : "EOF";
}

short poll_now(int fd)
{
	struct pollfd one = {.fd = fd, .events = POLLIN | POLLPRI | POLLOUT | POLLRDHUP};

	return poll(&one, 1, 0) < 0 ? POLLNVAL : one.revents;
}

void observe_poll_at(const struct side *side, const char *file, int line, int fd, const char *when, const char *wanted)
{
	char what[128], bits[64];

	snprintf(what, sizeof what, "%s: poll", when);
	observe_at(side, file, line, what, poll_bits(bits, poll_now(fd)), wanted);
}

void observe_recv_at(const struct side *side, const char *file, int line, int fd, const char *when, const char *wanted)
{
	char what[128], byte, result[32];
	ssize_t got = recv(fd, &byte, 1, MSG_DONTWAIT);
	const char *shown = got == 0 ? "EOF" : outcome(result, got);

	snprintf(what, sizeof what, "%s: recv", when);
	observe_at(side, file, line, what, shown, wanted);
}

void observe_send_at(const struct side *side, const char *file, int line, int fd, const char *when, const char *wanted)
{
	char what[128], result[32];
	ssize_t sent = send(fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	const char *shown = outcome(result, sent);

	snprintf(what, sizeof what, "%s: send", when);
	observe_at(side, file, line, what, shown, wanted);
}

void observe_ending_at(const struct side *side, const char *file, int line, const char *what, struct ending ending, uint64_t bytes,
		       const char *wanted)
{
	char got[96], right[96];

	snprintf(got, sizeof got, "%llu bytes right, then %s", (unsigned long long)ending.bytes, ending_name(ending));
	snprintf(right, sizeof right, "%llu bytes right, then %s", (unsigned long long)bytes, wanted);
	observe_at(side, file, line, what, got, right);
}

bool wait_for_end(int fd)
{
	return wait_for(fd, 0, 3000);
}

int socket_error(int fd)
{
	int error = 0;
	socklen_t length = sizeof error;

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0 ? errno : error;
}

void expect_end_unread(struct side *side, int fd)
{
	const char *phase = side->phase;
	char byte, bits[64], result[32];
	short shown = poll_now(fd);
	ssize_t got = recv(fd, &byte, 1, MSG_DONTWAIT);
	bool reset = got < 0 && errno == ECONNRESET;
	const char *gives = got < 0 ? error_name(errno) : got == 0 ? "EOF" : "a byte";
	bool fits = reset == !!(shown & POLLERR) && reset == !!(shown & POLLHUP);

	side->phase = NULL; /* the lines have the same name in both directions */
	note(side, "difference close-unread: poll shows %s", poll_bits(bits, shown));
	note(side, "difference close-unread: recv gives %s", gives);
	expect(side, (got == 0 || reset) && fits, "after the peer left data unread, poll shows %s and recv gives %s", bits, gives);
	/* A byte to a peer that is gone brings the RST if none has come before. */
	ssize_t sent = send(fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	note(side, "difference close-unread: send gives %s", outcome(result, sent));
	expect(side, reset ? sent < 0 && errno == EPIPE : sent == 1, "after the peer left data unread, send gives %s", outcome(result, sent));
	side->phase = phase;
	expect(side, wait_for_end(fd), "the connection does not end");
}

int tcp_state(int fd)
{
	struct tcp_info information;
	socklen_t length = sizeof information;

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &information, &length) < 0 ? -1 : information.tcpi_state;
}

const char *tcp_state_name(int state)
{
	static const char *const names[] = {"?",	 "ESTABLISHED", "SYN_SENT",   "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2",
					    "TIME_WAIT", "CLOSE",	"CLOSE_WAIT", "LAST_ACK", "LISTEN",    "CLOSING"};

	return state > 0 && state < (int)(sizeof names / sizeof *names) ? names[state] : names[0];
}

void set_linger(const struct side *side, int fd, int seconds)
{
	struct linger linger = {1, seconds};

	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) < 0)
		stop(side, "setsockopt(SO_LINGER): %s", error_name(errno));
}

void wait_acknowledged(const struct side *side, int fd)
{
	int left = 1;

	doing("waiting for the acknowledgement of what was sent");
	for (int tries = 0; tries < 2000 && left > 0; tries++) {
		if (ioctl(fd, SIOCOUTQ, &left) < 0)
			stop(side, "ioctl(SIOCOUTQ): %s", error_name(errno));
		if (left > 0)
			nap(1000);
	}
	expect(side, left == 0, "%d bytes are not acknowledged", left);
}

/* By a demand on the hops that a packet has left, which no packet meets. */
void drop_what_arrives(const struct side *side, int fd, bool on)
{
	struct sockaddr_in6 here;
	socklen_t length = sizeof here;

	if (getsockname(fd, (struct sockaddr *)&here, &length) < 0)
		stop(side, "getsockname(): %s", error_name(errno));
	if (here.sin6_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(&here.sin6_addr))
		set_option(side, fd, IPPROTO_IPV6, IPV6_MINHOPCOUNT, on ? 255 : 0);
	else
		set_option(side, fd, IPPROTO_IP, IP_MINTTL, on ? 255 : 0);
}

pid_t start_process(struct side *side, void (*work)(struct side *, int fd, int channel), int fd, int *channel)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		stop(side, "socketpair(): %s", error_name(errno));
	pid_t pid = fork();
	if (pid < 0)
		stop(side, "fork(): %s", error_name(errno));
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(side->settings->timeout);
		close(ends[0]);
		work(side, fd, ends[1]);
		_exit(0);
	}
	close(ends[1]);
	*channel = ends[0];
	return pid;
}

void end_process(const struct side *side, pid_t pid, int channel)
{
	int status = 0;

	close(channel);
	doing("waiting for the end of a process");
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (status != 0)
		stop(side, "a process of this half ended with status %#x", status);
}
