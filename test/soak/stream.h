// SPDX-License-Identifier: Apache-2.0
/*
 * One end of a connection of the soak. The client says first what will happen (struct plan); from then on both ends know the size of each message and
 * every byte of it. Both read and write at the same time, in pieces and with pauses of their own.
 */
#ifndef STREAM_H
#define STREAM_H

#include "soak.h"

#define PLAN_MAGIC 0x736f616b706c616eULL

/* The first bytes of the client. */
struct plan {
	uint64_t magic;
	uint64_t seed;
	uint32_t rounds; /* messages of each direction */
	uint32_t window; /* so many requests may be without their answer; 0: nobody waits for anybody */
	uint32_t longest;
	uint32_t stalls; /* the server does not read any more from this message on, which never ends; 0: it always reads */
};

enum { UP = 0, DOWN = 1, ENDLESS = 1 << 30 };

struct flow {
	uint32_t round; /* messages that are complete */
	uint32_t left;	/* bytes of the current one */
	uint64_t at;	/* bytes so far */
	bool ended;	/* shut down, or its end was read */
	int64_t rests;	/* until then */
};

struct stream {
	int fd;
	bool client;
	bool connecting;
	struct plan plan;
	uint32_t planned; /* bytes of the plan that are sent or read */
	struct flow in, out;
	int64_t began, moved;
	uint32_t leaves_after; /* rounds after which a rude client goes; 0: it stays */
	int target;	       /* of the client */
	int64_t stalled;       /* since then the server does not read */
	uint64_t waiting;      /* bytes that were sent since */
};

struct totals {
	uint64_t connections, complete, left, messages, bytes, wrong, hangs, cuts;
};

static struct totals totals;
static bool hurry; /* no pauses any more */

static inline int direction_in(const struct stream *s)
{
	return s->client ? DOWN : UP;
}

static inline bool is_stalled(const struct stream *s, const struct flow *flow)
{
	return s->plan.stalls && flow->round >= s->plan.stalls;
}

/* 1 .. longest; most messages are small. */
static inline uint32_t message_size(const struct plan *plan, int direction, uint32_t round)
{
	uint64_t r = mix(plan->seed + 2 * round + direction);
	uint32_t most = r % 4 == 0 ? plan->longest : r % 4 == 1 ? 4096 : 200;

	if (plan->stalls && direction == UP && round >= plan->stalls)
		return ENDLESS;

	return 1 + (r >> 8) % (most < plan->longest ? most : plan->longest);
}

static inline uint64_t seed_of(const struct plan *plan, int direction)
{
	return mix(plan->seed ^ (direction + 1));
}

static inline void begin_round(struct stream *s, struct flow *flow, int direction)
{
	flow->left = flow->round < s->plan.rounds ? message_size(&s->plan, direction, flow->round) : 0;
}

static inline bool received_all(const struct stream *s)
{
	return s->planned == sizeof(s->plan) && s->in.round == s->plan.rounds;
}

static inline bool sent_all(const struct stream *s)
{
	return s->planned == sizeof(s->plan) && s->out.round == s->plan.rounds;
}

/* What the other end must have sent before the next message goes. */
static inline bool its_turn(const struct stream *s)
{
	uint32_t window = s->plan.window;

	if (s->planned < sizeof(s->plan))
		return s->client;
	if (s->out.round == s->plan.rounds)
		return s->client && !s->out.ended;
	if (window == 0)
		return true;
	return s->client ? s->out.round < s->in.round + window : s->out.round < s->in.round;
}

static inline void rest(struct flow *flow, uint64_t one_in, uint64_t longest)
{
	if (!hurry && chance(one_in) == 0)
		flow->rests = now() + 1 + chance(longest);
}

