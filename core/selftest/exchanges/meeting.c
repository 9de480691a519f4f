/* How the two halves meet: a channel of their own, which no interception touches, so that steps come in order without waiting for a time. */
#include "exchange.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct frame {
	char name[56];
	uint64_t number;
};

static void control_name(const char *path, struct sockaddr_storage *name, socklen_t *length)
{
	struct sockaddr_un *unix_name = (struct sockaddr_un *)name;

	memset(name, 0, sizeof *name);
	unix_name->sun_family = AF_UNIX;
	snprintf(unix_name->sun_path, sizeof unix_name->sun_path, "%s", path);
	*length = sizeof *unix_name;
}

int control_listen(const char *path)
{
	struct sockaddr_storage name;
	socklen_t length;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mode_t before = umask(0111); /* the halves may be of different users; who may come there at all is for the directory to say */

	control_name(path, &name, &length);
	unlink(path);
	int failed = fd < 0 || bind(fd, (struct sockaddr *)&name, length) < 0 || listen(fd, 16) < 0;
	umask(before);
	return failed ? -1 : fd;
}

static bool frame_receive(int fd, struct frame *frame)
{
	if (!wait_for(fd, POLLIN, -1))
		return false;
	ssize_t got = recv(fd, frame, sizeof *frame, 0);
	frame->name[sizeof frame->name - 1] = 0;
	return got == sizeof *frame;
}

uint64_t side_swap(struct side *side, const char *name, uint64_t mine)
{
	struct frame ours = {.number = mine}, theirs;

	snprintf(ours.name, sizeof ours.name, "%s", name);
	doing("waiting for the other half at '%s'", name);
	if (send(side->control, &ours, sizeof ours, MSG_NOSIGNAL) < 0 || !frame_receive(side->control, &theirs))
		stop(side, "the other half ended before '%s'", name);
	if (strcmp(ours.name, theirs.name) != 0)
		stop(side, "this half is at '%s' and the other one at '%s'", ours.name, theirs.name);
	doing("going on after '%s'", name);
	return theirs.number;
}

void side_meet(struct side *side, const char *name)
{
	side_swap(side, name, 0);
}

bool side_agree(struct side *side, const char *name, bool mine)
{
	return side_swap(side, name, mine) && mine;
}

/* The client comes again and again until the server has come to the same exchange. */
static void meet_server(struct side *side, const struct frame *ours)
{
	struct sockaddr_storage name;
	socklen_t length;
	struct frame theirs;

	control_name(side->settings->control, &name, &length);
	doing("waiting for the server's half at %s", side->settings->control);
	for (;;) {
		int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

		if (connect(fd, (struct sockaddr *)&name, length) == 0 && send(fd, ours, sizeof *ours, MSG_NOSIGNAL) > 0 &&
		    frame_receive(fd, &theirs) && theirs.number >= ours->number) {
			if (theirs.number > ours->number)
				stop(side, "the server's half has gone on to '%s'", theirs.name);
			if (strcmp(theirs.name, ours->name) != 0)
				stop(side, "the server's half runs '%s': give both halves the same names", theirs.name);
			side->control = fd;
			return;
		}
		close(fd);
		nap(5000);
	}
}

/* A client of a former exchange is sent away; one of a later exchange means that this one is over. */
static void meet_client(struct side *side, int control_listener, const struct frame *ours)
{
	struct frame theirs;

	doing("waiting for the client's half");
	for (;;) {
		wait_for(control_listener, POLLIN, -1);
		int fd = accept4(control_listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			continue;
		if (frame_receive(fd, &theirs) && send(fd, ours, sizeof *ours, MSG_NOSIGNAL) > 0) {
			if (theirs.number > ours->number)
				stop(side, "the client's half has gone on to '%s'", theirs.name);
			if (theirs.number == ours->number && strcmp(theirs.name, ours->name) != 0)
				stop(side, "the client's half runs '%s': give both halves the same names", theirs.name);
			if (theirs.number == ours->number) {
				side->control = fd;
				return;
			}
		}
		close(fd);
	}
}

void meeting_begin(struct side *side, int control_listener, unsigned number, const char *exchange)
{
	struct frame ours = {.number = number};

	snprintf(ours.name, sizeof ours.name, "%s", exchange);
	if (side->control >= 0) /* both halves are children of one process */
		side_swap(side, exchange, number);
	else if (side->role == CLIENT)
		meet_server(side, &ours);
	else
		meet_client(side, control_listener, &ours);
}

void both_ways(struct side *side, void (*give)(struct side *), void (*take)(struct side *))
{
	side->phase = "to server";
	(side->role == CLIENT ? give : take)(side);
	side_meet(side, "turn round");
	side->phase = "to client";
	(side->role == SERVER ? give : take)(side);
	side->phase = NULL;
	side_meet(side, "both ways done");
}
