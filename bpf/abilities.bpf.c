// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The constants that hooks share. */
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

/* enum ability, or-ed. 0, as compiled: whatever may be missing is missing. */
const volatile __u64 abilities SEC(".rodata.abilities") = 0;

/* Another number at each load, so that no pod can choose what it asks to occupy the places of another pod's ids. */
const volatile __u64 asker_seed SEC(".rodata.seed") = 0;

char LICENSE[] SEC("license") = "Dual BSD/GPL";
