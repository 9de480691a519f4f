/* Several buffers and several messages in one call; messages beside the data. */
#include "exchange.h"
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/uio.h>
#include <linux/net_tstamp.h>

#define TOTAL 5000
#define UNKNOWN_CONTROL 9999

/* Cuts the buffer into pieces of these sizes; zeros are pieces too. */
static unsigned cut(struct iovec *pieces, char *buffer, const size_t *sizes, unsigned count)
{
	for (unsigned i = 0; i < count; buffer += sizes[i++])
		pieces[i] = (struct iovec){buffer, sizes[i]};
	return count;
}

static void give_vectors(struct side *side)
{
	struct stream stream = direction(side, true);
	struct iovec pieces[8];
	char bytes[TOTAL], result[32];
	unsigned count = cut(pieces, bytes, (size_t[]){1, 100, 0, 3000, 17, 1882}, 6);
	struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};

	for (int way = 0; way < 2; way++) {
		content_fill(bytes, TOTAL, stream.key, stream.position);
		side_meet(side, "next");
		ssize_t sent = way == 0 ? writev(side->fd, pieces, count) : sendmsg(side->fd, &message, 0);
		observe(side, way == 0 ? "writev of 6 pieces" : "sendmsg of 6 pieces", outcome(result, sent), "5000");
		stream.position += TOTAL;
		side_meet(side, "read");
	}
}

static void note_message(struct side *side, struct stream *stream, const char *what, struct msghdr *message, char *bytes)
{
	char result[32];
	ssize_t got = recvmsg(side->fd, message, 0);

	note(side, "%s: %s, flags %#x, name %u bytes", what, outcome(result, got), message->msg_flags, message->msg_namelen);
	if (got > 0)
		stream_check(side, stream, bytes, got);
}

static void take_vectors(struct side *side)
{
	struct stream stream = direction(side, false);
	struct iovec pieces[8];
	struct sockaddr_storage name;
	char bytes[TOTAL], result[32];
	unsigned count = cut(pieces, bytes, (size_t[]){10, 0, 500, 1, 2000}, 5);

	side_meet(side, "next");
	settle(side, side->fd, TOTAL);
	ssize_t got = readv(side->fd, pieces, count);
	observe(side, "readv into 5 pieces", outcome(result, got), "2511");
	stream_check(side, &stream, bytes, got < 0 ? 0 : got);
	stream_receive(side, side->fd, &stream, TOTAL - (got < 0 ? 0 : got));
	side_meet(side, "read");
	side_meet(side, "next");
	settle(side, side->fd, TOTAL);
	note_message(side, &stream, "recvmsg into 5 pieces",
		     &(struct msghdr){.msg_iov = pieces, .msg_iovlen = count, .msg_name = &name, .msg_namelen = sizeof name}, bytes);
	note_message(side, &stream, "recvmsg into one", &(struct msghdr){.msg_iov = &(struct iovec){bytes, TOTAL}, .msg_iovlen = 1}, bytes);
	side_meet(side, "read");
	note_stream(side, "received", &stream);
}

static void vectors(struct side *side)
{
	both_ways(side, give_vectors, take_vectors);
}

static void give_several(struct side *side)
{
	struct stream stream = direction(side, true);
	char bytes[1000], result[32];
	struct iovec pieces[4];
	struct mmsghdr messages[4] = {0};

	content_fill(bytes, sizeof bytes, stream.key, stream.position);
	cut(pieces, bytes, (size_t[]){400, 300, 200, 100}, 4);
	for (int i = 0; i < 4; i++)
		messages[i].msg_hdr = (struct msghdr){.msg_iov = &pieces[i], .msg_iovlen = 1};
	observe(side, "sendmmsg of 4", outcome(result, sendmmsg(side->fd, messages, 4, 0)), "4");
	side_meet(side, "sent");
	side_meet(side, "read");
}

static void take_several(struct side *side)
{
	struct stream stream = direction(side, false);
	char bytes[2000], result[32];
	struct iovec pieces[4];
	struct mmsghdr messages[4] = {0};

	side_meet(side, "sent");
	settle(side, side->fd, 1000);
	cut(pieces, bytes, (size_t[]){300, 250, 450, 900}, 4);
	for (int i = 0; i < 4; i++)
		messages[i].msg_hdr = (struct msghdr){.msg_iov = &pieces[i], .msg_iovlen = 1};
	observe(side, "recvmmsg of 4", outcome(result, recvmmsg(side->fd, messages, 4, MSG_DONTWAIT, NULL)), "3");
	note(side, "of them: %u, %u, %u, %u bytes", messages[0].msg_len, messages[1].msg_len, messages[2].msg_len, messages[3].msg_len);
	stream_check(side, &stream, bytes, 1000);
	side_meet(side, "read");
}

static void several_messages(struct side *side)
{
	both_ways(side, give_several, take_several);
}

static ssize_t send_with_control(struct side *side, struct stream *stream, int type, uint32_t value)
{
	char bytes[100], control[CMSG_SPACE(sizeof value)] = "";
	struct msghdr message = {
	    .msg_iov = &(struct iovec){bytes, sizeof bytes}, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	*header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof value), .cmsg_level = SOL_SOCKET, .cmsg_type = type};
	memcpy(CMSG_DATA(header), &value, sizeof value);
	content_fill(bytes, sizeof bytes, stream->key, stream->position);
	ssize_t sent = sendmsg(side->fd, &message, 0);
	if (sent > 0)
		stream->position += sent;
	return sent;
}

static void give_control(struct side *side)
{
	struct stream stream = direction(side, true);
	char result[32];

	side_meet(side, "set");
	note(side, "sendmsg() with SO_TIMESTAMPING beside it: %s",
	     outcome(result, send_with_control(side, &stream, SO_TIMESTAMPING, SOF_TIMESTAMPING_TX_SOFTWARE)));
	side_swap(side, "sent", stream.position);
	side_meet(side, "read");
	uint64_t before = stream.position;
	ssize_t unknown = send_with_control(side, &stream, UNKNOWN_CONTROL, 0);
	note(side, "difference control: an unknown control message: %s", outcome(result, unknown));
	expect(side, unknown == 100 || (unknown < 0 && errno == EINVAL), "sendmsg() gives %s", outcome(result, unknown));
	side_swap(side, "sent more", stream.position - before);
}

/* Whether there is a time stamp depends on more than the connection, so only the data and the flags are noted. */
static void take_control(struct side *side)
{
	struct stream stream = direction(side, false);
	char bytes[1000], control[512];

	set_option(side, side->fd, SOL_SOCKET, SO_TIMESTAMP, 1);
	note(side, "SO_TIMESTAMP: %d", get_option(side, side->fd, SOL_SOCKET, SO_TIMESTAMP));
	side_meet(side, "set");
	settle(side, side->fd, side_swap(side, "sent", 0));
	note_message(side, &stream, "recvmsg() with room for control messages",
		     &(struct msghdr){
			 .msg_iov = &(struct iovec){bytes, sizeof bytes}, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control},
		     bytes);
	side_meet(side, "read");
	stream_receive(side, side->fd, &stream, side_swap(side, "sent more", 0));
}

static void control_messages(struct side *side)
{
	both_ways(side, give_control, take_control);
}

const struct exchange vector_exchanges[] = {
    {"vectors", "readv, writev, recvmsg and sendmsg with several buffers", EX_FAST, vectors, vectors},
    {"several-messages", "sendmmsg and recvmmsg", 0, several_messages, several_messages},
    {"control-messages", "sendmsg with control messages; SO_TIMESTAMP", EX_DIFFERS_CONTROL, control_messages, control_messages},
    {0},
};
