/** The native addon behind its interface. Read api.ts first. */

import { addon, type Ring } from './addon.ts'
import type { BpfMap, BpfProgram, Handle, Native } from './api.ts'
import { btf } from './btf.ts'
import { descriptorOf, joined, LinkHandle, MapHandle, nativeError, OwnedHandle, ProgramHandle } from './handles.ts'
import { loopback } from './loopback.ts'
import { namespaces } from './namespaces.ts'
import { load } from './objects.ts'

const EBADF = 9

class RingHandle implements Handle {
  readonly #ring: Ring

  constructor(map: BpfMap, onRecord: (record: Buffer) => void) {
    if (typeof onRecord !== 'function') throw new TypeError('onRecord must be a function')
    // Records that are on their way when the ring is closed are dropped.
    this.#ring = addon().ringOpen(descriptorOf(map), (record) => {
      if (!this.closed) onRecord(record)
    })
  }

  get fd(): number {
    const fd = addon().ringNumber(this.#ring)
    if (fd < 0) throw nativeError('use ring buffer', EBADF, 'the handle is closed')
    return fd
  }

  get closed(): boolean {
    return addon().ringNumber(this.#ring) < 0
  }

  close(): void {
    addon().ringClose(this.#ring)
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

export const native: Native = {
  get libbpf() {
    return addon().libbpfVersion()
  },
  get possibleCpus() {
    return addon().possibleCpus()
  },
  load,
  pinnedMap: (path) => new MapHandle(addon().mapOpen(path)),
  pinnedProgram: (path) => new ProgramHandle(addon().programOpen(path)),
  pinnedLink: (path) => new LinkHandle(addon().linkOpen(path)),
  createMap: ({ name, type, keySize, valueSize, maxEntries, flags = 0 }) =>
    new MapHandle(addon().mapCreate(name, type, keySize, valueSize, maxEntries, flags)),
  attachCgroup: (program, cgroup, attachType) => new LinkHandle(addon().attachCgroup(descriptorOf(program), cgroup, attachType)),
  attachNetns: (program, netns, attachType) => new LinkHandle(addon().attachNetns(descriptorOf(program), netns, attachType)),
  attachIterator: (program, map) => new LinkHandle(addon().attachIterator(descriptorOf(program), map && descriptorOf(map))),
  attachTracing: (program) => new LinkHandle(addon().attachTracing(descriptorOf(program))),
  attachMap: (program, map, attachType) => addon().attachMap(descriptorOf(program), descriptorOf(map), attachType),
  detachMap: (program, map, attachType) => addon().detachMap(descriptorOf(program), descriptorOf(map), attachType),
  setProgram: (array: BpfMap, index: number, program: BpfProgram) => addon().setProgram(descriptorOf(array), index, descriptorOf(program)),
  addListener: async (map, keys, { pid, descriptor, cookie }) => {
    const { keySize } = addon().mapSizes(descriptorOf(map))
    return addon().listenerAdd(descriptorOf(map), joined('add listener to map', 'key', keys, keySize), pid, descriptor, cookie)
  },
  queryCgroup: (cgroup, attachType, effective) => addon().queryCgroup(cgroup, attachType, effective),
  queryMap: (map, attachType) => addon().queryMap(descriptorOf(map), attachType),
  queryNetns: (netns, attachType) => addon().queryNetns(netns, attachType),
  programById: (id) => addon().programById(id),
  ringBuffer: (map, onRecord) => new RingHandle(map, onRecord),
  namespaces,
  loopback,
  btf,
  barrier: () => addon().barrier(),
  lock: (path) => {
    const descriptor = addon().lock(path)
    return descriptor && new OwnedHandle(descriptor)
  },
  takesProgram: (programType, attachType, instructions) => addon().takesProgram(programType, attachType, instructions),
  storageMap: () => new MapHandle(addon().storageMap()),
  hasMapType: (type) => addon().hasMapType(type),
  hasLinks: () => addon().hasLinks(),
  filesystemType: (path) => addon().filesystemType(path),
  mountBpffs: (path) => addon().mountBpffs(path),
}
