/* sendfile, tee and vmsplice. */
#include "endings.h"
#include "pipes.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

#define ROUNDS 60
#define AT_ONCE 16384
#define FILE_SMALL 5000
#define FILE_LARGE (4 << 20)
#define HEADER 50
#define PAGES 65536
#define PAGE_ROUNDS 20

static int make_file(const struct side *side, struct stream stream, size_t size)
{
	int file = memfd_create("file", MFD_CLOEXEC);
	char *bytes = file < 0 || ftruncate(file, size) < 0 ? MAP_FAILED : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

	if (bytes == MAP_FAILED)
		stop(side, "a file in memory: %s", error_name(errno));
	content_fill(bytes, size, stream.key, stream.position);
	munmap(bytes, size);
	return file;
}

static void send_file(struct side *side, struct stream *stream, size_t size)
{
	int file = make_file(side, *stream, size);
	off_t place = 0;

	doing("in sendfile()");
	while (place < (off_t)size) {
		ssize_t sent = sendfile(side->fd, file, &place, size - place);

		if (sent == 0 || (sent < 0 && errno != EAGAIN && errno != EINTR))
			stop(side, "sendfile(): %s", sent == 0 ? "nothing" : error_name(errno));
		if (sent < 0)
			wait_for(side->fd, POLLOUT, -1);
	}
	stream->position += size;
	close(file);
}

static void file_to_socket(struct side *side)
{
	struct stream stream = stream_to(side, !side->role);

	for (int i = 0; i < ROUNDS; i++) {
		stream_send(side, side->fd, &stream, HEADER);
		send_file(side, &stream, FILE_SMALL);
	}
	stream_send(side, side->fd, &stream, HEADER);
	send_file(side, &stream, FILE_LARGE);
}

static void file_from_socket(struct side *side)
{
	struct stream stream = stream_to(side, side->role);

	stream_receive(side, side->fd, &stream, ROUNDS * (HEADER + FILE_SMALL));
	note_stream(side, "stream", &stream);
	stream_receive(side, side->fd, &stream, HEADER + FILE_LARGE);
	note_stream(side, "stream", &stream);
}

static void send_files(struct side *side)
{
	both_ways(side, file_to_socket, file_from_socket);
}

static void tee_to_socket(struct side *side)
{
	struct stream stream = stream_to(side, !side->role), copied = stream;
	struct pipe pipe = make_pipe(side), copy = make_pipe(side);

	for (int i = 0; i < ROUNDS; i++) {
		pipe_fill(side, pipe, &stream, AT_ONCE);
		if (tee(pipe.read, copy.write, AT_ONCE, 0) != AT_ONCE)
			stop(side, "tee() did not copy all");
		splice_out(side, pipe, side->fd, AT_ONCE, 0);
		pipe_check(side, copy, &copied, AT_ONCE);
	}
	note_stream(side, "stream", &copied);
	close_pipe(pipe);
	close_pipe(copy);
}

static void tee_from_socket(struct side *side)
{
	struct stream stream = stream_to(side, side->role), copied = stream;
	struct pipe pipe = make_pipe(side), copy = make_pipe(side);

	for (size_t left = (size_t)ROUNDS * AT_ONCE, got; left > 0; left -= got) {
		got = splice_in(side, side->fd, pipe, left < AT_ONCE ? left : AT_ONCE);
		for (size_t teed = got; teed > 0;) { /* a pipe may be cut into smaller parts than the other one has */
			ssize_t now = tee(pipe.read, copy.write, teed, 0);

			if (now <= 0)
				stop(side, "tee(): %s", now == 0 ? "nothing" : error_name(errno));
			pipe_check(side, pipe, &stream, now);
			pipe_check(side, copy, &copied, now);
			teed -= now;
		}
	}
	note_stream(side, "stream", &stream);
	note_stream(side, "stream", &copied);
	close_pipe(pipe);
	close_pipe(copy);
}

static void tee_both(struct side *side)
{
	both_ways(side, tee_to_socket, tee_from_socket);
}

/* The pages must not change before the other half has read them. */
static void vmsplice_to_socket(struct side *side)
{
	struct stream stream = stream_to(side, !side->role);
	struct pipe pipe = make_pipe(side);
	char *pages = mmap(NULL, PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED)
		stop(side, "mmap(): %s", error_name(errno));
	for (int i = 0; i < PAGE_ROUNDS; i++) {
		content_fill(pages, PAGES, stream.key, stream.position);
		for (size_t done = 0; done < PAGES;) {
			struct iovec part = {pages + done, PAGES - done};
			ssize_t mapped = vmsplice(pipe.write, &part, 1, SPLICE_F_NONBLOCK);

			if (mapped <= 0)
				stop(side, "vmsplice(): %s", error_name(errno));
			splice_out(side, pipe, side->fd, mapped, 0);
			done += mapped;
		}
		stream.position += PAGES;
		side_meet(side, "read");
	}
	munmap(pages, PAGES);
	close_pipe(pipe);
}

static void receive_pages(struct side *side)
{
	struct stream stream = stream_to(side, side->role);

	for (int i = 0; i < PAGE_ROUNDS; i++) {
		stream_receive(side, side->fd, &stream, PAGES);
		side_meet(side, "read");
	}
	note_stream(side, "stream", &stream);
}

static void vmsplice_writer(struct side *side)
{
	both_ways(side, vmsplice_to_socket, receive_pages);
}

const struct exchange file_exchanges[] = {
    {"sendfile", "sendfile, small and large, between calls of send()", EX_FAST, send_files, send_files},
    {"tee", "tee both ways: of what goes to the socket, and of what comes from it", EX_FAST, tee_both, tee_both},
    {"vmsplice", "vmsplice of pages of the program to the socket", EX_FAST, vmsplice_writer, vmsplice_writer},
    {0},
};
