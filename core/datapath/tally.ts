/** Counts by protocol and family. */
import { Family } from '../contract.ts'
import { type Kind, kinds, type Tally } from '../views.ts'

/** Also what is about no connection, and so of no kind: a listener that found no slot. */
export interface Counted {
  readonly count: number
  readonly by: Tally
}

export const nothing: Counted = { count: 0, by: {} }

const IPPROTO_TCP = 6
const IPPROTO_UDP = 17

/** Of a counter's key; undefined: it is about no connection. */
export function kindOf(protocol: number, family: number): Kind | undefined {
  if (protocol !== IPPROTO_TCP && protocol !== IPPROTO_UDP) return undefined
  return `${protocol === IPPROTO_UDP ? 'udp' : 'tcp'}${family === Family.IPV6 ? 6 : 4}`
}

/** Only kinds that occur, always in the same order. */
export const sumOf = (tallies: readonly Tally[]): Tally =>
  Object.fromEntries(
    kinds.flatMap((kind) => {
      const total = tallies.reduce((sum, tally) => sum + (tally[kind] ?? 0), 0)
      return total === 0 ? [] : [[kind, total]]
    }),
  )

export const plus = (a: Counted, b: Counted): Counted => ({ count: a.count + b.count, by: sumOf([a.by, b.by]) })
