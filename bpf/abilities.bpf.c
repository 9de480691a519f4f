// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The one constant that all hooks share: enum ability, or-ed. 0, as compiled: whatever may be missing is missing. */
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

const volatile __u64 abilities SEC(".rodata.abilities") = 0;

char LICENSE[] SEC("license") = "Dual BSD/GPL";
