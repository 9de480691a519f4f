/* One socket in several hands: fork, descriptors passed to another process, dup. */
#include "endings.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define PIECES 40
#define PIECE 5000
#define SHARED 400000
#define EACH 50000

static void channel_send(const struct side *side, int channel, const void *what, size_t size)
{
	if (send(channel, what, size, MSG_NOSIGNAL) != (ssize_t)size)
		stop(side, "to a process of this half: %s", error_name(errno));
}

static void channel_receive(const struct side *side, int channel, void *what, size_t size)
{
	ssize_t got = recv(channel, what, size, 0);

	if (got != (ssize_t)size)
		stop(side, "from a process of this half: %zd of %zu bytes", got, size);
}

/* Reads in turn with the other process, which is told how far the stream has come. */
static void read_in_turn(struct side *side, int fd, int channel)
{
	struct stream stream;

	for (int i = 0; i < PIECES / 2; i++) {
		channel_receive(side, channel, &stream, sizeof stream);
		stream_receive(side, fd, &stream, PIECE);
		channel_send(side, channel, &stream, sizeof stream);
	}
}

/* What two readers get at the same time has no order: their bytes are counted and added up. */
struct sum {
	uint64_t bytes, total;
};

static struct sum add_to_end(const struct side *side, int fd)
{
	unsigned char bytes[4096];
	struct sum sum = {0, 0};

	for (;;) {
		ssize_t got = recv(fd, bytes, sizeof bytes, 0);

		if (got == 0)
			return sum;
		if (got < 0 && errno != EAGAIN && errno != EINTR)
			stop(side, "recv() in one of two readers: %s", error_name(errno));
		if (got < 0)
			wait_for(fd, POLLIN, -1);
		for (ssize_t i = 0; i < got; i++)
			sum.total += bytes[i];
		sum.bytes += got > 0 ? got : 0;
	}
}

static void read_as_child(struct side *side, int fd, int channel)
{
	read_in_turn(side, fd, channel);
	struct sum sum = add_to_end(side, fd);
	channel_send(side, channel, &sum, sizeof sum);
}

static void fork_read_give(struct side *side)
{
	struct stream stream = stream_to(side, !side->role);
	int fd = another(side);

	for (int i = 0; i < PIECES; i++)
		stream_send(side, fd, &stream, PIECE);
	side_meet(side, "in turn");
	stream_send(side, fd, &stream, SHARED);
	close(fd);
}

static void fork_read_take(struct side *side)
{
	struct stream stream = stream_to(side, side->role);
	struct sum mine, childs;
	static unsigned char expected[SHARED];
	uint64_t total = 0;
	int channel, fd = another(side);
	pid_t pid = start_process(side, read_as_child, fd, &channel);

	for (int i = 0; i < PIECES / 2; i++) {
		stream_receive(side, fd, &stream, PIECE);
		channel_send(side, channel, &stream, sizeof stream);
		channel_receive(side, channel, &stream, sizeof stream);
	}
	note_stream(side, "in turn", &stream);
	side_meet(side, "in turn");
	mine = add_to_end(side, fd);
	channel_receive(side, channel, &childs, sizeof childs);
	end_process(side, pid, channel);
	content_fill(expected, SHARED, stream.key, stream.position);
	for (int i = 0; i < SHARED; i++)
		total += expected[i];
	note(side, "at once: %llu bytes, sum %llu", (unsigned long long)(mine.bytes + childs.bytes), (unsigned long long)(mine.total + childs.total));
	expect(side, mine.bytes + childs.bytes == SHARED && mine.total + childs.total == total, "two readers at once lost, or made, bytes");
	close(fd);
}

static void fork_read(struct side *side)
{
	both_ways(side, fork_read_give, fork_read_take);
}

static void write_as_child(struct side *side, int fd, int channel)
{
	struct stream stream;

	channel_receive(side, channel, &stream, sizeof stream);
	stream_send(side, fd, &stream, EACH);
	channel_send(side, channel, &stream, sizeof stream);
}

static void fork_write_give(struct side *side)
{
	struct stream stream = stream_to(side, !side->role);
	int channel, fd = another(side);

	for (int i = 0; i < 5; i++) {
		pid_t pid = start_process(side, write_as_child, fd, &channel);

		channel_send(side, channel, &stream, sizeof stream);
		channel_receive(side, channel, &stream, sizeof stream);
		end_process(side, pid, channel);
		stream_send(side, fd, &stream, EACH);
	}
	side_meet(side, "all read");
	close(fd);
}

