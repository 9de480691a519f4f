// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel's own account of what programs cost: stats LINK...
 *
 * While it runs, the kernel measures every BPF program (BPF_ENABLE_STATS). For each line of its input it prints one line: run time in nanoseconds and
 * number of runs of the program behind each pinned link, in the order given. It ends with its input.
 */
#include "load.h"

#include <linux/bpf.h>
#include <stdint.h>
#include <sys/syscall.h>

enum { PROGRAMS = 16 };

static int bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static void information(int fd, void *info, unsigned size)
{
	union bpf_attr attr = {.info = {.bpf_fd = fd, .info_len = size, .info = (uintptr_t)info}};

	memset(info, 0, size);
	must(!bpf(BPF_OBJ_GET_INFO_BY_FD, &attr), "BPF_OBJ_GET_INFO_BY_FD");
}

static int program_of(const char *path)
{
	union bpf_attr pin = {.pathname = (uintptr_t)path}, program = {};
	int link = bpf(BPF_OBJ_GET, &pin), fd;
	struct bpf_link_info info;

	must(link >= 0, path);
	information(link, &info, sizeof(info));
	program.prog_id = info.prog_id;
	fd = bpf(BPF_PROG_GET_FD_BY_ID, &program);
	must(fd >= 0, "BPF_PROG_GET_FD_BY_ID");
	close(link);
	return fd;
}

int main(int argc, char **argv)
{
	union bpf_attr attr = {.enable_stats = {.type = BPF_STATS_RUN_TIME}};
	int programs[PROGRAMS], count = argc - 1;

	alarm(LIFETIME); /* nothing of the bench outlives it for long, whatever happens to its parent */
	if (count < 1 || count > PROGRAMS)
		return 2;
	must(bpf(BPF_ENABLE_STATS, &attr) >= 0, "BPF_ENABLE_STATS");
	for (int i = 0; i < count; i++)
		programs[i] = program_of(argv[i + 1]);
	ready();
	for (int c; (c = getchar()) != EOF;) {
		if (c != '\n')
			continue;
		for (int i = 0; i < count; i++) {
			struct bpf_prog_info info;

			information(programs[i], &info, sizeof(info));
			printf("%llu %llu%c", (unsigned long long)info.run_time_ns, (unsigned long long)info.run_cnt, i + 1 < count ? ' ' : '\n');
		}
		fflush(stdout);
	}
	return 0;
}
