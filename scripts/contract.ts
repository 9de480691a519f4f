/**
 * Generates core/contract.ts from bpf/contract.h: compiles bpf/contract.bpf.c, which mentions every type of the contract, and reads the BTF.
 * `--check` writes nothing and exits with 1 when the committed file is stale.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { BtfMember, BtfType } from '../core/native/api.ts'
import { native } from '../core/native/index.ts'

const root = join(import.meta.dirname, '..')
const output = join(root, 'core/contract.ts')

/** What a member is: its name in core/codec.ts's terms, and its TypeScript type. */
interface Shape {
  readonly codec: string
  readonly type: string
}

const integers: Readonly<Record<string, Shape>> = {
  __u8: { codec: 'u8', type: 'number' },
  __u16: { codec: 'u16', type: 'number' },
  __u32: { codec: 'u32', type: 'number' },
  __u64: { codec: 'u64', type: 'bigint' },
  __be16: { codec: 'be16', type: 'number' },
  __be32: { codec: 'be32', type: 'number' },
  __be64: { codec: 'be64', type: 'bigint' },
}

const pascal = (name: string): string => name.replace(/(?:^|_)([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())
const camel = (name: string): string => name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())

function readTypes(): readonly BtfType[] {
  const scratch = mkdtempSync(join(tmpdir(), 'merbridge-contract-'))
  try {
    const object = join(scratch, 'contract.bpf.o')
    const triplet = `${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`
    // <linux/types.h> includes <asm/types.h>, which Debian keeps in a directory that clang does not search for the bpf target.
    const flags = ['-target', 'bpf', '-g', '-O2', '-Wall', '-Werror', '-idirafter', `/usr/include/${triplet}`]
    execFileSync(process.env.CLANG ?? 'clang-19', [...flags, '-c', join(root, 'bpf/contract.bpf.c'), '-o', object], { stdio: 'inherit' })
    return native.btf(object)
  } finally {
    rmSync(scratch, { recursive: true })
  }
}

/** Every type that the headers define must have reached BTF, or a struct would silently have no codec. */
function checkComplete(types: readonly BtfType[]): void {
  const header = ['contract.h', 'contract-events.h', 'contract-udp.h', 'contract-lo.h', 'contract-accel.h']
    .map((name) => readFileSync(join(root, 'bpf', name), 'utf8'))
    .join('\n')
  const defined = [...header.matchAll(/^(struct|enum) (\w+) \{/gm)].map((match) => `${match[1]} ${match[2]}`)
  const seen = new Set(types.map((type) => `${type.kind} ${type.name}`))
  const missing = defined.filter((name) => !seen.has(name))
  if (missing.length > 0) throw new Error(`not in BTF: ${missing.join(', ')}; mention them in bpf/contract.bpf.c`)
}

function shapeOf(types: ReadonlyMap<number, BtfType>, id: number, where: string): Shape {
  const type = types.get(id)
  if (type === undefined) throw new Error(`${where}: BTF type ${id} does not exist`)
  const integer = type.kind === 'typedef' ? integers[type.name] : undefined
  if (integer !== undefined) return integer
  switch (type.kind) {
    case 'typedef':
    case 'const':
    case 'volatile':
      return shapeOf(types, type.type ?? 0, where)
    case 'enum':
      return { codec: `enumeration<${pascal(type.name)}>()`, type: pascal(type.name) }
    case 'struct':
      return { codec: `${camel(type.name)}Codec`, type: `${pascal(type.name)}Record` }
    case 'array': {
      const element = shapeOf(types, type.type ?? 0, where)
      if (element.codec === 'u8') return { codec: `bytesOf(${type.length})`, type: 'Buffer' }
      return { codec: `arrayOf(${element.codec}, ${type.length})`, type: `readonly ${element.type}[]` }
    }
    default:
      throw new Error(`${where}: a ${type.kind} (${type.name}) has no codec; use the types of <linux/types.h>, enums, structs and arrays`)
  }
}

/** The part up to the last underscore that all names share: "VERDICT_" of VERDICT_PASS and VERDICT_DROP. */
function sharedPrefix(names: readonly string[]): string {
  const [first = '', ...rest] = names
  const shared = rest.reduce((prefix, name) => {
    let length = 0
    while (length < prefix.length && prefix[length] === name[length]) length++
    return prefix.slice(0, length)
  }, first)
  return shared.slice(0, shared.lastIndexOf('_') + 1)
}

function renderEnum(type: BtfType): string {
  const values = type.values ?? []
  const prefix = sharedPrefix(values.map(({ name }) => name))
  const name = pascal(type.name)
  return [
    `export const ${name} = {`,
    ...values.map((entry) => `  ${entry.name.slice(prefix.length)}: ${entry.value},`),
    '} as const',
    `export type ${name} = (typeof ${name})[keyof typeof ${name}]`,
  ].join('\n')
}

function renderStruct(types: ReadonlyMap<number, BtfType>, type: BtfType): string {
  const members = (type.members ?? []).filter(({ name }) => !name.startsWith('_pad'))
  const shape = (member: BtfMember) => shapeOf(types, member.type, `${type.name}.${member.name}`)
  const record = `${pascal(type.name)}Record`
  return [
    `export interface ${record} {`,
    ...members.map((member) => `  readonly ${camel(member.name)}: ${shape(member).type}`),
    '}',
    `export const ${camel(type.name)}Codec = structOf<${record}>('${type.name}', ${type.size}, {`,
    ...members.map((member) => `  ${camel(member.name)}: [${member.offset / 8}, ${shape(member).codec}],`),
    '})',
  ].join('\n')
}

/** A text that changes when a name, a value, an order, an offset or a type of the contract changes, and only then. */
function canonical(types: ReadonlyMap<number, BtfType>, contract: readonly BtfType[]): string {
  return contract
    .map((type) => {
      const lines =
        type.kind === 'enum'
          ? (type.values ?? []).map(({ name, value }) => ` ${name}=${value}`)
          : (type.members ?? []).map(({ name, offset, type: id }) => ` ${name}@${offset} ${shapeOf(types, id, name).codec}`)
      return [`${type.kind} ${type.name} ${type.size}`, ...lines].join('\n')
    })
    .join('\n')
}

function generate(): string {
  const all = readTypes()
  checkComplete(all)
  const types = new Map(all.map((type) => [type.id, type]))
  const enums = all.filter(({ kind, name }) => kind === 'enum' && name !== '')
  // BTF numbers a struct before the structs of its members; a codec must come after those it uses.
  const structs: BtfType[] = []
  const visit = (type: BtfType): void => {
    if (structs.includes(type)) return
    for (const member of type.members ?? []) {
      let inner = types.get(member.type)
      while (inner?.kind === 'array' || inner?.kind === 'typedef') inner = types.get(inner.type ?? 0)
      if (inner?.kind === 'struct') visit(inner)
    }
    structs.push(type)
  }
  for (const type of all) if (type.kind === 'struct') visit(type)
  const contract = [...enums, ...structs].sort((a, b) => (`${a.kind} ${a.name}` < `${b.kind} ${b.name}` ? -1 : 1))
  const body = [...enums.map(renderEnum), ...structs.map((type) => renderStruct(types, type))].join('\n\n')
  const codecs = ['arrayOf', 'be16', 'be32', 'be64', 'bytesOf', 'enumeration', 'structOf', 'u16', 'u32', 'u64', 'u8']
  const used = codecs.filter((name) => new RegExp(`\\b${name}\\b`).test(body))
  return [
    '// GENERATED by scripts/contract.ts from bpf/contract.h: do not edit.',
    `import { ${used.join(', ')} } from './codec.ts'`,
    '',
    '/** SHA-256 of every struct and enum of the contract: the version of the layout of the maps. */',
    `export const contractHash = '${createHash('sha256').update(canonical(types, contract)).digest('hex')}'`,
    '',
    body,
    '',
  ].join('\n')
}

function firstDifference(have: string, want: string): string {
  const [old, now] = [have.split('\n'), want.split('\n')]
  const line = now.findIndex((text, index) => text !== old[index])
  const at = line === -1 ? now.length : line
  return `core/contract.ts:${at + 1}\n- ${old[at] ?? '(end)'}\n+ ${now[at] ?? '(end)'}`
}

const { values } = parseArgs({ options: { check: { type: 'boolean', default: false } } })
const text = generate()
if (values.check) {
  const committed = readFileSync(output, 'utf8')
  if (committed !== text) {
    process.stderr.write(`core/contract.ts is stale; run: npm run contract\n${firstDifference(committed, text)}\n`)
    process.exitCode = 1
  }
} else {
  writeFileSync(output, text)
}
