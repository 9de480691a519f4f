/**
 * Named sets as bits of the fact word and as entries of the longest-prefix tries. A trie answers with the longest match only, so each entry's
 * value is the union of every set of the policy whose prefix contains it.
 */
import { CidrKind, cidrKeyCodec, Fact, Limit, Lookup, membersCodec, OwnerKind, ownerKeyCodec, portKeyCodec } from '../contract.ts'
import type { Entry } from '../native/api.ts'
import { cidrPrefix, cidrsOf, idRange, type Prefix, portRange, prefixValue, rangePrefixes } from '../prefix.ts'
import type { LocalSet } from './localize.ts'
import { compileError, type MapName } from './maps.ts'

/** How a rule uses a set: the same set is one bit as a port set and another one as a set of destinations. */
export type SetUse = 'port' | 'to' | 'from'

interface Kind {
  readonly map: MapName
  /** Bits of the key's last member. */
  readonly width: number
  readonly lookup: Lookup
  readonly encode: (policy: bigint, prefix: Prefix) => Buffer
}

/** Bits of a key between `prefixlen` and its last member: the kind (or padding) and the policy. */
const fixedBits = 96

const wordsOf = (value: bigint, count: number): number[] =>
  Array.from({ length: count }, (_, index) => Number(BigInt.asUintN(32, value >> BigInt(32 * (count - 1 - index)))))

const ports: Kind = {
  map: 'port_sets',
  width: 16,
  lookup: Lookup.PORTS,
  encode: (policy, prefix) => portKeyCodec.encode({ prefixlen: fixedBits + prefix.length, policy, port: Number(prefixValue(prefix, 16)) }),
}

const owners = (kind: OwnerKind, lookup: Lookup, width: 32 | 64): Kind => ({
  map: 'owner_sets',
  width,
  lookup,
  encode: (policy, prefix) =>
    ownerKeyCodec.encode({ prefixlen: fixedBits + prefix.length, kind, policy, id: wordsOf(prefixValue(prefix, width), width / 32) }),
})

const cidrs = (kind: CidrKind, lookup: Lookup, width: 32 | 128): Kind => ({
  map: 'cidr_sets',
  width,
  lookup,
  encode: (policy, prefix) =>
    cidrKeyCodec.encode({ prefixlen: fixedBits + prefix.length, kind, policy, addr: wordsOf(prefixValue(prefix, width), width / 32) }),
})

const kinds = {
  port: ports,
  uid: owners(OwnerKind.UID, Lookup.UIDS, 32),
  gid: owners(OwnerKind.GID, Lookup.GIDS, 32),
  cgroup: owners(OwnerKind.CGROUP, Lookup.CGROUPS, 64),
  leaves: owners(OwnerKind.LEAVES, Lookup.LEAVES, 32),
  arrives: owners(OwnerKind.ARRIVES, Lookup.ARRIVES, 32),
  to4: cidrs(CidrKind.DEST4, Lookup.DEST, 32),
  to6: cidrs(CidrKind.DEST6, Lookup.DEST, 128),
  from4: cidrs(CidrKind.SOURCE4, Lookup.SOURCE, 32),
  from6: cidrs(CidrKind.SOURCE6, Lookup.SOURCE, 128),
} satisfies Record<string, Kind>
type KindName = keyof typeof kinds
const kindNames = Object.keys(kinds) as KindName[]

interface Member {
  readonly kind: KindName
  readonly prefix: Prefix
}

const networks = (specs: readonly string[], use: 'to' | 'from'): Member[] =>
  specs.flatMap(cidrsOf).map((cidr) => ({ kind: `${use}${cidr.family}`, prefix: cidrPrefix(cidr) }))

function membersOf(use: SetUse, spec: LocalSet): readonly Member[] {
  if (use === 'port') return (spec.ports ?? []).flatMap((port) => rangePrefixes(portRange(port), 16)).map((prefix) => ({ kind: 'port', prefix }))
  const interfaces = (kind: 'leaves' | 'arrives') =>
    (spec.interfaces ?? []).map((index): Member => ({ kind, prefix: { bits: BigInt(index), length: 32 } }))
  if (use === 'to') return [...networks(spec.cidrs ?? [], 'to'), ...interfaces('leaves')]
  const ids = (kind: 'uid' | 'gid') => (spec[kind] ?? []).flatMap((id) => rangePrefixes(idRange(id), 32)).map((prefix): Member => ({ kind, prefix }))
  const cgroups = (spec.cgroup ?? []).map((bits): Member => ({ kind: 'cgroup', prefix: { bits, length: 64 } }))
  return [...ids('uid'), ...ids('gid'), ...cgroups, ...interfaces('arrives'), ...networks(spec.cidrs ?? [], 'from')]
}

const prefixId = (bits: bigint, length: number): string => `${length}/${bits}`

