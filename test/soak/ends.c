// SPDX-License-Identifier: Apache-2.0
/*
 *   ends serve PORT                           takes what clients have planned
 *   ends load PORT COUNT SEED ADDRESS...      COUNT connections at a time, each to one of the addresses; ends when its standard input has ended and
 * they are complete
 *
 * One line of JSON for each connection that did not end as planned, and the totals every second.
 */
#include "stream.h"

enum { STALLED = 20000, SERVER_STALLED = 30000 }; /* milliseconds: it is the client who tells */

/*
 * What may wait for a server that does not read: three sockets that receive, each with the largest budget of the soak (4 MiB), and the largest
 * buffers of both ends, as test/soak/pods.ts sets them (6 MiB and 4 MiB).
 */
enum { PATIENCE = 3000, GIVES_UP = 6000, MOST_WAITS = 3 * (4 + 6 + 4) << 20 };

static struct stream *streams[MOST];
static struct sockaddr_storage targets[64];
static int target_count;
static uint16_t target_port;
static uint64_t next_seed;

static void report(int open)
{
	printf("{\"open\":%d,\"connections\":%" PRIu64 ",\"complete\":%" PRIu64 ",\"left\":%" PRIu64 ",\"messages\":%" PRIu64 ",\"bytes\":%" PRIu64
	       ",\"wrong\":%" PRIu64 ",\"hangs\":%" PRIu64 ",\"cuts\":%" PRIu64 "}\n",
	       open, totals.connections, totals.complete, totals.left, totals.messages, totals.bytes, totals.wrong, totals.hangs, totals.cuts);
	fflush(stdout);
}

static struct stream *make(int fd, bool client)
{
	struct stream *s = calloc(1, sizeof(*s));

	must(s, "calloc");
	s->fd = fd, s->client = client, s->began = s->moved = now(), s->target = -1;
	totals.connections++;
	return s;
}

/* Talks, transfers, or both at once. */
static void plan(struct stream *s)
{
	bool talks = chance(4) != 0;

	s->plan = (struct plan){.magic = PLAN_MAGIC, .seed = mix(next_seed++)};
	s->plan.rounds = 1 + chance(talks ? 400 : 8);
	s->plan.longest = talks ? 8192 : 1 << (10 + chance(11));
	s->plan.window = chance(3) ? 1 : chance(2) ? 1 + chance(16) : 0;
	if (chance(40) == 0)
		s->plan.stalls = 50 + chance(200), s->plan.rounds = s->plan.stalls + 1, s->plan.window = 1, s->plan.longest = 4096;
	s->leaves_after = !s->plan.stalls && chance(16) == 0 ? 1 + chance(s->plan.rounds) : 0;
	begin_round(s, &s->out, UP);
	begin_round(s, &s->in, DOWN);
}

static struct stream *start(void)
{
	int target = chance(target_count), fd;
	struct sockaddr *to = (struct sockaddr *)&targets[target];
	struct stream *s;
	int small = 4096;

	fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(fd >= 0, "socket");
	prepare(fd);
	if (chance(8) == 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	s = make(fd, true);
	s->target = target, s->connecting = true;
	plan(s);
	if (!connect(fd, to, to->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)) || errno == EINPROGRESS)
		return s;
	tell(s, "connect", errno);
	totals.cuts++;
	close(fd), free(s);
	return NULL;
}

static short wanted(const struct stream *s)
{
	int64_t t = now();
	short events = 0;

	if (s->connecting)
		return POLLOUT;
	if (!s->in.ended && s->in.rests <= t && (s->client || !is_stalled(s, &s->in)))
		events |= POLLIN;
	if (its_turn(s) && !s->out.ended && s->out.rests <= t)
		events |= POLLOUT;
	return events;
}

/* 0: goes on; 1: complete; 2: left as planned; else errno or -1. */
enum { GOES_ON = 0, COMPLETE = 1000, LEFT = 1001, CUT = 1002, GREEDY = 1003 };

static int connected(struct stream *s)
{
	int error = 0;
	socklen_t size = sizeof(error);

	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &size))
		return errno;
	s->connecting = false, s->moved = now();
	return error;
}

/* The server does not read: the client waits as well, and so much of the kernel's memory and no more is used. */
static int endure(struct stream *s)
{
	if (!s->stalled)
		s->stalled = now();
	s->moved = now();
	if (s->waiting > MOST_WAITS)
		return GREEDY;
	return now() - s->stalled > (hurry ? 0 : PATIENCE) ? LEFT : GOES_ON;
}

static int outcome(struct stream *s)
{
	if (s->client && s->leaves_after && s->out.round >= s->leaves_after)
		return LEFT;
	if (s->in.ended && !received_all(s))
		return CUT;
	if (s->client && is_stalled(s, &s->out))
		return endure(s);
	if (s->client)
		return s->in.ended ? COMPLETE : GOES_ON;
	return received_all(s) && sent_all(s) ? COMPLETE : GOES_ON;
}

