/** What differs on kernels that lack something, and why: docs/kernels.md shows this table, the checks expect what it says. */
import type { StatusView } from '../../core/views.ts'
import type { Named } from '../parity/compare.ts'

export type Features = StatusView['kernel']['features']
type Feature = Features[number]

interface KernelDifference {
  /** Name of a feature in `merbridge status`; the rows hold where its state is not "yes". */
  readonly feature: string
  readonly reason: string
  /** As the rows of docs/parity.md. */
  readonly parity: readonly Omit<Named, 'name'>[]
  /** Names of rows of docs/parity.md that do not occur then. */
  readonly instead?: readonly string[]
}

export const kernelDifferences: readonly KernelDifference[] = [
  {
    feature: 'errno of a refusal',
    reason:
      'bpf_set_retval came with Linux 5.18; before, what the connect hook refuses is EPERM unless the kernel itself gives the error for another destination. For datagrams there is no such destination',
    parity: [
      ...['EHOSTUNREACH', 'EACCES', 'EINVAL'].map((iptables) => ({ case: '*', field: 'outcome', iptables, merbridge: 'EPERM' })),
      { case: '*udp *', field: '*', iptables: 'E*', merbridge: 'EPERM' },
    ],
  },
  {
    feature: 'getpeername hook',
    reason: 'without the hook nothing answers for a redirected socket: its peer is the proxy, which is true',
    parity: ['*:15001', '*:15006'].map((merbridge) => ({ case: '*', field: 'getpeername', iptables: '*', merbridge })),
    instead: ['port 0'],
  },
  {
    feature: 'reading kernel fields',
    reason:
      "without reading the socket's file only the real ids of the process that connects are known: a socket that another made, or effective ids, count for those",
    parity: ['effective*', '*Then*'].map((who) => ({ case: `*: ${who} -> *`, field: '*', iptables: '*', merbridge: '*' })),
  },
]

/** Which error an app gets for a refusal on this kernel. */
export interface Refusals {
  errno(usual: string): string
}

const lacks = (features: readonly Feature[], name: string) => features.some((each) => each.name === name && each.state !== 'yes')

export const refusalsWith = (features: readonly Feature[]): Refusals => ({
  errno: (usual) => (lacks(features, 'errno of a refusal') && !['ENETUNREACH', 'ECONNREFUSED'].includes(usual) ? 'EPERM' : usual),
})

/** Nothing is missing here that a row of this table is about. */
export const isWhole = (features: readonly Feature[]): boolean => !kernelDifferences.some(({ feature }) => lacks(features, feature))

/** The rows of docs/parity.md as they are on this kernel. */
export function namedWith(features: readonly Feature[], document: readonly Named[]): readonly Named[] {
  const here = kernelDifferences.filter(({ feature }) => lacks(features, feature))
  const gone = new Set(here.flatMap(({ instead = [] }) => instead))
  return [
    ...document.filter(({ name }) => !gone.has(name)),
    ...here.flatMap(({ feature, parity }) => parity.map((row) => ({ name: feature, ...row }))),
  ]
}
