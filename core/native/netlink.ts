/** Netlink messages (linux/netlink.h): a header of 16 bytes, a fixed part that depends on the type, attributes. Machine byte order. */

const NLM_F_REQUEST = 1
const NLM_F_ACK = 4
const NLM_F_DUMP = 0x300
/** Of requests that make something: replace what is there; fail with EEXIST when there is something; make it. */
export const [REPLACE, EXCLUSIVE, CREATE] = [0x100, 0x200, 0x400]
const HEADER = 16
const ATTRIBUTE = 4
/** The upper two bits of an attribute's type are flags. */
const TYPE_MASK = 0x3fff

export interface NetlinkMessage {
  readonly type: number
  /** Without the header. */
  readonly body: Buffer
}

/** The addon fills in length and sequence number. */
function request(type: number, flags: number, parts: readonly Uint8Array[]): Buffer {
  const header = Buffer.alloc(HEADER)
  header.writeUInt16LE(type, 4)
  header.writeUInt16LE(NLM_F_REQUEST | flags, 6)
  return Buffer.concat([header, ...parts])
}

export const dumpRequest = (type: number, body: Uint8Array): Buffer => request(type, NLM_F_DUMP, [body])

export const changeRequest = (type: number, flags: number, ...parts: readonly Uint8Array[]): Buffer => request(type, NLM_F_ACK | flags, parts)

export function attribute(type: number, ...values: readonly Uint8Array[]): Buffer {
  const value = Buffer.concat(values)
  const bytes = Buffer.alloc(aligned(ATTRIBUTE + value.length))
  bytes.writeUInt16LE(ATTRIBUTE + value.length, 0)
  bytes.writeUInt16LE(type, 2)
  value.copy(bytes, ATTRIBUTE)
  return bytes
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

function aligned(length: number): number {
  return (length + 3) & ~3
}

export function* messages(answer: Buffer): Generator<NetlinkMessage> {
  for (let at = 0; at + HEADER <= answer.length; ) {
    const length = answer.readUInt32LE(at)
    if (length < HEADER || at + length > answer.length) return
    yield { type: answer.readUInt16LE(at + 4), body: answer.subarray(at + HEADER, at + length) }
    at += aligned(length)
  }
}

/** The attributes behind the fixed part of a message, or inside a nested attribute, by type. */
export const attributes = (body: Buffer, start = 0): Map<number, Buffer> => new Map(attributeList(body, start))

/** The same in order: a list has several of one type. */
export function attributeList(body: Buffer, start = 0): (readonly [type: number, value: Buffer])[] {
  const found: (readonly [number, Buffer])[] = []
  for (let at = aligned(start); at + ATTRIBUTE <= body.length; ) {
    const length = body.readUInt16LE(at)
    if (length < ATTRIBUTE || at + length > body.length) break
    found.push([body.readUInt16LE(at + 2) & TYPE_MASK, body.subarray(at + ATTRIBUTE, at + length)])
    at += aligned(length)
  }
  return found
}

/** A string attribute, without the NUL at its end. */
export function text(attribute: Buffer | undefined): string {
  return attribute?.toString('utf8').replace(/\0.*$/s, '') ?? ''
}