static int step(struct stream *s, short revents)
{
	int error = 0;

	if (s->connecting)
		return revents ? connected(s) : GOES_ON;
	if (!s->client && s->planned < sizeof(s->plan))
		return !revents ? GOES_ON : read_plan(s) < 0 ? CUT : GOES_ON;
	if (revents & (POLLIN | POLLERR | POLLHUP))
		error = read_some(s);
	if (!error && revents & POLLOUT) {
		if (s->client && sent_all(s)) {
			s->out.ended = true;
			if (shutdown(s->fd, SHUT_WR))
				return errno;
		} else {
			error = write_some(s);
		}
	}
	return error ? error : outcome(s);
}

/* The stream goes. */
static void finish(struct stream *s, int how)
{
	bool known = how == COMPLETE || how == LEFT;

	totals.complete += how == COMPLETE, totals.left += how == LEFT;
	totals.wrong += how == -1, totals.hangs += how == ETIME, totals.cuts += !known && how != -1 && how != ETIME;
	/* A server cannot tell a client that leaves from one that was cut off: the client does. */
	if (!known && (s->client || how == -1))
		tell(s, how == -1 ? "wrong" : how == ETIME ? "hang" : how == GREEDY ? "memory" : "cut", how);
	if (how == LEFT && chance(2))
		slam(s->fd);
	else
		close(s->fd);
	free(s);
}

static int longest_pause(const struct stream *s)
{
	return s->client ? STALLED : is_stalled(s, &s->in) ? GIVES_UP : SERVER_STALLED;
}

static int watch(struct pollfd *polled, int *slots, int first)
{
	int count = 0;

	for (int i = 0; i < MOST; i++) {
		if (!streams[i])
			continue;
		short events = wanted(streams[i]);

		polled[first + count] = (struct pollfd){.fd = events ? streams[i]->fd : -1, .events = events};
		slots[count++] = i;
	}
	must(poll(polled, first + count, 20) >= 0 || errno == EINTR, "poll");
	for (int i = 0; i < count; i++) {
		struct stream *s = streams[slots[i]];
		int how = step(s, polled[first + i].revents);

		if (how == GOES_ON && now() - s->moved > longest_pause(s))
			how = s->client ? ETIME : CUT;
		if (how == GOES_ON)
			continue;
		finish(s, how);
		streams[slots[i]] = NULL;
	}
	return count;
}

static void accept_some(int listening)
{
	for (int i = 0; i < MOST; i++) {
		if (streams[i])
			continue;
		int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			return;
		prepare(fd);
		streams[i] = make(fd, false);
	}
}

static void read_targets(char **texts, int count)
{
	must(count > 0 && count <= 64, "addresses");
	for (target_count = 0; target_count < count; target_count++) {
		struct sockaddr_in *four = (struct sockaddr_in *)&targets[target_count];
		struct sockaddr_in6 *six = (struct sockaddr_in6 *)&targets[target_count];
		bool is_six = strchr(texts[target_count], ':');

		if (is_six)
			six->sin6_family = AF_INET6, six->sin6_port = htons(target_port);
		else
			four->sin_family = AF_INET, four->sin_port = htons(target_port);
		must(inet_pton(is_six ? AF_INET6 : AF_INET, texts[target_count], is_six ? (void *)&six->sin6_addr : (void *)&four->sin_addr) == 1,
		     "address");
	}
}

int main(int argc, char **argv)
{
	static struct pollfd polled[1 + MOST];
	static int slots[MOST];
	bool client = argc > 5 && !strcmp(argv[1], "load");
	int wanted_count = client ? atoi(argv[3]) : 0, listening = -1;
	int64_t reported = 0;

	must(client || (argc == 3 && !strcmp(argv[1], "serve")), "usage");
	target_port = atoi(argv[2]);
	next_seed = client ? mix(strtoull(argv[4], NULL, 10)) : 0, chance_state = next_seed ^ getpid();
	if (client)
		read_targets(argv + 5, argc - 5);
	else
		listening = listener(target_port);
	puts("ready");
	polled[0] = (struct pollfd){.fd = client ? 0 : listening, .events = POLLIN};
	for (;;) {
		int open = watch(polled, slots, 1);

		if (now() - reported >= 1000)
			report(open), reported = now();
		if (!client) {
			if (polled[0].revents)
				accept_some(listening);
			continue;
		}
		if (polled[0].revents)
			hurry = true, polled[0].fd = -1;
		if (hurry && open == 0) {
			report(0);
			return 0;
		}
		for (int i = 0; i < wanted_count && !hurry; i++)
			if (!streams[i] && chance(8) == 0)
				streams[i] = start();
	}
}
