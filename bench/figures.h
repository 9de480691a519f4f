/* SPDX-License-Identifier: Apache-2.0 */
/* What clients that put load on something report: how long each exchange took, how many there were, and what processor time all of it cost. */
#ifndef MERBRIDGE_BENCH_FIGURES_H
#define MERBRIDGE_BENCH_FIGURES_H

#include "load.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>

/* Milliseconds in which nothing happens, after which a client or server gives up: something is stuck. */
enum { STUCK = 10000 };

/* Milliseconds for which a connection talks before it is measured: acceleration takes one when it has shown how it is used. */
enum { WARM = 200 };

struct samples {
	long long times[LIMIT];
	int count;
};

static inline void add_sample(struct samples *samples, long long time)
{
	if (samples->count < LIMIT)
		samples->times[samples->count++] = time;
}

static inline int by_value(const void *a, const void *b)
{
	long long left = *(const long long *)a, right = *(const long long *)b;

	return (left > right) - (left < right);
}

/* Nearest rank; the times are in order. */
static inline long long rank(const struct samples *samples, double fraction)
{
	int index = samples->count * fraction;

	return samples->times[index < samples->count ? index : samples->count - 1];
}

/* Nanoseconds in one file: cpu.stat of a cgroup ("usage_usec N"), or schedstat of a thread ("N ..."). */
static inline long long nanoseconds_in(const char *path)
{
	FILE *file = fopen(path, "r");
	long long number = 0;
	int in_microseconds;

	must(file != NULL, path);
	in_microseconds = fscanf(file, "usage_usec %lld", &number) == 1;
	if (!in_microseconds)
		must(fscanf(file, "%lld", &number) == 1, path);
	fclose(file);
	return in_microseconds ? number * 1000 : number;
}

/* Processor time so far: the sum of files separated by commas. */
static inline long long processor_time(const char *paths)
{
	long long sum = 0;
	char copy[4096], *rest = copy;

	snprintf(copy, sizeof(copy), "%s", paths);
	for (char *path; (path = strsep(&rest, ",")) != NULL;)
		sum += nanoseconds_in(path);
	return sum;
}

/* One line of JSON: times in nanoseconds, rate per second, processor time in nanoseconds for each unit. */
static inline void report(struct samples *samples, double units, long long elapsed, long long cpu)
{
	if (units <= 0 || elapsed <= 0) {
		fprintf(stderr, "nothing was done\n");
		exit(1);
	}
	printf("{");
	if (samples && samples->count > 0) {
		qsort(samples->times, samples->count, sizeof(samples->times[0]), by_value);
		printf("\"p50\": %lld, \"p99\": %lld, ", rank(samples, 0.5), rank(samples, 0.99));
	}
	printf("\"rate\": %.3f, \"cpu\": %.1f}\n", units * 1e9 / elapsed, cpu / units);
}

static inline void non_blocking(int fd)
{
	must(!fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), "O_NONBLOCK");
}

static inline int watched(int poll, int fd, unsigned events, void *data)
{
	struct epoll_event event = {.events = events, .data.ptr = data};

	return epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
}

#endif
