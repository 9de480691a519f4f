/**
 * The directory of the pins. Everything of one version of the contract is under one directory that carries the version:
 *
 *     <bpffs>/v-<contract>/maps/<map>          links/<hook>          pods/<netns cookie, 16 hex digits>          lo/<the same>
 *
 * A version is built under a temporary name and made real by one rename, so what is there is complete.
 */
import { existsSync, mkdirSync, readdirSync, renameSync, rmdirSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import { contractHash } from '../contract.ts'

export const version = `v-${contractHash.slice(0, 16)}`

export class Layout {
  readonly directory: string

  constructor(directory: string) {
    this.directory = directory
  }

  map(name: string): string {
    return join(this.directory, 'maps', name)
  }

  link(hook: string): string {
    return join(this.directory, 'links', hook)
  }

  pod(netns: bigint): string {
    return join(this.directory, 'pods', netns.toString(16).padStart(16, '0'))
  }

  /** The link at the pod's lo. */
  loopback(netns: bigint): string {
    return join(this.directory, 'lo', netns.toString(16).padStart(16, '0'))
  }

  /** A link of acceleration: "drain", "reading". */
  acceleration(name: string): string {
    return join(this.directory, 'acceleration', name)
  }

  /** Netns cookies of the pods whose sk_lookup link is pinned. */
  pods(): bigint[] {
    return names(join(this.directory, 'pods')).map((name) => BigInt(`0x${name}`))
  }

  /** Of those with a link at their lo. */
  loopbacks(): bigint[] {
    return names(join(this.directory, 'lo')).map((name) => BigInt(`0x${name}`))
  }

  mapNames(): string[] {
    return names(join(this.directory, 'maps'))
  }

  linkNames(): string[] {
    return names(join(this.directory, 'links'))
  }

  accelerationNames(): string[] {
    return names(join(this.directory, 'acceleration'))
  }

  create(): void {
    for (const part of ['maps', 'links', 'pods', 'lo', 'acceleration']) mkdirSync(join(this.directory, part), { recursive: true, mode: 0o700 })
  }

  /** Unpins everything but these maps and links of acceleration. */
  removeBut(maps: ReadonlySet<string>, accelerating: ReadonlySet<string>): void {
    for (const part of ['links', 'pods', 'lo']) removeTree(join(this.directory, part))
    for (const name of this.mapNames()) if (!maps.has(name)) unlinkSync(this.map(name))
    for (const name of this.accelerationNames()) if (!accelerating.has(name)) unlinkSync(this.acceleration(name))
  }

  /** Unpins everything; what is attached through a link goes with its last pin. */
  remove(): void {
    removeTree(this.directory)
  }
}

function names(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory).sort() : []
}

/** bpffs knows unlink and rmdir; rm -r of Node wants more of a file system. */
export function removeTree(directory: string): void {
  if (!existsSync(directory)) return
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name)
    if (entry.isDirectory()) removeTree(path)
    else unlinkSync(path)
  }
  rmdirSync(directory)
}

export function currentLayout(bpffs: string): Layout {
  return new Layout(join(bpffs, version))
}

/** Other versions' directories, complete ones only. */
export function otherLayouts(bpffs: string): Layout[] {
  return names(bpffs)
    .filter((name) => name.startsWith('v-') && name !== version)
    .map((name) => new Layout(join(bpffs, name)))
}

/** Makes room for a new one of this version: what is there lacks parts. It is removed with the other versions, when the new one works. */
export function setDamagedAside(bpffs: string): string {
  const aside = join(bpffs, `v-damaged-${Date.now()}`)
  renameSync(currentLayout(bpffs).directory, aside)
  return aside
}

/** Builds a version beside what is there. `build` gets the temporary layout; if it fails, nothing of it stays. */
export async function buildLayout(bpffs: string, build: (layout: Layout) => Promise<void>): Promise<Layout> {
  mkdirSync(bpffs, { recursive: true, mode: 0o700 })
  for (const name of names(bpffs)) if (name.startsWith('tmp-')) removeTree(join(bpffs, name)) // of an agent that was killed while it built
  const temporary = new Layout(join(bpffs, `tmp-${process.pid}`))
  try {
    temporary.create()
    await build(temporary)
    renameSync(temporary.directory, currentLayout(bpffs).directory)
  } catch (error) {
    temporary.remove()
    throw error
  }
  return currentLayout(bpffs)
}