/* A line for the one who judges: what happened to which connection, and when. */
static inline void tell(const struct stream *s, const char *problem, int error)
{
	printf("{\"problem\":\"%s\",\"error\":%d,\"began\":%" PRId64 ",\"moved\":%" PRId64 ",\"at\":%" PRId64
	       ",\"target\":%d,\"client\":%s,\"in\":[%u,%" PRIu64 "],\"out\":[%u,%" PRIu64 "],\"plan\":[\"%" PRIu64 "\",%u,%u,%u]}\n",
	       problem, error, s->began, s->moved, now(), s->target, s->client ? "true" : "false", s->in.round, s->in.at, s->out.round, s->out.at,
	       s->plan.seed, s->plan.rounds, s->plan.window, s->plan.longest);
	fflush(stdout);
}

/* Bytes came. false: they are not what was sent. */
static inline bool take(struct stream *s, const uint8_t *data, size_t size)
{
	int direction = direction_in(s);

	while (size > 0) {
		size_t part = size < s->in.left ? size : s->in.left;

		if (part == 0 || wrong_at(data, part, seed_of(&s->plan, direction), s->in.at) < part)
			return false;
		data += part, size -= part;
		s->in.at += part, s->in.left -= part;
		totals.bytes += part;
		if (s->in.left > 0)
			break;
		s->in.round++, totals.messages++;
		begin_round(s, &s->in, direction);
	}
	return true;
}

/* One of the ways to read. */
static inline ssize_t read_somehow(int fd, uint8_t *to, size_t size)
{
	struct iovec parts[2] = {{to, size / 3}, {to + size / 3, size - size / 3}};

	switch (chance(8)) {
	case 0:
		return readv(fd, parts, 2);
	case 1:
		return read(fd, to, size);
	case 2:
		if (recv(fd, to, 1 + chance(size), MSG_PEEK) <= 0)
			return recv(fd, to, size, 0);
		/* fallthrough */
	default:
		return recv(fd, to, size, 0);
	}
}

/* The server's: the rest of the plan. 1: there; 0: not yet; -1: no such plan, or an end. */
static inline int read_plan(struct stream *s)
{
	ssize_t got = recv(s->fd, (uint8_t *)&s->plan + s->planned, sizeof(s->plan) - s->planned, 0);

	if (got <= 0)
		return got < 0 && again() ? 0 : -1;
	s->planned += got, s->moved = now();
	if (s->planned < sizeof(s->plan))
		return 0;
	if (s->plan.magic != PLAN_MAGIC)
		return -1;
	begin_round(s, &s->in, UP);
	begin_round(s, &s->out, DOWN);
	return 1;
}

/* 0: as it should be; else errno, or -1 for wrong bytes. */
static inline int read_some(struct stream *s)
{
	static uint8_t data[CHUNK];
	ssize_t got = read_somehow(s->fd, data, 1 + chance(chance(4) ? 4096 : sizeof(data)));

	if (got < 0)
		return again() ? 0 : errno;
	s->moved = now();
	if (got == 0) {
		s->in.ended = true;
		return 0;
	}
	if (!take(s, data, got))
		return -1;
	rest(&s->in, 64, chance(16) ? 150 : 1500);
	return 0;
}

static inline int write_some(struct stream *s)
{
	static uint8_t data[CHUNK];
	size_t size = s->out.left;
	ssize_t sent;

	if (s->planned < sizeof(s->plan)) {
		sent = send(s->fd, (uint8_t *)&s->plan + s->planned, sizeof(s->plan) - s->planned, MSG_NOSIGNAL);
		if (sent < 0)
			return again() ? 0 : errno;
		s->planned += sent, s->moved = now();
		return 0;
	}
	if (size > sizeof(data))
		size = sizeof(data);
	if (chance(4) == 0 && !is_stalled(s, &s->out))
		size = 1 + chance(size);
	fill(data, size, seed_of(&s->plan, !direction_in(s)), s->out.at);
	sent = send(s->fd, data, size, MSG_NOSIGNAL);
	if (sent < 0)
		return again() ? 0 : errno;
	s->moved = now();
	s->out.at += sent, s->out.left -= sent;
	s->waiting += s->stalled ? sent : 0;
	if (s->out.left > 0)
		return 0;
	s->out.round++;
	begin_round(s, &s->out, !direction_in(s));
	rest(&s->out, 32, 300);
	return 0;
}

#endif
