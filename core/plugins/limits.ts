/** Milliseconds that any call into a plugin may take. */
export const deadline = 1000

/** MiB of a plugin's process. What the kit needs is about 15. */
export const maxMemory = 128
