// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tcp_rcv_space_adjust, a tracepoint in every read of TCP's queue, in the reader's own context: how does this socket read, and which program is it?
 * Only a receiver that copies (recv and the like) sees what is redirected; splice() looks at TCP's queue alone.
 */
#include "sockets.bpf.h"

#define PF_IO_WORKER 0x10
#define SETTLED 2 /* reads: a connection that ends sooner is not worth a look */

/*
 * System calls that take bytes from TCP's queue alone: splice, tee, and getsockopt(TCP_ZEROCOPY_RECEIVE). asm-generic numbers them as arm64 does;
 * those of 32-bit programs mean nothing that reads a socket to 64-bit ones.
 */
enum taking_call {
	X86_SPLICE = 275,
	X86_TEE = 276,
	X86_GETSOCKOPT = 55,
	I386_SPLICE = 313,
	I386_TEE = 315,
	I386_GETSOCKOPT = 365,
	ARM64_SPLICE = 76,
	ARM64_TEE = 77,
	ARM64_GETSOCKOPT = 209,
	ARM_SPLICE = 340,
	ARM_TEE = 342,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct super_block {
	__u32 s_dev;
};

struct inode {
	__u64 i_ino;
	struct super_block *i_sb;
};

struct file___program {
	struct inode *f_inode;
};

struct mm_struct {
	struct file___program *exe_file;
};

struct task_struct {
	struct mm_struct *mm;
	struct task_struct *group_leader;
	int tgid;
	__u64 start_boottime;
	__u32 flags;
};

struct pt_regs___x86 {
	unsigned long orig_ax;
};

struct pt_regs___arm64 {
	int syscallno;
};
#pragma clang attribute pop

/*
 * The system call that reads. io_uring does splice() in threads of its own and recv() mostly not: there it is taken for the worse.
 */
static __always_inline int is_splicing(struct task_struct *task)
{
	void *registers = (void *)bpf_task_pt_regs(task);

	if (task->flags & PF_IO_WORKER)
		return 1;
	if (bpf_core_field_exists(((struct pt_regs___x86 *)0)->orig_ax)) {
		unsigned long number = BPF_CORE_READ((struct pt_regs___x86 *)registers, orig_ax);

		return number == X86_SPLICE || number == X86_TEE || number == X86_GETSOCKOPT || number == I386_SPLICE || number == I386_TEE ||
		       number == I386_GETSOCKOPT;
	}
	if (bpf_core_field_exists(((struct pt_regs___arm64 *)0)->syscallno)) {
		int number = BPF_CORE_READ((struct pt_regs___arm64 *)registers, syscallno);

		return number == ARM64_SPLICE || number == ARM64_TEE || number == ARM64_GETSOCKOPT || number == ARM_SPLICE || number == ARM_TEE;
	}
	return 1;
}

static __always_inline void read_program(struct task_struct *task, struct program_key *key)
{
	struct inode *inode = BPF_CORE_READ(task, mm, exe_file, f_inode);

	key->inode = BPF_CORE_READ(inode, i_ino);
	key->device = BPF_CORE_READ(inode, i_sb, s_dev);
}

static __always_inline void enter_program(struct task_struct *task, const struct program_key *key, __u32 how)
{
	struct program program = {.pid = task->tgid, .started = BPF_CORE_READ(task, group_leader, start_boottime)};
	struct program *known = bpf_map_lookup_elem(&programs, key);

	if (how == READ_SPLICE)
		program.splices = SPLICES_DOES;
	if (!known)
		bpf_map_update_elem(&programs, key, &program, BPF_NOEXIST);
	else if (how == READ_SPLICE)
		known->splices = SPLICES_DOES;
	if (how == READ_SPLICE)
		forget_verdicts();
}

SEC("tp_btf/tcp_rcv_space_adjust")
int mb_reading(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	struct membership *member = bpf_sk_storage_get(&sides, sk, 0, 0);
	struct program_key program = {};
	struct task_struct *task;
	struct side *side;
	struct pair *pair;
	__u32 how;

	if (!member)
		return 0;
	task = bpf_get_current_task_btf();
	how = is_splicing(task) ? READ_SPLICE : READ_RECV;
	if (member->reads & how && member->pid == (__u32)task->tgid && member->seen >= SETTLED)
		return 0;
	pair = bpf_map_lookup_elem(&pairs, &member->key.pair);
	if (!pair)
		return 0;
	read_program(task, &program);
	enter_program(task, &program, how);
	side = own_end(pair, member->key.side);
	side->program = program;
	side->judged = 0;
	compiler_barrier();
	__sync_fetch_and_or(&side->reads, how);
	if (member->seen < SETTLED && ++member->seen == SETTLED && other_end(pair, member->key.side)->reads)
		ask_for_look(ASK_SOON);
	member->reads |= how;
	member->pid = task->tgid;
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
