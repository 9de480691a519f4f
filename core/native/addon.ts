/**
 * Loads the binary, at the first call that needs it: commands that never touch the kernel work without libbpf. The functions are flat; handles
 * are opaque, and a wrong one is a TypeError.
 */
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { MerbridgeError } from '../errors.ts'
import type { LinkInfo, MapInfo, ProgramInfo } from './api.ts'

declare const tag: unique symbol
type Opaque<Name> = { readonly [tag]: Name }
export type Descriptor = Opaque<'descriptor'>
export type LoadedObject = Opaque<'object'>
export type Ring = Opaque<'ring'>
export type Watch = Opaque<'watch'>

/** Entries one after the other. `readable` has a byte per entry; 0: the kernel does not tell the value. */
export interface RawEntries {
  readonly keys: Buffer
  readonly values: Buffer
  readonly readable: Buffer
  readonly valueSize: number
}

/** The answer to each netlink request: its messages, one after the other. */
export interface NamespaceDump {
  /** 0: the kernel does not tell it */
  readonly cookie: bigint
  readonly inode: number
  /** Inode of the user namespace that owns it; 0: the agent's own */
  readonly users: number
  readonly replies: readonly Buffer[]
}

export interface Addon {
  /** -1: closed */
  descriptorNumber(descriptor: Descriptor): number
  descriptorClose(descriptor: Descriptor): void
  descriptorPin(descriptor: Descriptor, path: string): void

  mapCreate(name: string, type: number, keySize: number, valueSize: number, maxEntries: number, flags: number): Descriptor
  mapOpen(path: string): Descriptor
  mapInfo(map: Descriptor): MapInfo
  /** Of every key and value, as user space sees them: of a per-CPU map, all CPUs' values together. */
  mapSizes(map: Descriptor): { readonly keySize: number; readonly valueSize: number }
  mapLookup(map: Descriptor, key: Uint8Array): Buffer | undefined
  mapUpdate(map: Descriptor, key: Uint8Array, value: Uint8Array, flags: number): void
  mapIsEmpty(map: Descriptor): boolean
  mapDelete(map: Descriptor, key: Uint8Array): boolean
  mapFreeze(map: Descriptor): void
  mapEntries(map: Descriptor): Promise<RawEntries>
  mapUpdateBatch(map: Descriptor, keys: Uint8Array, values: Uint8Array): Promise<void>
  mapDeleteBatch(map: Descriptor, keys: Uint8Array): Promise<number>
  setProgram(array: Descriptor, index: number, program: Descriptor): void

  programOpen(path: string): Descriptor
  programInfo(program: Descriptor): ProgramInfo
  programById(id: number): ProgramInfo | undefined
  attachMap(program: Descriptor, map: Descriptor, attachType: number): void
  detachMap(program: Descriptor, map: Descriptor, attachType: number): void
  queryCgroup(cgroup: string, attachType: number, effective: boolean): number[]
  queryNetns(netns: string, attachType: number): number[]
  queryMap(map: Descriptor, attachType: number): number[]

  linkOpen(path: string): Descriptor
  linkInfo(link: Descriptor): LinkInfo
  linkUpdate(link: Descriptor, program: Descriptor): void
  linkDetach(link: Descriptor): void
  attachCgroup(program: Descriptor, cgroup: string, attachType: number): Descriptor
  attachNetns(program: Descriptor, netns: string, attachType: number): Descriptor
  attachIterator(program: Descriptor, map: Descriptor | undefined): Descriptor
  attachTracing(program: Descriptor): Descriptor
  /** inode 0: of whatever namespace the path leads to */
  attachEgress(program: Descriptor, path: string, inode: number, ifindex: number): Promise<Descriptor>

