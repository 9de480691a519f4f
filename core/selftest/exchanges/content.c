/* Content, checksums and chance, all from seeds. */
#include "exchange.h"
#include <stdlib.h>
#include <string.h>

#define PIECE 65536

static uint64_t mix(uint64_t value)
{
	value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
	value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
	return value ^ (value >> 31);
}

uint64_t random_next(uint64_t *state)
{
	return mix(*state += 0x9e3779b97f4a7c15);
}

uint64_t random_below(uint64_t *state, uint64_t limit)
{
	return random_next(state) % limit;
}

/* Eight bytes of a stream, which begin at 8 * word. */
static uint64_t content_word(uint64_t key, uint64_t word)
{
	return mix(key ^ (word * 0x9e3779b97f4a7c15));
}

void content_fill(void *to, size_t size, uint64_t key, uint64_t position)
{
	char *bytes = to;

	for (size_t done = 0; done < size;) {
		uint64_t word = content_word(key, (position + done) / 8);
		size_t from = (position + done) % 8, count = 8 - from < size - done ? 8 - from : size - done;

		memcpy(bytes + done, (char *)&word + from, count);
		done += count;
	}
}

size_t content_right(const void *got, size_t size, uint64_t key, uint64_t position)
{
	const char *bytes = got;

	for (size_t done = 0; done < size;) {
		uint64_t word = content_word(key, (position + done) / 8);
		size_t from = (position + done) % 8, count = 8 - from < size - done ? 8 - from : size - done;

		if (memcmp(bytes + done, (char *)&word + from, count) != 0) {
			while (bytes[done] == ((char *)&word)[from])
				done++, from++;
			return done;
		}
		done += count;
	}
	return size;
}

uint64_t checksum(uint64_t before, const void *from, size_t size)
{
	const unsigned char *bytes = from;

	for (size_t i = 0; i < size; i++)
		before = (before ^ bytes[i]) * 0x100000001b3;
	return before;
}

struct stream stream_to(const struct side *side, enum role reader)
{
	return (struct stream){.key = mix(side->seed + 1 + reader), .sum = 0xcbf29ce484222325};
}

/* The reader of the direction that both_ways() has come to. */
struct stream direction(const struct side *side, bool giving)
{
	return stream_to(side, giving == (side->role == CLIENT) ? SERVER : CLIENT);
}

void note_stream(const struct side *side, const char *what, const struct stream *stream)
{
	note(side, "%s: %llu bytes, checksum %016llx", what, (unsigned long long)stream->position, (unsigned long long)stream->sum);
}

void stream_send(const struct side *side, int fd, struct stream *stream, size_t size)
{
	char bytes[PIECE];

	while (size > 0) {
		size_t count = size < PIECE ? size : PIECE;

		content_fill(bytes, count, stream->key, stream->position);
		send_all(side, fd, bytes, count);
		stream->sum = checksum(stream->sum, bytes, count);
		stream->position += count;
		size -= count;
	}
}

void stream_check(const struct side *side, struct stream *stream, const void *bytes, size_t size)
{
	size_t right = content_right(bytes, size, stream->key, stream->position);

	if (right < size)
		stop(side, "the byte at %llu of the stream is wrong", (unsigned long long)(stream->position + right));
	stream->sum = checksum(stream->sum, bytes, size);
	stream->position += size;
}

void stream_receive(const struct side *side, int fd, struct stream *stream, size_t size)
{
	char bytes[PIECE];

	while (size > 0) {
		size_t count = size < PIECE ? size : PIECE;

		receive_all(side, fd, bytes, count);
		stream_check(side, stream, bytes, count);
		size -= count;
	}
}
