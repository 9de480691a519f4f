/** nat OUTPUT of Istio's sidecar in full (DNS capture, owner groups, several users and groups), rule by rule; the judge of the width proof. */
import { type Connection, inCidr } from '../unit/reference.ts'

export interface OutputTable {
  readonly uids: readonly number[]
  readonly gids: readonly number[]
  /** 'all', or the resolv.conf servers whose port 53 is captured; undefined: DNS is not captured. */
  readonly dns?: 'all' | readonly string[]
  readonly groups: { readonly include: readonly number[] | '*'; readonly exclude: readonly number[] }
  /** What stands for "loopback": 127.0.0.1/32 unless ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR says otherwise. */
  readonly loopback: string
  readonly include: readonly string[]
  readonly exclude: readonly string[]
  readonly excludePorts: readonly number[]
}

/** Rules O3 to O16 for IPv4. `pod` is the pod's own address. */
export function istioOutput(table: OutputTable, { proto, to, port, from = '', uid = 0, gid = 0 }: Connection, pod: string): string {
  const lo = to.startsWith('127.') || to === pod
  const LB = inCidr(to, table.loopback)
  const tcp = proto === 'tcp'
  const dns = table.dns !== undefined
  const loopbackIncluded = table.include.some((cidr) => cidr.startsWith('127.'))
  if (table.excludePorts.includes(port)) return 'pass'
  if (lo && from === '127.0.0.6') return 'pass'
  const passes = [
    { id: uid, ids: table.uids, notInbound: dns ? [53, 15008] : [15008] },
    { id: gid, ids: table.gids, notInbound: [15008] },
  ]
  for (const { id, ids, notInbound } of passes) {
    for (const one of ids) {
      if (lo && !LB && tcp && !notInbound.includes(port) && id === one) return '127.0.0.1:15006'
      if (!loopbackIncluded && lo && id !== one && (!dns || (tcp && port !== 53))) return 'pass'
      if (id === one) return 'pass'
    }
  }
  if (table.groups.include === '*' ? table.groups.exclude.includes(gid) : !table.groups.include.includes(gid)) return 'pass'
  if (dns && port === 53 && (table.dns === 'all' || table.dns?.includes(to))) return '127.0.0.1:15053'
  if (LB) return 'pass'
  if (table.exclude.some((cidr) => inCidr(to, cidr))) return 'pass'
  return tcp && table.include.some((cidr) => inCidr(to, cidr)) ? '127.0.0.1:15001' : 'pass'
}
