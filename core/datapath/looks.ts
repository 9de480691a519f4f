/** How often the agent reads an iterator of the datapath, and what it finds. */

/** Looking costs a twentieth of the time at most: milliseconds of rest for each that a look took. */
export const rest = 19

/** A __u32 (write_mark in bpf/iterator.bpf.h) */
const markBytes = 4

/** How many an iterator has marked. */
export const marksIn = ({ length }: { readonly length: number }): number => Math.floor(length / markBytes)
