/* Runs one exchange: a process for each half that this program has, so that an exchange may crash, hang or lose its descriptors without harm to the
 * others; and prints a line of JSON for each half. */
#include "run.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "transcript.h"

static const char *const role_names[] = {"client", "server"};
static struct side half; /* of this process, for the signal handler */

static void timed_out(int signal)
{
	(void)signal;
	stop(&half, "no end within %u s, while %s", half.settings->timeout, doing_now);
}

/* What a former exchange left in the queue is not for this one. */
static void drop_waiting(int listener)
{
	int fd;

	while ((fd = accept(listener, NULL, NULL)) >= 0)
		close(fd);
}

static noreturn void run_half(const struct runner *runner, const struct exchange *exchange, enum role role, int record, int control)
{
	long uid = runner->settings.uid[role];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);
	half = (struct side){.fd = -1,
			     .role = role,
			     .seed = runner->settings.seed,
			     .settings = &runner->settings,
			     .control = control,
			     .record = record,
			     .listener = role == SERVER ? runner->listener : -1};
	signal(SIGALRM, timed_out);
	signal(SIGPIPE, SIG_DFL);
	alarm(runner->settings.timeout);
	if (uid >= 0 && (setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0))
		stop(&half, "user %ld: %s", uid, error_name(errno));
	if (role == SERVER)
		drop_waiting(runner->listener);
	meeting_begin(&half, runner->control_listener, runner->number, exchange->name);
	if (!(exchange->flags & EX_OWN_START)) {
		half.fd = role == CLIENT ? side_connect_another(&half) : side_accept_another(&half);
		set_option(&half, half.fd, IPPROTO_TCP, TCP_NODELAY, !(exchange->flags & EX_NAGLE));
		/* A program that uses blocking sockets does so from the beginning. */
		set_blocking(&half, half.fd, exchange->flags & EX_BLOCKING);
		warm_up(&half, half.fd);
		keep_warm(&half, half.fd);
	}
	doing("in the exchange");
	(role == CLIENT ? exchange->client : exchange->server)(&half);
	side_meet(&half, "end");
	_exit(0);
}

static void print_text(const char *text, size_t length)
{
	putchar('"');
	for (size_t i = 0; i < length; i++)
		if (text[i] == '"' || text[i] == '\\')
			printf("\\%c", text[i]);
		else if ((unsigned char)text[i] < 32 || (unsigned char)text[i] > 126)
			printf("\\u%04x", (unsigned char)text[i]);
		else
			putchar(text[i]);
	putchar('"');
}

/* Prints the lines of one kind as the members of an array; gives their number. */
static unsigned print_lines(const char *records, size_t size, char kind)
{
	unsigned count = 0;

	for (const char *line = records, *end; line < records + size; line = end + 1) {
		end = memchr(line, '\n', records + size - line);
		if (!end)
			break;
		if (*line != kind)
			continue;
		if (count++)
			putchar(',');
		print_text(line + 1, end - line - 1);
	}
	return count;
}

static bool print_half(const struct exchange *exchange, enum role role, int record, int status, int64_t us)
{
	struct stat information;
	unsigned failures;
	bool died = !WIFEXITED(status) || (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != EXIT_STOPPED);

	if (fstat(record, &information) < 0)
		information.st_size = 0;
	char *records = information.st_size > 0 ? mmap(NULL, information.st_size, PROT_READ, MAP_PRIVATE, record, 0) : "";
	if (records == MAP_FAILED)
		return false;
	printf("{\"name\":\"%s\",\"side\":\"%s\",\"transcript\":[", exchange->name, role_names[role]);
	print_lines(records, information.st_size, RECORD_NOTE);
	printf("],\"failures\":[");
	failures = print_lines(records, information.st_size, RECORD_FAILURE);
	if (died)
		printf("%s\"the half ended with %s %d\"", failures ? "," : "", WIFSIGNALED(status) ? "signal" : "status",
		       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	printf("],\"skipped\":[");
	print_lines(records, information.st_size, RECORD_SKIP);
	bool pass = !died && failures == 0 && WEXITSTATUS(status) == 0;
	printf("],\"pass\":%s,\"ms\":%lld}\n", pass ? "true" : "false", (long long)us / 1000);
	fflush(stdout);
	if (information.st_size > 0)
		munmap(records, information.st_size);
	return pass;
}

bool run_exchange(struct runner *runner, const struct exchange *exchange)
{
	pid_t pids[2] = {0, 0};
	int records[2], control[2] = {-1, -1};
	int64_t begin = now_us();
	bool pass = true;

	runner->number++;
	if (runner->roles[CLIENT] && runner->roles[SERVER] && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) < 0)
		return false;
	for (int role = CLIENT; role <= SERVER; role++) {
		if (!runner->roles[role])
			continue;
		records[role] = memfd_create("transcript", MFD_CLOEXEC);
		pids[role] = fork();
		if (pids[role] == 0) {
			if (control[1 - role] >= 0)
				close(control[1 - role]);
			run_half(runner, exchange, role, records[role], control[role]);
		}
		if (records[role] < 0 || pids[role] < 0)
			return false;
	}
	for (int role = CLIENT; role <= SERVER; role++)
		if (control[role] >= 0)
			close(control[role]);
	for (int role = CLIENT; role <= SERVER; role++) {
		int status = 0;

		if (!runner->roles[role])
			continue;
		while (waitpid(pids[role], &status, 0) < 0 && errno == EINTR)
			;
		kill(-pids[role], SIGKILL); /* what the half has started and left */
		pass = print_half(exchange, role, records[role], status, now_us() - begin) && pass;
		close(records[role]);
	}
	return pass;
}