interface Row {
  readonly prefix: Prefix
  /** The first set that needs the row: the one that is named when the map is full. */
  readonly set: string
  sets: bigint
}

export interface SetEntry extends Entry {
  readonly map: MapName
  readonly set: string
}

/** The sets of one policy, numbered as rules ask for them. */
export class SetTable {
  readonly #subject: string
  readonly #specs: Readonly<Record<string, LocalSet>>
  /** "port skipped" -> fact bit, and the canonical list of members -> fact bit, so that equal lists share one. */
  readonly #bits = new Map<string, bigint>()
  readonly #rows = new Map<KindName, Map<string, Row>>()
  readonly #marks = new Map<string, { value: number; mask: number; sets: bigint }>()
  #used = 0

  constructor(specs: Readonly<Record<string, LocalSet>>, subject: string) {
    this.#specs = specs
    this.#subject = subject
  }

  /** The set's bit in the fact word, as a number with only that bit. */
  bit(use: SetUse, name: string): bigint {
    const known = this.#bits.get(`${use} ${name}`)
    if (known !== undefined) return known
    const spec = this.#specs[name]
    if (spec === undefined) throw compileError(this.#subject, `unknown set '${name}'`, 'Define the set or correct its name.')
    const members = membersOf(use, spec)
    const marks = use === 'from' ? (spec.mark ?? []) : []
    const content = [
      ...members.map(({ kind, prefix }) => `${kind} ${prefixId(prefix.bits, prefix.length)}`),
      ...marks.map(({ value, mask }) => `mark ${value}/${mask}`),
      ...(use === 'port' || spec.written === undefined ? [] : [JSON.stringify(spec.written)]),
    ]
    const canonical = `members: ${[...new Set(content)].sort().join(',')}`
    const bit = this.#bits.get(canonical) ?? this.#allocate(name, members, marks)
    this.#bits.set(canonical, bit)
    this.#bits.set(`${use} ${name}`, bit)
    return bit
  }

  #allocate(name: string, members: readonly Member[], marks: NonNullable<LocalSet['mark']>): bigint {
    const most = Fact.BITS - Fact.SET
    if (this.#used === most) {
      throw compileError(this.#subject, `set '${name}' is one too many: a policy has at most ${most} sets`, 'Join sets that rules treat alike.')
    }
    const bit = 1n << BigInt(Fact.SET + this.#used++)
    for (const { kind, prefix } of members) this.#addRow(kind, prefix, bit, name)
    for (const { value, mask } of marks) {
      const row = this.#marks.get(`${value}/${mask}`)
      if (row === undefined) this.#marks.set(`${value}/${mask}`, { value, mask, sets: bit })
      else row.sets |= bit
    }
    if (this.#marks.size > Limit.MARKS) {
      throw compileError(this.#subject, `set '${name}' has too many marks: a policy has at most ${Limit.MARKS}`, 'Join marks under one mask.')
    }
    return bit
  }

  #addRow(kind: KindName, prefix: Prefix, sets: bigint, set: string): void {
    const rows = this.#rows.get(kind) ?? new Map<string, Row>()
    this.#rows.set(kind, rows)
    const id = prefixId(prefix.bits, prefix.length)
    const row = rows.get(id)
    if (row === undefined) rows.set(id, { prefix, sets, set })
    else row.sets |= sets
  }

  /** Number of a fact bit -> how rules call it: "port skipped", "from proxy". Equal sets share a bit, and the first name. */
  words(): ReadonlyMap<number, string> {
    const words = new Map<number, string>()
    for (const [name, bit] of this.#bits) {
      const number = bit.toString(2).length - 1
      if (!name.startsWith('members: ') && !words.has(number)) words.set(number, name)
    }
    return words
  }

  marks(): readonly { readonly value: number; readonly mask: number; readonly sets: bigint }[] {
    return [...this.#marks.values()]
  }

  /** enum lookup, or-ed: the kinds of sets that have members. */
  lookups(): number {
    return [...this.#rows.keys()].reduce((lookups, kind) => lookups | kinds[kind].lookup, 0)
  }

  /** Every trie entry of the sets, with `policy` in the keys. */
  entries(policy: bigint): SetEntry[] {
    return kindNames.flatMap((name) => {
      const rows = this.#rows.get(name) ?? new Map<string, Row>()
      const lengths = [...new Set([...rows.values()].map(({ prefix }) => prefix.length))]
      return [...rows.values()].map(({ prefix, set }) => {
        const { bits, length } = prefix
        const shorter = lengths.filter((other) => other <= length)
        const sets = shorter.reduce((union, other) => union | (rows.get(prefixId(bits >> BigInt(length - other), other))?.sets ?? 0n), 0n)
        return { map: kinds[name].map, key: kinds[name].encode(policy, prefix), value: membersCodec.encode({ sets }), set }
      })
    })
  }
}
