/**
 * Structs as bytes. core/contract.ts, generated from the contract's BTF, is written in these terms. Numbers are always what they mean (port
 * 15001 is 15001, 127.0.0.1 is 0x7f000001); the byte order belongs to the field.
 */
import { endianness } from 'node:os'

/** One member: knows its size in bytes and how to write and read itself at an offset. `where` names it in errors: "target.port". */
export interface Field<T> {
  readonly size: number
  write(bytes: Buffer, offset: number, value: T, where: string): void
  read(bytes: Buffer, offset: number): T
}

export interface Codec<T> extends Field<T> {
  /** RangeError that names struct.member when a value does not fit. */
  encode(value: T): Buffer
  /** RangeError when the bytes are not exactly one struct. */
  decode(bytes: Uint8Array): T
}

const host = endianness()

const refuse = (where: string, expected: string, value: unknown): never => {
  throw new RangeError(`${where}: expected ${expected}, got ${value}`)
}

const checked = (value: number, max: number, where: string): number =>
  Number.isInteger(value) && value >= 0 && value <= max ? value : refuse(where, `an integer from 0 to ${max}`, value)

const uint16 = (order: 'LE' | 'BE'): Field<number> => {
  const [write, read] = order === 'LE' ? (['writeUInt16LE', 'readUInt16LE'] as const) : (['writeUInt16BE', 'readUInt16BE'] as const)
  return {
    size: 2,
    write: (bytes, offset, value, where) => bytes[write](checked(value, 0xffff, where), offset),
    read: (bytes, offset) => bytes[read](offset),
  }
}

const uint32 = (order: 'LE' | 'BE'): Field<number> => {
  const [write, read] = order === 'LE' ? (['writeUInt32LE', 'readUInt32LE'] as const) : (['writeUInt32BE', 'readUInt32BE'] as const)
  return {
    size: 4,
    write: (bytes, offset, value, where) => bytes[write](checked(value, 0xffffffff, where), offset),
    read: (bytes, offset) => bytes[read](offset),
  }
}

const uint64 = (order: 'LE' | 'BE'): Field<bigint> => {
  const [write, read] = order === 'LE' ? (['writeBigUInt64LE', 'readBigUInt64LE'] as const) : (['writeBigUInt64BE', 'readBigUInt64BE'] as const)
  return {
    size: 8,
    write(bytes, offset, value, where) {
      if (typeof value !== 'bigint' || value !== BigInt.asUintN(64, value)) refuse(where, 'a bigint of 64 bits, not negative', value)
      bytes[write](value, offset)
    },
    read: (bytes, offset) => bytes[read](offset),
  }
}

export const u8: Field<number> = {
  size: 1,
  write: (bytes, offset, value, where) => bytes.writeUInt8(checked(value, 0xff, where), offset),
  read: (bytes, offset) => bytes.readUInt8(offset),
}
export const u16 = uint16(host)
export const u32 = uint32(host)
export const u64 = uint64(host)
export const be16 = uint16('BE')
export const be32 = uint32('BE')
export const be64 = uint64('BE')

/** A 32-bit enum. What the kernel wrote is not checked against the names: 0 often means "nothing". */
export const enumeration = <T extends number>(): Field<T> => u32 as Field<number> as Field<T>

/** u8[length]: exactly so many bytes. */
export const bytesOf = (length: number): Field<Buffer> => ({
  size: length,
  write(bytes, offset, value, where) {
    if (value.length !== length) refuse(where, `${length} bytes`, `${value.length} bytes`)
    bytes.set(value, offset)
  },
  read: (bytes, offset) => Buffer.from(bytes.subarray(offset, offset + length)),
})

/** A shorter array leaves the rest zero; a longer one is refused. Reading gives every element. */
export const arrayOf = <T>(element: Field<T>, length: number): Field<readonly T[]> => ({
  size: element.size * length,
  write(bytes, offset, value, where) {
    if (value.length > length) refuse(where, `at most ${length} elements`, value.length)
    let at = offset
    for (const item of value) {
      element.write(bytes, at, item, where)
      at += element.size
    }
  },
  read: (bytes, offset) => Array.from({ length }, (_, index) => element.read(bytes, offset + index * element.size)),
})

type Members<T> = { readonly [K in keyof T]-?: readonly [offset: number, field: Field<T[K]>] }

/** A struct of `size` bytes. Bytes that no member covers are padding: written as zero, not read. */
export const structOf = <T extends object>(name: string, size: number, members: Members<T>): Codec<T> => {
  const layout = (Object.keys(members) as (keyof T & string)[]).map((key) => {
    const [offset, field] = members[key]
    return { key, offset, field: field as Field<unknown>, where: `${name}.${key}` }
  })
  const write = (bytes: Buffer, base: number, value: T): void => {
    for (const { key, offset, field, where } of layout) field.write(bytes, base + offset, value[key], where)
  }
  const read = (bytes: Buffer, base: number): T => {
    const value: Record<string, unknown> = {}
    for (const { key, offset, field } of layout) value[key] = field.read(bytes, base + offset)
    return value as T
  }
  return {
    size,
    write,
    read,
    encode(value) {
      const bytes = Buffer.alloc(size)
      write(bytes, 0, value)
      return bytes
    },
    decode(bytes) {
      if (bytes.length !== size) refuse(name, `${size} bytes`, `${bytes.length} bytes`)
      return read(Buffer.from(bytes.buffer, bytes.byteOffset, size), 0)
    },
  }
}

/** Keys and values that are a plain integer: policies (__u64), pods (__u64), proxy_ports' value (__u32), arrays (__u32). */
export const scalar = <T>(field: Field<T>, name: string): Codec<T> => ({
  ...field,
  encode(value) {
    const bytes = Buffer.alloc(field.size)
    field.write(bytes, 0, value, name)
    return bytes
  },
  decode(bytes) {
    if (bytes.length !== field.size) refuse(name, `${field.size} bytes`, `${bytes.length} bytes`)
    return field.read(Buffer.from(bytes.buffer, bytes.byteOffset, field.size), 0)
  },
})

export const u32Codec = scalar(u32, 'u32')
export const u64Codec = scalar(u64, 'u64')
