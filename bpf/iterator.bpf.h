/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the iterators have in common that the agent reads to count something. */
#ifndef MERBRIDGE_ITERATOR_H
#define MERBRIDGE_ITERATOR_H

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 seq_num;
};
#pragma clang attribute pop

/* One more: a __u32, of which the agent counts how many there are. */
static __always_inline void write_mark(struct bpf_iter_meta *meta)
{
	__u32 mark = 1;

	bpf_seq_write(meta->seq, &mark, sizeof(mark));
}

#endif
