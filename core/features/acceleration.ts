/**
 * What acceleration needs of the kernel besides programs that load: all of it, or every connection stays plain TCP. What loading alone can show (fields of
 * the kernel's structs, tracepoints, iterators over maps) is found there, and told in the verifier's words.
 */
import { readFileSync } from 'node:fs'
import { Ability } from '../contract.ts'

interface Need {
  readonly id: string
  /** Why connections stay plain TCP without it. */
  readonly lacking: string
}

const lockdownPath = '/sys/kernel/security/lockdown'

/** "none [integrity] confidentiality" */
export const forbidsReads = (lockdown: string): boolean => lockdown.includes('[confidentiality]')

function lockdown(): string {
  try {
    return readFileSync(lockdownPath, 'latin1')
  } catch {
    return '' // the kernel has none, or securityfs is not mounted
  }
}

const noReads = 'kernel memory may not be read, so the state of a socket is not known'

const needs: readonly Need[] = [
  { id: 'sockops_netns_cookie', lacking: 'sock_ops does not tell the pod of a socket (Linux 5.15 does)' },
  { id: 'sockops_storage', lacking: 'sock_ops has no socket storage (Linux 5.4 has it)' },
  { id: 'skmsg_storage', lacking: 'sk_msg programs have no socket storage (Linux 5.9 has it)' },
]

/** undefined: nothing is missing that can be asked for beforehand. `has`: ids of features that are there and not switched off by the config. */
export function accelerationLacks(has: ReadonlySet<string>, forced: ReadonlySet<string>, locked: string = lockdown()): string | undefined {
  if (!has.has('kernel_reads')) {
    if (forced.has('kernel_reads')) return `${noReads}: attach.without in the config has kernel_reads`
    return `${noReads}: ${forbidsReads(locked) ? 'lockdown is "confidentiality"' : 'the agent needs CAP_PERFMON'}`
  }
  const missing = needs.find(({ id }) => !has.has(id))
  if (missing === undefined) return undefined
  return forced.has(missing.id) ? `attach.without in the config has ${missing.id}` : missing.lacking
}

/** What programs are told when acceleration is there, and not told where it is not. */
export const accelerationAbilities: readonly Ability[] = [Ability.JOIN, Ability.CHARGED]
