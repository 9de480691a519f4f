/**
 * What must be undone even when the process is interrupted: labs, daemons, mounts. Owners register a resource when they make it and release it
 * when they have removed it; SIGINT, SIGTERM and SIGHUP dispose what is left, the newest first, and then let the signal have its usual effect.
 */

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** Milliseconds that one resource may take; what takes longer is left behind so that the others still go. */
const DEADLINE = 20_000

const owned: AsyncDisposable[] = []
let cleaning = false

/** A signal has come, and what is owned is being disposed: whatever fails now fails because of that. */
export const isInterrupted = (): boolean => cleaning

/** Disposes `resource` if a signal ends the process before `release` is called. */
export function own(resource: AsyncDisposable): void {
  if (owned.length === 0) for (const signal of SIGNALS) process.on(signal, onSignal)
  owned.push(resource)
}

/** The resource is gone or belongs to somebody else now; unknown resources are ignored. */
export function release(resource: AsyncDisposable): void {
  const index = owned.indexOf(resource)
  if (index < 0) return
  owned.splice(index, 1)
  if (owned.length === 0 && !cleaning) for (const signal of SIGNALS) process.off(signal, onSignal)
}

/** Settles with `work` or, after `milliseconds`, without it; true when the work was done in time. */
export async function bounded(work: Promise<unknown>, milliseconds: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const timer = setTimeout(resolve, milliseconds, false)
  const done = () => resolve(true)
  work.then(done, done)
  return promise.finally(() => clearTimeout(timer))
}

async function onSignal(signal: NodeJS.Signals): Promise<void> {
  if (cleaning) return // a second Ctrl-C does not cut the clean-up short; it is bounded
  cleaning = true
  for (const resource of owned.toReversed()) {
    const disposed = Promise.resolve(resource[Symbol.asyncDispose]())
    disposed.catch((error: Error) => process.stderr.write(`after ${signal}: ${error.message}\n`))
    await bounded(disposed, DEADLINE)
  }
  for (const each of SIGNALS) process.off(each, onSignal)
  process.kill(process.pid, signal)
}
