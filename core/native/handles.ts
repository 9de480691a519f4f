/** Maps, programs and links: each owns one descriptor. */
import { getSystemErrorName } from 'node:util'
import { addon, type Descriptor } from './addon.ts'
import type { BpfLink, BpfMap, BpfProgram, Entry, Handle, LinkInfo, MapInfo, NativeError, ProgramInfo } from './api.ts'

const EBADF = 9
const EINVAL = 22

/** The same shape as the errors that the addon makes. */
export function nativeError(operation: string, errno: number, text: string): NativeError {
  const code = getSystemErrorName(-errno)
  const error = new Error(`${operation}: ${text} (${code})`)
  return Object.assign(error, { name: 'NativeError' as const, operation, errno, code })
}

export class OwnedHandle implements Handle {
  readonly #descriptor: Descriptor

  constructor(descriptor: Descriptor) {
    this.#descriptor = descriptor
  }

  /** What the addon wants to see. A TypeError for anything that is not a handle of this module. */
  static descriptorOf(handle: Handle): Descriptor {
    if (typeof handle !== 'object' || handle === null || !(#descriptor in handle)) throw new TypeError('expected a handle of the native addon')
    return handle.#descriptor
  }

  get fd(): number {
    const fd = addon().descriptorNumber(this.#descriptor)
    if (fd < 0) throw nativeError('use descriptor', EBADF, 'the handle is closed')
    return fd
  }

  get closed(): boolean {
    return addon().descriptorNumber(this.#descriptor) < 0
  }

  close(): void {
    addon().descriptorClose(this.#descriptor)
  }

  [Symbol.dispose](): void {
    this.close()
  }

  pin(path: string): void {
    addon().descriptorPin(this.#descriptor, path)
  }
}

export const descriptorOf = OwnedHandle.descriptorOf

/** Items of one size, one after the other. */
export function joined(operation: string, what: string, items: readonly Uint8Array[], size: number): Uint8Array {
  const wrong = items.findIndex((item) => !(item instanceof Uint8Array) || item.length !== size)
  if (wrong >= 0) throw nativeError(operation, EINVAL, `${what} ${wrong} has ${items[wrong]?.length} bytes, the map wants ${size}`)
  return Buffer.concat(items)
}

export class MapHandle extends OwnedHandle implements BpfMap {
  get info(): MapInfo {
    return addon().mapInfo(descriptorOf(this))
  }

  lookup(key: Uint8Array): Buffer | undefined {
    return addon().mapLookup(descriptorOf(this), key)
  }

  update(key: Uint8Array, value: Uint8Array, flags = 0): void {
    addon().mapUpdate(descriptorOf(this), key, value, flags)
  }

  delete(key: Uint8Array): boolean {
    return addon().mapDelete(descriptorOf(this), key)
  }

  isEmpty(): boolean {
    return addon().mapIsEmpty(descriptorOf(this))
  }

  async entries(): Promise<Entry[]> {
    const { keys, values, readable, valueSize } = await addon().mapEntries(descriptorOf(this))
    const keySize = keys.length / Math.max(1, readable.length)
    return Array.from(readable, (told, index) => ({
      key: keys.subarray(index * keySize, (index + 1) * keySize),
      value: told ? values.subarray(index * valueSize, (index + 1) * valueSize) : Buffer.alloc(0),
    }))
  }

  async updateBatch(entries: readonly { readonly key: Uint8Array; readonly value: Uint8Array }[]): Promise<void> {
    const map = descriptorOf(this)
    const { keySize, valueSize } = addon().mapSizes(map)
    const keys = joined(
      'update map',
      'key',
      entries.map((entry) => entry.key),
      keySize,
    )
    const values = joined(
      'update map',
      'value',
      entries.map((entry) => entry.value),
      valueSize,
    )
    await addon().mapUpdateBatch(map, keys, values)
  }

  async deleteBatch(keys: readonly Uint8Array[]): Promise<number> {
    const map = descriptorOf(this)
    return addon().mapDeleteBatch(map, joined('delete from map', 'key', keys, addon().mapSizes(map).keySize))
  }

  freeze(): void {
    addon().mapFreeze(descriptorOf(this))
  }
}

export class ProgramHandle extends OwnedHandle implements BpfProgram {
  get info(): ProgramInfo {
    return addon().programInfo(descriptorOf(this))
  }
}

export class LinkHandle extends OwnedHandle implements BpfLink {
  get info(): LinkInfo {
    return addon().linkInfo(descriptorOf(this))
  }

  update(program: BpfProgram): void {
    addon().linkUpdate(descriptorOf(this), descriptorOf(program))
  }

  detach(): void {
    addon().linkDetach(descriptorOf(this))
  }
}
