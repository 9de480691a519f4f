/* One half closes: in order, at once after its data, or hard; the other one looks at what arrives. */
#include "endings.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#define SOME 3000
#define MUCH 1000000

static void linger_zero_give(struct side *side)
{
	struct stream stream = stream_to(side, !side->role);
	int fd = another(side);

	stream_send(side, fd, &stream, SOME);
	side_meet(side, "arrived");
	set_linger(side, fd, 0);
	close(fd);
	side_meet(side, "closed");

	fd = another(side);
	fill_up(side, fd, &stream);
	side_meet(side, "full");
	set_linger(side, fd, 0);
	close(fd);
}

static void linger_zero_take(struct side *side)
{
	struct stream stream = stream_to(side, side->role);
	int fd = another(side);

	settle(side, fd, SOME);
	side_meet(side, "arrived");
	side_meet(side, "closed");
	expect(side, wait_for_end(fd), "no RST came");
	observe_poll(side, fd, "after the RST", "IN|OUT|ERR|HUP|RDHUP");
	struct ending ending = read_to_end(side, fd, &stream);
	observe_ending(side, "stream", ending, SOME, "ECONNRESET");
	observe_recv(side, fd, "in the end", "EOF");
	observe_send(side, fd, "in the end", "EPIPE");
	close(fd);

	fd = another(side);
	side_meet(side, "full");
	ending = read_to_end(side, fd, &stream);
	observe(side, "much: what came is right, then", ending_name(ending), "ECONNRESET");
	close(fd);
}

static void linger_zero(struct side *side)
{
	both_ways(side, linger_zero_give, linger_zero_take);
}

static void note_close(const struct side *side, int fd, const char *what, int64_t least, int64_t most)
{
	int64_t begin = now_us();

	close(fd);
	int64_t took = now_us() - begin;
	note(side, "%s: close() returned", what);
	expect(side, took >= least && took <= most, "%s: close() took %lld us", what, (long long)took);
}

static void linger_wait_give(struct side *side)
{
	struct stream stream = stream_to(side, !side->role);
	int fd = another(side);

	stream_send(side, fd, &stream, SOME);
	set_linger(side, fd, 5);
	note_close(side, fd, "what the peer has in its queue", 0, 3000000);

	fd = another(side);
	uint64_t sent = fill_up(side, fd, &stream);
	set_linger(side, fd, 1);
	note_close(side, fd, "more than the peer takes, after 1 s", 800000, 4000000);
	side_swap(side, "sent", sent);
}

static void linger_wait_take(struct side *side)
{
	struct stream stream = stream_to(side, side->role);
	int fd = another(side);
	struct ending ending = read_to_end(side, fd, &stream);

	observe_ending(side, "stream", ending, SOME, "EOF");
	close(fd);
	fd = another(side);
	uint64_t sent = side_swap(side, "sent", 0);
	ending = read_to_end(side, fd, &stream);
	expect(side, ending.bytes == sent, "%llu bytes of %llu came", (unsigned long long)ending.bytes, (unsigned long long)sent);
	observe(side, "all that was sent is right, then", ending_name(ending), "EOF");
	close(fd);
}

static void linger_wait(struct side *side)
{
	both_ways(side, linger_wait_give, linger_wait_take);
}

static const size_t fin_sizes[] = {1, 100, 4096, 65536, MUCH};
#define FINS (sizeof fin_sizes / sizeof *fin_sizes)

static void fin_give(struct side *side)
{
	struct stream stream = stream_to(side, !side->role);

	for (size_t i = 0; i < FINS; i++) {
		int fd = another(side);

		stream_send(side, fd, &stream, fin_sizes[i]);
		close(fd);
	}
}

static void fin_take(struct side *side)
{
	struct stream stream = stream_to(side, side->role);

	for (size_t i = 0; i < FINS; i++) {
		int fd = another(side);
		struct ending ending = read_to_end(side, fd, &stream);

		observe_ending(side, "stream", ending, fin_sizes[i], "EOF");
		close(fd);
	}
}

static void fin_after_data(struct side *side)
{
	both_ways(side, fin_give, fin_take);
}

static volatile sig_atomic_t pipes;

static void count_pipe(int signal)
{
	(void)signal;
	pipes++;
}

