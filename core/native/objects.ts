/** Object files: loading, and what a loaded one gives out. */

import { addon, type LoadedObject } from './addon.ts'
import type { BpfMap, BpfObject, BpfProgram, OpenOptions } from './api.ts'
import { descriptorOf, MapHandle, ProgramHandle } from './handles.ts'

export async function load(path: string, options: OpenOptions = {}): Promise<BpfObject> {
  const reuse = Object.entries(options.reuse ?? {}).map(([name, map]) => [name, descriptorOf(map)] as const)
  const maxEntries = Object.entries(options.maxEntries ?? {})
  const rodata = Object.entries(options.rodata ?? {})
  return new ObjectHandle(
    await addon().objectLoad(path, options.skip ?? [], reuse, maxEntries, rodata, options.btf ?? '', options.onlyReused ?? false),
  )
}

class ObjectHandle implements BpfObject {
  readonly programs: readonly string[]
  readonly maps: readonly string[]
  readonly #object: LoadedObject

  constructor(object: LoadedObject) {
    this.#object = object
    this.programs = addon().objectPrograms(object)
    this.maps = addon().objectMaps(object)
  }

  map(name: string): BpfMap {
    return new MapHandle(addon().objectMap(this.#object, name))
  }

  program(name: string): BpfProgram {
    return new ProgramHandle(addon().objectProgram(this.#object, name))
  }

  clone(program: string, section: string, rodata: Uint8Array): BpfProgram {
    return new ProgramHandle(addon().objectClone(this.#object, program, section, rodata))
  }

  close(): void {
    addon().objectClose(this.#object)
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
