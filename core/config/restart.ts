/** Keys that are bound to the running process and its pins. */
import { MerbridgeError } from '../errors.ts'
import type { Config } from './schema.ts'

export type Bound = Pick<Config, 'attach' | 'control'>

/** The keys that differ and cannot change while the agent runs: "attach.bpffs". */
export function restartKeys(before: Bound, after: Bound): string[] {
  const keys = [
    ['attach.cgroup', before.attach.cgroup, after.attach.cgroup],
    ['attach.bpffs', before.attach.bpffs, after.attach.bpffs],
    ['attach.identity', before.attach.identity, after.attach.identity],
    ['attach.btf', before.attach.btf, after.attach.btf],
    ['attach.without', String(before.attach.without), String(after.attach.without)],
    ['control.socket', before.control.socket, after.control.socket],
  ] as const
  return keys.filter(([, old, now]) => old !== now).map(([key]) => key)
}

/** Throws CONFIG_RESTART with the keys. */
export function refuseRestartKeys(before: Bound, after: Bound): void {
  const changed = restartKeys(before, after)
  if (changed.length === 0) return
  throw new MerbridgeError(
    'CONFIG_RESTART',
    `${changed.join(', ')} cannot change while the agent runs`,
    'restart the agent (the datapath stays in place meanwhile), or take the change back',
  )
}
