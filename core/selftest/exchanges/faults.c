/* Buffers that are not the program's, and a reader that has what comes mapped into its memory. */
#include "exchange.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SOME 100
#define HALF 50
#define MAPPED 500

/* Two pages, of which the second one cannot be touched. */
static char *half_a_buffer(const struct side *side, size_t page)
{
	char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED || mprotect(pages + page, page, PROT_NONE) < 0)
		stop(side, "mmap(): %s", error_name(errno));
	return pages;
}

static void give_faulty(struct side *side)
{
	struct stream stream = direction(side, true);
	size_t page = sysconf(_SC_PAGESIZE);
	char *pages = half_a_buffer(side, page), result[32];

	for (size_t readable = 0; readable <= HALF; readable += HALF) {
		ssize_t sent = send(side->fd, pages + page - readable, SOME, MSG_NOSIGNAL);

		note(side, "difference fault: send() with %zu of %d bytes readable: %s", readable, SOME, outcome(result, sent));
		expect(side, sent == 0 || (sent < 0 && errno == EFAULT), "send() from a wrong address gives %s", outcome(result, sent));
	}
	stream_send(side, side->fd, &stream, SOME);
	side_meet(side, "sent");
	munmap(pages, 2 * page);
}

/* Whatever part of it fits, nothing is lost. */
static void take_faulty(struct side *side)
{
	struct stream stream = direction(side, false);
	size_t page = sysconf(_SC_PAGESIZE);
	char *pages = half_a_buffer(side, page), result[32];

	side_meet(side, "sent");
	settle(side, side->fd, SOME);
	ssize_t got = recv(side->fd, pages + page, SOME, 0);
	observe(side, "recv() to a wrong address", outcome(result, got), "EFAULT");
	got = recv(side->fd, pages + page - HALF, SOME, 0);
	note(side, "difference fault: recv() with room for %d of %d bytes: %s", HALF, SOME, outcome(result, got));
	expect(side, got == HALF || (got < 0 && errno == EFAULT), "recv() to a buffer that is too short gives %s", outcome(result, got));
	if (got > 0)
		stream_check(side, &stream, pages + page - HALF, got);
	stream_receive(side, side->fd, &stream, SOME - stream.position);
	note_stream(side, "received", &stream);
	munmap(pages, 2 * page);
}

static void wrong_addresses(struct side *side)
{
	both_ways(side, give_faulty, take_faulty);
}

static void give_mapped(struct side *side)
{
	struct stream stream = direction(side, true);

	stream_send(side, side->fd, &stream, MAPPED);
	side_meet(side, "read");
}

/* The kernel maps whole pages, and says how much is to be read by recv(). */
static void take_mapped(struct side *side)
{
	struct stream stream = direction(side, false);
	size_t page = sysconf(_SC_PAGESIZE);
	void *pages = mmap(NULL, page, PROT_READ, MAP_SHARED, side->fd, 0);
	struct tcp_zerocopy_receive wanted = {.address = (uintptr_t)pages, .length = page};
	socklen_t length = sizeof wanted;

	if (pages == MAP_FAILED)
		stop(side, "mmap() of the socket: %s", error_name(errno));
	settle(side, side->fd, MAPPED);
	if (getsockopt(side->fd, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, &wanted, &length) < 0)
		stop(side, "TCP_ZEROCOPY_RECEIVE: %s", error_name(errno));
	note(side, "difference mapped: %u bytes mapped, %u to read", wanted.length, wanted.recv_skip_hint);
	expect(side, wanted.length == 0 && (wanted.recv_skip_hint == 0 || wanted.recv_skip_hint == MAPPED),
	       "TCP_ZEROCOPY_RECEIVE gives %u bytes, and %u to read", wanted.length, wanted.recv_skip_hint);
	stream_receive(side, side->fd, &stream, MAPPED);
	note_stream(side, "received", &stream);
	side_meet(side, "read");
	munmap(pages, page);
}

static void zerocopy_receive(struct side *side)
{
	both_ways(side, give_mapped, take_mapped);
}

const struct exchange fault_exchanges[] = {
    {"wrong-addresses", "send() and recv() with buffers that are not the program's", EX_DIFFERS_FAULT, wrong_addresses, wrong_addresses},
    {"zerocopy-receive", "TCP_ZEROCOPY_RECEIVE: what comes is mapped, or is to be read", EX_DIFFERS_MAPPED, zerocopy_receive, zerocopy_receive},
    {0},
};
