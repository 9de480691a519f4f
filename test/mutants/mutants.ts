/**
 * Mutants of a plugin: a rule dropped, or exchanged with its neighbour. They are addressed by the rules' names, over all option sets; each must decide at
 * least one connection otherwise than the mesh would. Knows no mesh.
 */
import type { Interception, Rule } from '../../core/plugin.ts'
import { endpointText } from '../parity/addresses.ts'
import { matches, type Packet, verdict } from './decide.ts'

export interface Sample {
  readonly interception: Interception
  readonly packets: readonly { readonly packet: Packet; readonly expected: string }[]
  /** Says in a message which set it was. */
  readonly about: string
}

export interface Verdict {
  /** In how many sets it could be made */
  sets: number
  /** A connection that tells it from the plugin. */
  killedBy: string | undefined
  /** Both rules of a swap end alike in every set. */
  sameEnd: boolean
}

export interface Judgement {
  readonly mutants: ReadonlyMap<string, Verdict>
  readonly samples: number
  readonly connections: number
}

interface Mutant {
  readonly name: string
  /** Positions of the rules in the new order. */
  readonly order: readonly number[]
  readonly sameEnd: boolean
}

function mutantsOf(direction: string, rules: readonly Rule[]): Mutant[] {
  const all = rules.map((_, index) => index)
  // A list makes as many rules as it has elements: "excluded for users 1", "excluded for users 2" are one by name.
  const name = (index: number) => `'${rules[index]?.name.replace(/ \d+$/, ' N')}'`
  const dropped = all.map((index) => ({ name: `${direction}: without ${name(index)}`, order: all.filter((each) => each !== index), sameEnd: false }))
  const swapped = all.slice(1).map((index) => ({
    name: `${direction}: ${name(index)} before ${name(index - 1)}`,
    order: all.map((each) => (each === index ? index - 1 : each === index - 1 ? index : each)),
    sameEnd: rules[index]?.then === rules[index - 1]?.then,
  }))
  return [...dropped, ...swapped]
}

const shown = ({ direction, proto, to, port, bound, uid, gid, mark, device }: Packet) => {
  const by = direction === 'inbound' ? '' : ` by uid ${uid}, gid ${gid}${mark === undefined ? '' : `, mark ${mark}`}`
  return `${direction} ${proto} to ${endpointText(to, port)}${bound === undefined ? '' : ` from ${bound}`}${by}, device ${device}`
}

/** What the plugin itself decides otherwise than expected, by which rule; undefined: nothing. */
export function wrongDecision({ interception, packets }: Sample): string | undefined {
  for (const { packet, expected } of packets) {
    const rule = interception[packet.direction].find((each) => matches(interception, each, packet))
    const own = verdict(interception, rule?.then, packet)
    const by = rule === undefined ? 'no rule' : `the rule '${rule.name}'`
    if (own !== expected) return `${shown(packet)}: the plugin says ${own} (${by}), the mesh ${expected}`
  }
  return undefined
}

/** Throws when the plugin itself decides otherwise than expected: then no mutant means anything. */
export function judgeMutants(all: Iterable<Sample>): Judgement {
  const mutants = new Map<string, Verdict>()
  let [samples, connections] = [0, 0]
  for (const sample of all) {
    samples++
    connections += sample.packets.length
    const wrong = wrongDecision(sample)
    if (wrong !== undefined) throw new Error(`${sample.about}\n${wrong}`)
    for (const direction of ['outbound', 'inbound'] as const) judgeDirection(sample, direction, mutants)
  }
  return { mutants, samples, connections }
}

function judgeDirection({ interception, packets, about }: Sample, direction: 'outbound' | 'inbound', mutants: Map<string, Verdict>): void {
  const rules = interception[direction]
  const here = mutantsOf(direction, rules).map(({ name, order, sameEnd }) => {
    const { sets, killedBy, sameEnd: before } = mutants.get(name) ?? { sets: 0, killedBy: undefined, sameEnd: true }
    const state: Verdict = { sets: sets + 1, killedBy, sameEnd: before && sameEnd }
    mutants.set(name, state)
    return { order, state }
  })
  for (const { packet, expected } of packets) {
    const alive = here.filter(({ state }) => state.killedBy === undefined)
    if (packet.direction !== direction || alive.length === 0) continue
    const matched = rules.map((rule) => matches(interception, rule, packet))
    for (const { order, state } of alive) {
      const decided = verdict(interception, rules[order.find((index) => matched[index]) ?? -1]?.then, packet)
      if (decided !== expected) state.killedBy = `${about}: ${shown(packet)}`
    }
  }
}

/** Rows of the tables in docs/mutants.md: | mutant | why it decides nothing otherwise |, below a heading with the mesh's name. */
export function listedSurvivors(markdown: string, mesh: string): ReadonlyMap<string, string> {
  const section = markdown.split(/^## /m).find((part) => part.startsWith(`${mesh}\n`)) ?? ''
  const rows = [...section.matchAll(/^\| `(.+?)` \| (.+) \|$/gm)]
  return new Map(rows.map(([, mutant = '', reason = '']) => [mutant, reason]))
}

export interface Complaints {
  readonly unlisted: readonly string[]
  /** Listed, but told apart, or never made. */
  readonly idle: readonly string[]
}

export function complaints({ mutants }: Judgement, listed: ReadonlyMap<string, string>): Complaints {
  const survivors = [...mutants].flatMap(([name, { killedBy }]) => (killedBy === undefined ? [name] : []))
  return { unlisted: survivors.filter((name) => !listed.has(name)), idle: [...listed.keys()].filter((name) => !survivors.includes(name)) }
}
