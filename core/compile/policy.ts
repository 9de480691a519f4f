/** One Interception as a policy: a struct policy, the trie entries of its sets, and an id that is the hash of both. */
import { createHash } from 'node:crypto'
import { isLocalhost, isLoopback, parseAddress, type Words, zeroWords } from '../address.ts'
import { Fact, Limit, Lookup, type PolicyRecord, policyCodec, type RuleRecord, TargetFamily, type TargetRecord, Verdict } from '../contract.ts'
import type { Interception, TargetSpec } from '../plugin.ts'
import { type Condition, conditionsOf } from './conditions.ts'
import { type LocalInterception, type Locality, localize, nowhere } from './localize.ts'
import { compileError } from './maps.ts'
import { compileRules, describeRules, type RuleText, targetNames } from './rules.ts'
import { type SetEntry, SetTable } from './sets.ts'

export interface CompiledPolicy {
  /** The first 8 bytes of `digest`. */
  readonly id: bigint
  /** SHA-256 of the record and the sets. */
  readonly digest: Buffer
  /** struct policy */
  readonly record: Buffer
  readonly sets: readonly SetEntry[]
  readonly rules: readonly RuleText[]
  /** What each of `rules` wants. */
  readonly conditions: readonly (readonly Condition[])[]
  /** The named sets by the number of their fact bit. */
  readonly words: ReadonlyMap<number, string>
  /** Some outbound rule does more to UDP than let it pass. */
  readonly udp: boolean
  /** Some outbound rule sends TCP over IPv6 to ::1. */
  readonly tcp6: boolean
  /** Ports of the pod whose listeners the datapath must know. */
  readonly proxyPorts: readonly number[]
}

function compileTarget({ port = 0, ipv4 = '127.0.0.1', ipv6 = '::1' }: TargetSpec, title: string): TargetRecord {
  const wordsOf = (text: string | false, family: 4 | 6) => {
    if (text === false) return undefined
    const address = parseAddress(text)
    if (address?.family === family) return address.words
    throw compileError(title, `'${text}' is not an IPv${family} address`, 'Give an address of that family, or false to refuse the family.')
  }
  const [words4, words6] = [wordsOf(ipv4, 4), wordsOf(ipv6, 6)]
  return {
    addr4: words4?.[0] ?? 0,
    addr6: words6 ?? zeroWords,
    port,
    families: (words4 ? TargetFamily.IPV4 : 0) | (words6 ? TargetFamily.IPV6 : 0),
  }
}

/** What a rule says of a fact; undefined: nothing. */
const wants = ({ mask, value }: RuleRecord, bit: number): boolean | undefined =>
  (mask >> BigInt(bit)) & 1n ? ((value >> BigInt(bit)) & 1n) === 1n : undefined

/** Some rule does more to UDP than let it pass. */
const concernsUdp = (rules: readonly RuleRecord[]): boolean =>
  rules.some((rule) => rule.verdict !== Verdict.PASS && wants(rule, Fact.TCP) !== true && wants(rule, Fact.UDP) !== false)

const isLocalhost6 = ({ families, addr6 }: TargetRecord): boolean =>
  (families & TargetFamily.IPV6) !== 0 && isLocalhost({ family: 6, words: addr6 as unknown as Words })

/** Some outbound rule sends TCP over IPv6 to ::1. */
export const sendsTcp6 = ({ outbound, targets }: Pick<PolicyRecord, 'outbound' | 'targets'>): boolean =>
  outbound.some((rule) => {
    const target = rule.verdict === Verdict.TARGET ? targets[rule.target] : undefined
    return (
      target !== undefined &&
      isLocalhost6(target) &&
      wants(rule, Fact.UDP) !== true &&
      wants(rule, Fact.TCP) !== false &&
      wants(rule, Fact.IPV6) !== false
    )
  })

const isOnLoopback = (text: string | false): boolean => {
  const address = text === false ? undefined : parseAddress(text)
  return address !== undefined && isLoopback(address)
}

/** Ports that inbound rules send to, and ports that outbound rules reach on the pod's own loopback. */
function proxyPortsOf({ targets = {}, inbound }: LocalInterception): number[] {
  const takesInbound = new Set(inbound.map((rule) => rule.then))
  const used = Object.entries(targets).filter(
    ([name, { ipv4 = '127.0.0.1', ipv6 = '::1' }]) => takesInbound.has(name) || isOnLoopback(ipv4) || isOnLoopback(ipv6),
  )
  return [...new Set(used.flatMap(([, { port }]) => port ?? []))]
}

/** `subject` names the pod in errors. Pure; throws COMPILE_FAILED when something does not fit into the contract. */
export function compilePolicy(interception: Interception, subject: string, locality: Locality = nowhere): CompiledPolicy {
  return compileLocal(localize(interception, locality), subject)
}

export function compileLocal(interception: LocalInterception, subject: string): CompiledPolicy {
  const targets = targetNames(interception)
  if (targets.length > Limit.TARGETS) {
    throw compileError(subject, `${targets.length} targets: at most ${Limit.TARGETS} fit`, 'Join targets that are equal.')
  }
  const sets = new SetTable(interception.sets, subject)
  const outbound = compileRules(interception, 'outbound', sets, subject)
  const inbound = compileRules(interception, 'inbound', sets, subject)
  const marks = sets.marks()
  const udp = concernsUdp(outbound)
  const compiledTargets = targets.map((name) => compileTarget(interception.targets?.[name] ?? {}, `${subject}: target '${name}'`))
  const record = policyCodec.encode({
    outboundRules: outbound.length,
    inboundRules: inbound.length,
    targetsUsed: targets.length,
    marksUsed: marks.length,
    lookups: sets.lookups() | (udp ? Lookup.UDP : 0),
    outbound,
    inbound,
    targets: compiledTargets,
    marks,
  })
  const hash = createHash('sha256').update(record)
  for (const { map, key, value } of sets.entries(0n)) hash.update(map).update(key).update(value)
  const digest = hash.digest()
  const id = digest.readBigUInt64BE()
  const inWords = { rules: describeRules(interception), conditions: conditionsOf(interception, sets), words: sets.words() }
  return {
    id,
    digest,
    record,
    sets: sets.entries(id),
    ...inWords,
    udp,
    tcp6: sendsTcp6({ outbound, targets: compiledTargets }),
    proxyPorts: proxyPortsOf(interception),
  }
}