static void fork_write_take(struct side *side)
{
	struct stream stream = stream_to(side, side->role);
	int fd = another(side);

	stream_receive(side, fd, &stream, 10 * EACH);
	note_stream(side, "received", &stream);
	observe_poll(side, fd, "the children have ended, their parent has the socket", "OUT");
	side_meet(side, "all read");
	observe(side, "the parent closes", ending_name(read_to_end(side, fd, &stream)), "EOF");
	close(fd);
}

static void fork_write(struct side *side)
{
	both_ways(side, fork_write_give, fork_write_take);
}

static void pass_socket(const struct side *side, int channel, int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof fd)] = {0};
	struct iovec part = {&byte, 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(header), &fd, sizeof fd);
	if (sendmsg(channel, &message, MSG_NOSIGNAL) < 0)
		stop(side, "sendmsg(SCM_RIGHTS): %s", error_name(errno));
}

static int take_socket(const struct side *side, int channel)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec part = {&byte, 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	int fd;

	if (recvmsg(channel, &message, MSG_CMSG_CLOEXEC) < 0 || !CMSG_FIRSTHDR(&message))
		stop(side, "recvmsg(SCM_RIGHTS): %s", error_name(errno));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
	return fd;
}

/* Takes a piece and gives one back, again and again. */
static void answer(struct side *side, int fd, struct stream *in, struct stream *out, int rounds)
{
	for (int i = 0; i < rounds; i++) {
		stream_receive(side, fd, in, PIECE);
		stream_send(side, fd, out, PIECE);
	}
}

struct streams {
	struct stream in, out;
};

static void go_on_elsewhere(struct side *side, int fd, int channel)
{
	struct streams streams;

	close(fd); /* what fork gave it: this process has only what is passed */
	fd = take_socket(side, channel);
	channel_receive(side, channel, &streams, sizeof streams);
	answer(side, fd, &streams.in, &streams.out, PIECES);
	channel_send(side, channel, &streams, sizeof streams);
	pass_socket(side, channel, fd);
}

static void passing_give(struct side *side)
{
	struct stream out = stream_to(side, !side->role), in = stream_to(side, side->role);
	int fd = another(side);

	for (int i = 0; i < 3 * PIECES; i++) {
		stream_send(side, fd, &out, PIECE);
		stream_receive(side, fd, &in, PIECE);
	}
	note_stream(side, "answers", &in);
	close(fd);
}

static void passing_take(struct side *side)
{
	struct streams streams = {stream_to(side, side->role), stream_to(side, !side->role)};
	int channel, fd = another(side);
	pid_t pid = start_process(side, go_on_elsewhere, fd, &channel);

	answer(side, fd, &streams.in, &streams.out, PIECES);
	settle(side, fd, PIECE); /* in flight while the socket changes hands */
	pass_socket(side, channel, fd);
	close(fd);
	channel_send(side, channel, &streams, sizeof streams);
	channel_receive(side, channel, &streams, sizeof streams);
	fd = take_socket(side, channel);
	end_process(side, pid, channel);
	answer(side, fd, &streams.in, &streams.out, PIECES);
	note_stream(side, "received", &streams.in);
	observe(side, "then", ending_name(read_to_end(side, fd, &streams.in)), "EOF");
	close(fd);
}

static void passing(struct side *side)
{
	both_ways(side, passing_give, passing_take);
}

static void dup_take(struct side *side)
{
	struct stream in = stream_to(side, side->role), out = stream_to(side, !side->role);
	int first = another(side), second = dup(first);

	answer(side, first, &in, &out, PIECES);
	close(first);
	answer(side, second, &in, &out, PIECES);
	int third = fcntl(second, F_DUPFD_CLOEXEC, 200);
	observe(side, "the copy", fcntl(third, F_GETFL) & O_NONBLOCK ? "does not block" : "blocks", "does not block");
	set_blocking(side, second, true);
	observe(side, "the copy, when the other one blocks", fcntl(third, F_GETFL) & O_NONBLOCK ? "does not block" : "blocks", "blocks");
	set_blocking(side, third, false);
	settle(side, third, PIECE);
	close(second);
	answer(side, third, &in, &out, PIECES);
	observe(side, "in the end", ending_name(read_to_end(side, third, &in)), "EOF");
	note_stream(side, "received", &in);
	close(third);
}

static void duplicates(struct side *side)
{
	both_ways(side, passing_give, dup_take);
}

const struct exchange sharing_exchanges[] = {
    {"fork-readers", "fork: parent and child read one socket, in turn and at once", EX_FAST, fork_read, fork_read},
    {"fork-writers", "fork: children write and exit, the parent goes on", EX_FAST, fork_write, fork_write},
    {"fd-passing", "the socket is passed to another process, which goes on, and back", EX_FAST, passing, passing},
    {"dup-and-close", "dup, and close of one of several descriptors", EX_FAST, duplicates, duplicates},
    {0},
};
