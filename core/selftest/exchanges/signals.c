/* Signals: they end a wait or do not, and they tell of data (O_ASYNC). */
#include "exchange.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#define SOON 2 /* seconds in which a signal must come */
#define ROUNDS 10

static void nothing_to_do(int signal)
{
	(void)signal;
}

static void on_signal(const struct side *side, int number, int flags)
{
	struct sigaction action = {.sa_handler = nothing_to_do, .sa_flags = flags};

	if (sigaction(number, &action, NULL) < 0)
		stop(side, "sigaction(): %s", error_name(errno));
}

/* Interrupts the main thread until it has noticed: the first signal may come before it waits. */
struct interrupter {
	pthread_t target;
	atomic_bool done;
};

static void *interrupt(void *argument)
{
	struct interrupter *interrupter = argument;

	while (!atomic_load(&interrupter->done)) {
		nap(10000);
		pthread_kill(interrupter->target, SIGUSR1);
	}
	return NULL;
}

static void give_when_asked(struct side *side)
{
	struct stream stream = direction(side, true);

	side_meet(side, "interrupted");
	nap(50000);
	stream_send(side, side->fd, &stream, 100);
	side_meet(side, "read");
}

static void take_interrupted(struct side *side)
{
	struct stream stream = direction(side, false);
	struct interrupter interrupter = {.target = pthread_self()};
	pthread_t thread;
	char bytes[100], result[32];

	set_blocking(side, side->fd, true);
	on_signal(side, SIGUSR1, 0);
	if (pthread_create(&thread, NULL, interrupt, &interrupter) != 0)
		stop(side, "pthread_create() failed");
	doing("in a recv() that signals interrupt");
	observe(side, "recv() that a signal interrupts", outcome(result, recv(side->fd, bytes, sizeof bytes, 0)), "EINTR");
	on_signal(side, SIGUSR1, SA_RESTART);
	side_meet(side, "interrupted");
	ssize_t got = recv(side->fd, bytes, sizeof bytes, 0);
	observe(side, "recv() that goes on after signals", outcome(result, got), "100");
	atomic_store(&interrupter.done, true);
	pthread_join(thread, NULL);
	set_blocking(side, side->fd, false);
	stream_check(side, &stream, bytes, got > 0 ? got : 0);
	side_meet(side, "read");
}

static void interrupted(struct side *side)
{
	both_ways(side, give_when_asked, take_interrupted);
}

static void give_each_time(struct side *side)
{
	struct stream stream = direction(side, true);

	for (int round = 0; round < ROUNDS; round++) {
		side_meet(side, "waiting");
		stream_send(side, side->fd, &stream, 100);
	}
	side_meet(side, "read");
}

static void take_told(struct side *side)
{
	struct stream stream = direction(side, false);
	struct timespec limit = {.tv_sec = SOON};
	sigset_t told;
	int flags = fcntl(side->fd, F_GETFL), signals = 0;

	sigemptyset(&told);
	sigaddset(&told, SIGIO);
	sigprocmask(SIG_BLOCK, &told, NULL);
	if (fcntl(side->fd, F_SETOWN, getpid()) < 0 || fcntl(side->fd, F_SETFL, flags | O_ASYNC) < 0)
		stop(side, "fcntl(): %s", error_name(errno));
	for (int round = 0; round < ROUNDS; round++) {
		side_meet(side, "waiting");
		signals += sigtimedwait(&told, NULL, &limit) == SIGIO;
		stream_receive(side, side->fd, &stream, 100);
	}
	observe_number(side, "rounds in which SIGIO told of data", signals, ROUNDS);
	fcntl(side->fd, F_SETFL, flags);
	side_meet(side, "read");
}

static void told_by_signal(struct side *side)
{
	both_ways(side, give_each_time, take_told);
}

const struct exchange signal_exchanges[] = {
    {"interrupted", "signals in a blocking recv(): EINTR, or it goes on", EX_FAST | EX_BLOCKING, interrupted, interrupted},
    {"signal-driven", "O_ASYNC: SIGIO tells of data", 0, told_by_signal, told_by_signal},
    {0},
};
