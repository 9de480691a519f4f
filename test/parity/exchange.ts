/** UDP: what a case does with its sockets, step by step, and what became of each step. */

import type { LabPod } from '../lab/net.ts'
import { normaliser } from './addresses.ts'
import { askAttendant } from './attendant.ts'
import type { Column } from './compare.ts'
import type { Endpoint, Identity } from './probe.ts'

/** `on`: with which socket, the first one if absent. */
export type Do = { readonly on?: number } & (
  | { readonly do: 'connect'; readonly to: Endpoint }
  | { readonly do: 'disconnect' | 'names' | 'origin' | 'errqueue' }
  | { readonly do: 'send'; readonly data: string }
  /** `source`: by IP_PKTINFO or IPV6_PKTINFO */
  | { readonly do: 'sendto'; readonly data: string; readonly to: Endpoint; readonly source?: string }
  /** sendmmsg() */
  | { readonly do: 'several'; readonly datagrams: readonly (readonly [data: string, ...to: Endpoint])[] }
  /** So many answers, default one */
  | { readonly do: 'recv'; readonly count?: number }
  | { readonly do: 'want'; readonly what: 'errors' | 'info' }
)

export interface DatagramCase {
  readonly id: string
  readonly as: Identity
  readonly creator?: Identity
  /** SO_MARK */
  readonly mark?: number
  readonly family: 4 | 6
  readonly v6only?: boolean
  readonly bind?: Endpoint
  readonly device?: string
  readonly alone?: boolean
  /** Default one */
  readonly sockets?: number
  readonly steps: readonly Do[]
}

interface Answer {
  readonly listener: string
  readonly query: string
  /** The two ends as the server sees them. */
  readonly peer: string
  readonly local: string
  readonly from: string
  readonly arrived?: string
}

type Outcome = string | Readonly<Record<string, string>> | readonly (string | Answer)[]

interface Result {
  readonly id: string
  readonly steps: readonly Outcome[]
  /** Local ports that its sockets had. */
  readonly ports: readonly number[]
}

/** Who answered comes under the name of other columns: the rows of the document are for both. */
function answerFields(prefix: string, answer: string | Answer): [string, string][] {
  if (typeof answer === 'string') return [[prefix, answer]]
  const { listener, query, peer, local, from, arrived } = answer
  const name = `${prefix} ${query}`
  const fields: [string, string][] = [
    [`${name} answered by`, listener],
    [`${name} answer's source`, from],
    [`${name} source seen`, peer],
    [`${name} address seen`, local],
  ]
  return arrived === undefined ? fields : [...fields, [`${name} arrived at`, arrived]]
}

function stepFields(name: string, outcome: Outcome): [string, string][] {
  if (typeof outcome === 'string') return [[name, outcome]]
  if (Array.isArray(outcome)) return outcome.flatMap((answer: string | Answer) => answerFields(name, answer))
  return Object.entries(outcome as Readonly<Record<string, string>>).map(([key, value]) => [`${name} ${key}`, value])
}

/** A port that conntrack chose, so that two flows of a socket differ. `dns`: the DNS proxy's. */
const chosen = (dns: number) => new RegExp(`:(?!(?:0|53|5353|8080|9999|150\\d\\d|${dns})$)\\d+$`)

/** Sources that an agent gives to a socket's further servers, of 127.64.0.0/10 and fd6d:6572:6272:6964::/64. */
const withIds = (text: string) =>
  text.replace(/\b127\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.\d+\.\d+/g, 'ID').replace(/\[fd6d:6572:6272:6964:[\da-f:]+\]/g, 'ID6')

function fields({ steps }: DatagramCase, result: Result, dns: number): ReadonlyMap<string, string> {
  const normalise = normaliser('', new Set(result.ports.map(String)))
  const found = result.steps.flatMap((outcome, index) => stepFields(`${index + 1} ${steps[index]?.do ?? ''}`, outcome))
  return new Map([['outcome', 'told'], ...found.map(([name, value]) => [name, withIds(normalise(value)).replace(chosen(dns), ':chosen')] as const)])
}

/** `dns`: port of the DNS proxy */
export async function exchangeColumn(setup: string, pod: LabPod, cases: readonly DatagramCase[], dns = 15053): Promise<Column> {
  if (cases.length === 0) return new Map()
  const results = new Map(((await askAttendant(pod, 'exchange', cases)) as readonly Result[]).map((result) => [result.id, result]))
  if (results.size !== cases.length) throw new Error('not exactly one result for each case of UDP')
  return new Map(
    cases.map((each) => {
      const result = results.get(each.id)
      if (result === undefined) throw new Error(`no result for ${each.id}`)
      return [`${setup}: ${each.id}`, fields(each, result, dns)]
    }),
  )
}
