/** The BTF format (linux/btf.h): a header, the types, the strings. */

import { addon } from './addon.ts'
import type { BtfMember, BtfType } from './api.ts'

const MAGIC = 0xeb9f
const KINDS = [
  'void',
  'int',
  'ptr',
  'array',
  'struct',
  'union',
  'enum',
  'fwd',
  'typedef',
  'volatile',
  'const',
  'restrict',
  'func',
  'func_proto',
  'var',
  'datasec',
  'float',
  'decl_tag',
  'type_tag',
  'enum64',
] as const
type Kind = (typeof KINDS)[number]

interface Header {
  readonly kind: Kind
  readonly count: number
  /** kind_flag: bitfield offsets in a struct, a union behind a fwd, signed values in an enum */
  readonly flag: boolean
  readonly sizeOrType: number
}

class Reader {
  readonly #bytes: Buffer
  readonly #strings: number
  at: number
  readonly end: number

  constructor(bytes: Buffer) {
    if (bytes.length < 24 || bytes.readUInt16LE(0) !== MAGIC) throw new Error('not BTF of this byte order')
    const header = bytes.readUInt32LE(4)
    this.#bytes = bytes
    this.at = header + bytes.readUInt32LE(8)
    this.end = this.at + bytes.readUInt32LE(12)
    this.#strings = header + bytes.readUInt32LE(16)
  }

  word(): number {
    this.at += 4
    return this.#bytes.readUInt32LE(this.at - 4)
  }

  int(): number {
    return this.word() | 0
  }

  name(): string {
    const start = this.#strings + this.word()
    return this.#bytes.toString('utf8', start, this.#bytes.indexOf(0, start))
  }
}

function member(reader: Reader, bitfields: boolean): BtfMember {
  const [name, type, offset] = [reader.name(), reader.word(), reader.word()]
  return { name, type, offset: bitfields ? offset & 0xffffff : offset } // the upper byte is a bitfield's width
}

function value(reader: Reader, wide: boolean, signed: boolean): { name: string; value: bigint } {
  const name = reader.name()
  const low = reader.word()
  const bits = wide ? (BigInt(reader.word()) << 32n) | BigInt(low) : BigInt(low)
  return { name, value: signed ? BigInt.asIntN(wide ? 64 : 32, bits) : bits }
}

function times<T>(count: number, read: () => T): T[] {
  return Array.from({ length: count }, read)
}

/** What follows the common header of a type, and what the header's last word means for its kind. */
function details(reader: Reader, { kind, count, flag, sizeOrType }: Header): Omit<BtfType, 'id' | 'kind' | 'name'> {
  switch (kind) {
    case 'int':
      return { size: sizeOrType, signed: ((reader.word() >>> 24) & 1) === 1 }
    case 'array': {
      const [type, , length] = [reader.word(), reader.word(), reader.word()]
      return { type, length }
    }
    case 'struct':
    case 'union':
      return { size: sizeOrType, members: times(count, () => member(reader, flag)) }
    case 'enum':
    case 'enum64':
      return { size: sizeOrType, signed: flag, values: times(count, () => value(reader, kind === 'enum64', flag)) }
    case 'func_proto':
      // Parameters are no members of a layout: name and type are passed over.
      reader.at += count * 8
      return { type: sizeOrType }
    case 'datasec':
      // The places of its variables are known to the linker only: in an object file they are all 0.
      reader.at += count * 12
      return { size: sizeOrType }
    case 'var':
    case 'decl_tag':
      reader.at += 4 // linkage; index of the member
      return { type: sizeOrType }
    case 'float':
      return { size: sizeOrType }
    case 'fwd':
    case 'void':
      return {}
    default:
      return { type: sizeOrType }
  }
}

function parse(bytes: Buffer): BtfType[] {
  const reader = new Reader(bytes)
  const types: BtfType[] = [{ id: 0, kind: 'void', name: '' }]
  while (reader.at < reader.end) {
    const [name, info, sizeOrType] = [reader.name(), reader.word(), reader.word()]
    const kind = KINDS[(info >>> 24) & 0x1f]
    if (kind === undefined) throw new Error(`BTF type ${types.length} is of a kind that this build does not know: ${(info >>> 24) & 0x1f}`)
    const header: Header = { kind, count: info & 0xffff, flag: info >>> 31 === 1, sizeOrType }
    types.push({ id: types.length, kind, name, ...details(reader, header) })
  }
  return types
}

/** `types[id]` is the type with that id; 0 is void. */
export function btf(path: string): BtfType[] {
  return parse(addon().btf(path))
}
