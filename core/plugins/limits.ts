/** Milliseconds that any call into a plugin may take. */
export const deadline = 1000

/** How often a call is tried that has had less than half of its deadline from the processors. */
export const attempts = 3

/** MiB of a plugin's process. What the kit needs is about 15. */
export const maxMemory = 128
