/** What may go wrong at the lo of a pod, and what it means. */
import { setTimeout as sleep } from 'node:timers/promises'
import { itemText, type LoopbackItem } from '../compile/loopback.ts'
import type { NativeError } from '../native/api.ts'

/** Its namespace ended meanwhile, or is not there under its path any more. */
export const isGone = (error: unknown): boolean => ['ENOENT', 'ESTALE', 'ENODEV'].includes((error as NativeError).code)

/** The interface went, went down or lost the family after the namespace was read. */
export const isDown = (error: unknown): boolean => ['ENODEV', 'ENETDOWN', 'EACCES', 'EINVAL'].includes((error as NativeError).code)

const tries = 20
const pauseMs = 10

/** The kernel frees a link a moment after its last pin has gone: until then its program is still there. */
export async function again<T>(code: string, work: () => Promise<T>): Promise<T> {
  for (let left = tries; ; left--) {
    try {
      return await work()
    } catch (error) {
      if ((error as NativeError).code !== code || left === 0) throw error
      await sleep(pauseMs)
    }
  }
}

export function asReason(item: LoopbackItem, error: unknown): Error {
  const { code, message } = error as NativeError
  const why = code === 'EACCES' ? 'IPv6 is off there (sysctl net.ipv6.conf.lo.disable_ipv6, in the pod)' : message
  return new Error(`its lo cannot have ${itemText(item)}: ${why}`)
}