  objectLoad(
    path: string,
    skip: readonly string[],
    reuse: readonly (readonly [string, Descriptor])[],
    maxEntries: readonly (readonly [string, number])[],
    rodata: readonly (readonly [string, Uint8Array])[],
    btf: string,
    onlyReused: boolean,
  ): Promise<LoadedObject>
  objectPrograms(object: LoadedObject): string[]
  objectMaps(object: LoadedObject): string[]
  objectMap(object: LoadedObject, name: string): Descriptor
  objectProgram(object: LoadedObject, name: string): Descriptor
  objectClone(object: LoadedObject, program: string, section: string, rodata: Uint8Array): Descriptor
  objectClose(object: LoadedObject): void

  ringOpen(map: Descriptor, onRecord: (record: Buffer) => void): Ring
  ringClose(ring: Ring): void
  /** -1: closed */
  ringNumber(ring: Ring): number

  /** 0: there is none */
  namespaceInodes(paths: readonly string[]): Promise<number[]>
  /** The inode of the network namespace, and the maps of the user namespace that owns it, as /proc has them. */
  namespaceIds(path: string): Promise<{ readonly inode: number; readonly uid: string; readonly gid: string }>
  namespaceDump(
    paths: readonly string[],
    protocol: number,
    requests: readonly Uint8Array[],
    cookies: Descriptor | undefined,
  ): Promise<(NamespaceDump | Error)[]>
  namespaceChange(path: string, inode: number, requests: readonly Uint8Array[]): Promise<void>
  namespaceLegacyRules(path: string): Promise<number[]>
  namespaceIterate(path: string, link: Descriptor): Promise<string>
  namespaceSocket(path: string): Promise<Descriptor>
  /** Takes the socket over. */
  watchOpen(socket: Descriptor, onChange: () => void): Watch
  watchClose(watch: Watch): void
  /** -1: closed */
  watchNumber(watch: Watch): number

  takesProgram(programType: number, attachType: number, instructions: Uint8Array): boolean
  filterProgram(): Descriptor
  storageMap(): Descriptor
  hasMapType(type: number): boolean
  hasLinks(): boolean
  /** -1: none of the keys is free */
  listenerAdd(map: Descriptor, keys: Uint8Array, pid: number, descriptor: number, cookie: bigint): Promise<number>

  libbpfVersion(): string
  possibleCpus(): number
  btf(path: string): Buffer
  barrier(): Promise<void>
  lock(path: string): Descriptor | undefined
  filesystemType(path: string): number
  mountBpffs(path: string): void
}

/** In a checkout this file is core/native/addon.ts, in the package dist/core/native/addon.js. */
function findBinary(): string | undefined {
  const here = dirname(fileURLToPath(import.meta.url))
  const name = join(`${process.platform}-${process.arch}`, 'merbridge.node')
  const roots = [join(here, '../..'), join(here, '../../..')].filter((root) => existsSync(join(root, 'package.json')))
  return roots.flatMap((root) => [join(root, 'build/native', name), join(root, 'prebuilds', name)]).find((path) => existsSync(path))
}

function open(): Addon {
  const path = findBinary()
  if (path === undefined) {
    const platform = `${process.platform}-${process.arch}`
    throw new MerbridgeError(
      'KERNEL_UNSUPPORTED',
      `there is no native addon for ${platform}`,
      'in a checkout run scripts/build-addon.sh; a package has the addon of the platform that it was made for',
    )
  }
  try {
    return createRequire(import.meta.url)(path) as Addon
  } catch (error) {
    const missing = /(lib(?:bpf|elf)\S*): cannot open shared object file/.exec(error instanceof Error ? error.message : '')
    if (missing === null) throw error
    const hint = 'install libbpf 1.x (Debian, Ubuntu: apt install libbpf1; Fedora: dnf install libbpf), which brings libelf'
    throw new MerbridgeError('KERNEL_UNSUPPORTED', `the library ${missing[1]} is not installed`, hint, error)
  }
}

let opened: Addon | undefined

export function addon(): Addon {
  opened ??= open()
  return opened
}
