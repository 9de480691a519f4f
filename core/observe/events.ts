/** From a record of the ring buffer to what a viewer sees. Pure. */
import { getSystemErrorName } from 'node:util'
import { formatAddress } from '../address.ts'
import type { CompiledPod } from '../compile/compile.ts'
import { factWords } from '../compile/rules.ts'
import { type EventRecord, Fact, Family, Limit, Reason, Stage, Verdict } from '../contract.ts'
import { reasonNames } from '../datapath/counters.ts'
import type { EndpointView, EventVerdict, EventView } from '../views.ts'

export interface KnownPod {
  /** "default/web" */
  readonly title: string
  /** Absent while it is not enrolled (any more). */
  readonly compiled?: CompiledPod | undefined
}

function factsInWords(word: bigint, sets: ReadonlyMap<number, string>): string[] {
  return [...factWords, ...sets].filter(([bit]) => isOn(word, bit)).map(([, name]) => name)
}

function endpoint(family: Family, words: readonly number[], port: number): EndpointView {
  const [a = 0, b = 0, c = 0, d = 0] = words
  const address = formatAddress({ family: family === Family.IPV6 ? 6 : 4, words: [a, b, c, d] })
  return port === 0 ? { address } : { address, port }
}

function verdictOf({ reason, verdict }: EventRecord): EventVerdict {
  if (reason === Reason.RULE) return 'drop'
  if (reason !== Reason.NONE) return 'refused'
  return verdict === Verdict.TARGET ? 'redirect' : 'pass'
}

function ruleOf({ rule, stage, policy }: EventRecord, compiled: CompiledPod | undefined): Pick<EventView, 'rule'> {
  if (rule > Limit.RULES) return {}
  if (rule === Limit.RULES) return { rule: null }
  const direction = stage === Stage.INBOUND ? 'inbound' : 'outbound'
  const found = compiled?.policy === policy ? compiled.rules.find((each) => each.direction === direction && each.index === rule) : undefined
  return { rule: { index: rule, ...(found === undefined ? {} : { name: found.name }) } }
}

function targetOf({ verdict, reason, family, target, tport }: EventRecord): Pick<EventView, 'target'> {
  if (verdict !== Verdict.TARGET || reason !== Reason.NONE) return {}
  const known = target.some((word) => word !== 0)
  return { target: { ...(known ? { address: endpoint(family, target, 0).address } : {}), port: tport } }
}

const isOn = (facts: bigint, bit: number): boolean => ((facts >> BigInt(bit)) & 1n) === 1n

/** Of the fact word; what comes in is always TCP. */
function protocolOf({ facts, stage }: EventRecord): Pick<EventView, 'protocol'> {
  if (isOn(facts, Fact.UDP)) return { protocol: 'udp' }
  return isOn(facts, Fact.TCP) || stage === Stage.INBOUND ? { protocol: 'tcp' } : {}
}

const refusalOf = ({ reason, error }: EventRecord): Pick<EventView, 'reason' | 'error'> => ({
  ...(reason === Reason.NONE ? {} : { reason: reasonNames.get(reason) ?? `reason ${reason}` }),
  ...(error === 0 ? {} : { error: getSystemErrorName(-error) }),
})

function callerOf({ pid, command, owned, uid, gid }: EventRecord): Pick<EventView, 'process' | 'owner'> {
  if (pid === 0) return {}
  const end = command.indexOf(0)
  const name = command.subarray(0, end === -1 ? command.length : end).toString('utf8')
  return { process: { pid, command: name }, ...(owned === 0 ? {} : { owner: { uid, gid } }) }
}

/** `time`: when it happened, milliseconds of the epoch. */
export function eventView(event: EventRecord, time: number, { title, compiled }: KnownPod): EventView {
  return {
    time: new Date(time).toISOString(),
    pod: title,
    direction: event.stage === Stage.INBOUND ? 'inbound' : 'outbound',
    ...protocolOf(event),
    family: event.family === Family.IPV6 ? 'ipv6' : 'ipv4',
    source: endpoint(event.family, event.source, event.sport),
    destination: endpoint(event.family, event.dest, event.dport),
    verdict: verdictOf(event),
    ...ruleOf(event, compiled),
    ...targetOf(event),
    ...refusalOf(event),
    facts: factsInWords(event.facts, compiled?.policy === event.policy ? compiled.words : new Map()),
    ...callerOf(event),
  }
}
