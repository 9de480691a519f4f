/* `exchanges apart ...`: what follows runs in a network namespace of its own, which has loopback alone, and not before the process that started this
 * one has said go: it puts this process into a cgroup first. The namespace ends with the process, and the process with the one that started it. */
#include "apart.h"
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static noreturn void give_up(const char *what)
{
	fprintf(stderr, "exchanges: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void raise_loopback(void)
{
	struct ifreq request = {.ifr_name = "lo"};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request) < 0)
		give_up("the loopback interface");
	request.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		give_up("raising the loopback interface");
	close(fd);
}

void go_apart(void)
{
	char go;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (unshare(CLONE_NEWNET) < 0)
		give_up("a network namespace");
	raise_loopback();
	printf("apart\n");
	fflush(stdout);
	if (read(STDIN_FILENO, &go, 1) != 1)
		exit(2);
}
