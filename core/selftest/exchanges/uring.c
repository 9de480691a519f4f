/* io_uring, without a library: the few operations that programs use with sockets. */
#include "exchange.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/io_uring.h>

#define ENTRIES 8
#define ROUNDS 50

struct ring {
	int fd;
	unsigned *submission_tail, *submission_mask, *submission_array;
	unsigned *completion_head, *completion_tail, *completion_mask;
	struct io_uring_sqe *submissions;
	struct io_uring_cqe *completions;
};

static void *map_ring(const struct side *side, int fd, size_t size, uint64_t offset)
{
	void *mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset);

	if (mapped == MAP_FAILED)
		stop(side, "mmap() of the ring: %s", error_name(errno));
	return mapped;
}

/* Both halves run on the same kernel; a sandbox may still forbid it to one of them. */
static void open_ring(struct side *side, struct ring *ring)
{
	struct io_uring_params parameters = {0};

	ring->fd = syscall(SYS_io_uring_setup, ENTRIES, &parameters);
	int error = ring->fd < 0 ? errno : 0;
	if (!side_agree(side, "io_uring", ring->fd >= 0))
		skip(side, "io_uring_setup(): %s", error ? error_name(error) : "not for the other half");
	char *submission = map_ring(side, ring->fd, parameters.sq_off.array + ENTRIES * 2 * sizeof(unsigned), IORING_OFF_SQ_RING);
	char *completion = map_ring(side, ring->fd, parameters.cq_off.cqes + ENTRIES * 4 * sizeof(struct io_uring_cqe), IORING_OFF_CQ_RING);

	ring->submission_tail = (unsigned *)(submission + parameters.sq_off.tail);
	ring->submission_mask = (unsigned *)(submission + parameters.sq_off.ring_mask);
	ring->submission_array = (unsigned *)(submission + parameters.sq_off.array);
	ring->completion_head = (unsigned *)(completion + parameters.cq_off.head);
	ring->completion_tail = (unsigned *)(completion + parameters.cq_off.tail);
	ring->completion_mask = (unsigned *)(completion + parameters.cq_off.ring_mask);
	ring->completions = (struct io_uring_cqe *)(completion + parameters.cq_off.cqes);
	ring->submissions = map_ring(side, ring->fd, ENTRIES * 2 * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
}

static void submit(const struct side *side, struct ring *ring, struct io_uring_sqe request)
{
	unsigned tail = *ring->submission_tail, index = tail & *ring->submission_mask;

	ring->submissions[index] = request;
	ring->submission_array[index] = index;
	__atomic_store_n(ring->submission_tail, tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring->fd, 1, 0, 0, NULL, 0) != 1)
		stop(side, "io_uring_enter(): %s", error_name(errno));
}

static int completed(struct ring *ring)
{
	unsigned head = *ring->completion_head;

	while (head == __atomic_load_n(ring->completion_tail, __ATOMIC_ACQUIRE))
		syscall(SYS_io_uring_enter, ring->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0);
	int result = ring->completions[head & *ring->completion_mask].res;
	__atomic_store_n(ring->completion_head, head + 1, __ATOMIC_RELEASE);
	return result;
}

static struct io_uring_sqe request(const struct side *side, int operation, void *bytes, unsigned size, int flags)
{
	return (struct io_uring_sqe){.opcode = operation, .fd = side->fd, .addr = (uintptr_t)bytes, .len = size, .msg_flags = flags};
}

static int ring_do(const struct side *side, struct ring *ring, struct io_uring_sqe what)
{
	submit(side, ring, what);
	return completed(ring);
}

static const char *ring_outcome(char text[32], int result)
{
	errno = result < 0 ? -result : 0;
	return outcome(text, result < 0 ? -1 : result);
}

static void ring_send(struct side *side, struct ring *ring, struct stream *stream, size_t size)
{
	char bytes[4000];

	content_fill(bytes, size, stream->key, stream->position);
	int sent = ring_do(side, ring, request(side, IORING_OP_SEND, bytes, size, 0));
	expect(side, sent == (int)size, "IORING_OP_SEND of %zu bytes gives %d", size, sent);
	stream->position += size;
}

static void ring_receive(struct side *side, struct ring *ring, struct stream *stream, size_t size)
{
	char bytes[4000];

	while (size > 0) {
		struct io_uring_sqe poll = request(side, IORING_OP_POLL_ADD, NULL, 0, 0);

		poll.poll32_events = POLLIN;
		int ready = ring_do(side, ring, poll);
		expect(side, ready > 0 && (ready & POLLIN), "IORING_OP_POLL_ADD gives %d", ready);
		int got = ring_do(side, ring, request(side, IORING_OP_RECV, bytes, size, 0));
		if (got <= 0)
			stop(side, "IORING_OP_RECV after a poll gives %d", got);
		stream_check(side, stream, bytes, got);
		size -= got;
	}
}

static void uring(struct side *side)
{
	struct stream up = stream_to(side, SERVER), down = stream_to(side, CLIENT);
	struct ring ring;
	char byte, result[32];

	open_ring(side, &ring);
	note(side, "IORING_OP_RECV of nothing, MSG_DONTWAIT: %s",
	     ring_outcome(result, ring_do(side, &ring, request(side, IORING_OP_RECV, &byte, 1, MSG_DONTWAIT))));
	side_meet(side, "begin");
	doing("exchanging through io_uring");
	for (int round = 0; round < ROUNDS; round++)
		if (side->role == CLIENT) {
			ring_send(side, &ring, &up, 1000 + round);
			ring_receive(side, &ring, &down, 3000 + round);
		} else {
			ring_receive(side, &ring, &up, 1000 + round);
			ring_send(side, &ring, &down, 3000 + round);
		}
	note(side, "requests %llu bytes, responses %llu bytes", (unsigned long long)up.position, (unsigned long long)down.position);
}

static void give_to_ring(struct side *side)
{
	struct stream stream = direction(side, true);

	for (int round = 0; round < ROUNDS; round++) {
		side_meet(side, "waiting");
		nap(round % 3 * 500);
		stream_send(side, side->fd, &stream, 200);
	}
	note_stream(side, "sent", &stream);
}

static struct ring waiting_ring;

/* The operation is under way before the data comes. */
static void take_waiting(struct side *side)
{
	struct stream stream = direction(side, false);
	char bytes[200], result[32];

	set_blocking(side, side->fd, true);
	for (int round = 0; round < ROUNDS; round++) {
		submit(side, &waiting_ring, request(side, IORING_OP_RECV, bytes, sizeof bytes, 0));
		side_meet(side, "waiting");
		int got = completed(&waiting_ring);
		if (got != 200)
			stop(side, "IORING_OP_RECV that waited gives %s", ring_outcome(result, got));
		stream_check(side, &stream, bytes, got);
	}
	set_blocking(side, side->fd, false);
	note_stream(side, "received", &stream);
}

static void uring_blocking(struct side *side)
{
	open_ring(side, &waiting_ring);
	both_ways(side, give_to_ring, take_waiting);
}

const struct exchange uring_exchanges[] = {
    {"io-uring", "io_uring: send, poll and recv", 0, uring, uring},
    {"io-uring-waiting", "io_uring: a recv that is under way before the data comes", EX_BLOCKING, uring_blocking, uring_blocking},
    {0},
};
