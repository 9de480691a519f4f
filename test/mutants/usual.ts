import type { Choice } from './samples.ts'

/** Enough that what survives is equivalent, the same in each run, few enough for a test of some seconds. */
export const usual: Choice = { sets: 1500, seed: 20_260_801 }
