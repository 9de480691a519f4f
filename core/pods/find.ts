/** Finds a path for a network namespace of which only the inode is known: named ones under /run/netns, else a process that lives in it. */
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'

function inodeOf(path: string): number | undefined {
  try {
    return statSync(path).ino
  } catch {
    return undefined // gone meanwhile, or not ours to look at
  }
}

function names(directory: string): string[] {
  try {
    return readdirSync(directory)
  } catch {
    return []
  }
}

function candidates(): string[] {
  const named = names('/run/netns').map((name) => join('/run/netns', name))
  const processes = names('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => `/proc/${pid}/ns/net`)
  return [...named, ...processes]
}

/** A path for each network namespace that has one. */
export function allNamespaces(): string[] {
  const found = new Map<number, string>()
  for (const path of candidates()) {
    const inode = inodeOf(path)
    if (inode !== undefined && !found.has(inode)) found.set(inode, path)
  }
  return [...found.values()]
}

/** Inode -> path, for those that were found. */
export function findNamespaces(inodes: ReadonlySet<number>): Map<number, string> {
  const found = new Map<number, string>()
  for (const path of candidates()) {
    if (found.size === inodes.size) break
    const inode = inodeOf(path)
    if (inode !== undefined && inodes.has(inode) && !found.has(inode)) found.set(inode, path)
  }
  return found
}