static void epipe_give(struct side *side)
{
	close(another(side));
	side_meet(side, "closed");
}

static void observe_write(const struct side *side, int fd, const char *wanted, int wanted_pipes)
{
	char result[32];
	ssize_t written = write(fd, "x", 1);

	observe(side, "write", outcome(result, written), wanted);
	observe_number(side, "SIGPIPE", pipes, wanted_pipes);
}

static void epipe_take(struct side *side)
{
	int fd = another(side);

	signal(SIGPIPE, count_pipe);
	pipes = 0;
	side_meet(side, "closed");
	expect(side, wait_for(fd, POLLRDHUP, 3000), "no FIN came");
	observe_poll(side, fd, "after the FIN", "IN|OUT|RDHUP");
	observe_write(side, fd, "1", 0);
	expect(side, wait_for_end(fd), "no RST came");
	observe_poll(side, fd, "after the RST", "IN|OUT|ERR|HUP|RDHUP");
	observe_write(side, fd, "EPIPE", 1);
	observe_write(side, fd, "EPIPE", 2);
	observe_send(side, fd, "MSG_NOSIGNAL", "EPIPE");
	observe_recv(side, fd, "in the end", "EOF");
	observe_number(side, "SIGPIPE in the end", pipes, 2);
	signal(SIGPIPE, SIG_DFL);
	close(fd);
}

static void epipe(struct side *side)
{
	both_ways(side, epipe_give, epipe_take);
}

static void reset_give(struct side *side)
{
	int fd = another(side);

	nap(20000);
	set_linger(side, fd, 0);
	close(fd);
}

static void reset_take(struct side *side)
{
	int fd = another(side);

	expect(side, wait_for(fd, POLLIN, 3000), "the RST does not wake poll()");
	observe_poll(side, fd, "after the RST", "IN|OUT|ERR|HUP|RDHUP");
	observe(side, "SO_ERROR", error_name(socket_error(fd)), "ECONNRESET");
	observe(side, "SO_ERROR again", error_name(socket_error(fd)), "0");
	observe_poll(side, fd, "after SO_ERROR", "IN|OUT|HUP|RDHUP");
	observe_recv(side, fd, "in the end", "EOF");
	observe_send(side, fd, "in the end", "EPIPE");
	close(fd);
}

static void reset_error(struct side *side)
{
	both_ways(side, reset_give, reset_take);
}

static void close_unread_give(struct side *side)
{
	struct stream stream = stream_to(side, !side->role);
	int fd = another(side);

	stream_send(side, fd, &stream, 500);
	settle(side, fd, 1000);
	side_meet(side, "unread");
	close(fd);
	side_meet(side, "closed");
}

static void close_unread_take(struct side *side)
{
	struct stream stream = stream_to(side, side->role), back = stream_to(side, !side->role);
	int fd = another(side);

	stream_send(side, fd, &back, 1000);
	settle(side, fd, 500);
	side_meet(side, "unread");
	side_meet(side, "closed");
	expect(side, wait_for(fd, POLLRDHUP, 3000), "the end of the peer does not wake poll()");
	stream_receive(side, fd, &stream, 500);
	note(side, "500 bytes right");
	expect_end_unread(side, fd);
	observe_recv(side, fd, "in the end", "EOF");
	close(fd);
}

static void close_unread(struct side *side)
{
	both_ways(side, close_unread_give, close_unread_take);
}

const struct exchange closing_exchanges[] = {
    {"linger-zero", "SO_LINGER 0 with data in flight: RST", 0, linger_zero, linger_zero},
    {"linger-wait", "SO_LINGER with a time: close() waits for what is in flight", 0, linger_wait, linger_wait},
    {"fin-after-data", "FIN right after data: send and close at once", EX_FAST, fin_after_data, fin_after_data},
    {"epipe", "EPIPE and SIGPIPE after the peer has closed", EX_FAST, epipe, epipe},
    {"reset-error", "RST wakes poll(); SO_ERROR tells it once", EX_FAST, reset_error, reset_error},
    {"close-unread", "close with unread data", EX_FAST | EX_DIFFERS_CLOSE_UNREAD, close_unread, close_unread},
    {0},
};
